"""Paired statistics: what two models' results on the same documents show, and what they do not.

Documents that belong together (one record under several templates, or questions that mirror each other) are one
group, and groups are what is resampled and tested: their documents do not vary independently of each other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Numbers = NDArray[np.float64]

Groups = NDArray[np.intp]
"""The number of each document's group; equal numbers belong together."""

LEVEL = 0.05
"""The chance of calling any of a family of equal models different."""

_RESAMPLES = 2_000
_FLIPS = 9_999


class Verdict(StrEnum):
    """What the corrected p-value says; the point values never decide."""

    BETTER = "better"
    WORSE = "worse"
    NONE = "no difference shown"


@dataclass(frozen=True)
class Estimate:
    """One measure of two models on the same documents.

    `low` and `high` bound `after - before` with 95 % confidence; `p` is of the hypothesis that the models are equal,
    before any correction.
    """

    documents: int
    before: float
    after: float
    low: float
    high: float
    p: float


def estimate(before: Numbers, after: Numbers, groups: Groups) -> Estimate:
    """The paired comparison of two models; each position is a document."""
    differences = after - before
    members = np.unique(groups, return_inverse=True)[1]  # without the numbers that a subset leaves out
    low, high = interval(differences, members)
    one, other = (round(float(scores.mean()), 6) for scores in (before, after))
    return Estimate(len(before), one, other, low, high, p_value(differences, members))


def interval(differences: Numbers, groups: Groups) -> tuple[float, float]:
    """A 95 % percentile bootstrap interval of the mean paired difference (Efron and Tibshirani 1993, chapter 13)."""
    return bounds(resampled_means(differences, groups, np.random.default_rng(0)))


def mean_interval(parts: Sequence[tuple[Numbers, Groups]]) -> tuple[float, float]:
    """The same of the mean over several benchmarks, each of equal weight and with documents of its own."""
    rngs = np.random.default_rng(0).spawn(len(parts))
    drawn = [resampled_means(*part, rng) for part, rng in zip(parts, rngs, strict=True)]
    return bounds(np.mean(drawn, axis=0))


def bounds(drawn: Numbers) -> tuple[float, float]:
    """The middle 95 % of resampled means."""
    low, high = np.percentile(drawn, [2.5, 97.5])
    return round(float(low), 6), round(float(high), 6)


def resampled_means(differences: Numbers, groups: Groups, rng: np.random.Generator) -> Numbers:
    """Means of bootstrap samples; whole groups are drawn (the cluster bootstrap: Davison and Hinkley 1997, 3.8).

    A sample's mean is over its documents, so that groups weigh by their size.
    """
    sums, sizes = np.bincount(groups, weights=differences), np.bincount(groups)
    if np.ptp(sums / sizes) == 0:
        return np.full(_RESAMPLES, differences[0], dtype=float)
    drawn = stats.bootstrap(
        (sums, sizes), _ratio, n_resamples=_RESAMPLES, paired=True, vectorized=True, method="percentile", rng=rng
    )
    means: Numbers = drawn.bootstrap_distribution
    return means


def _ratio(sums: Numbers, sizes: Numbers, axis: int = -1) -> Any:
    return sums.sum(axis=axis) / sizes.sum(axis=axis)


def p_value(differences: Numbers, groups: Groups) -> float:
    """The two-sided p-value of equal models: McNemar's exact test where it holds, else by flipping groups' signs."""
    sums: Numbers = np.bincount(groups, weights=differences).astype(float)
    if len(sums) == len(differences) and np.isin(differences, (-1, 0, 1)).all():
        return mcnemar(gained=int((differences > 0).sum()), lost=int((differences < 0).sum()))
    return sign_flip(sums)


def mcnemar(gained: int, lost: int) -> float:
    """McNemar's exact test (1947): among documents that changed sides, either way is as likely under equal models."""
    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


def sign_flip(sums: Numbers) -> float:
    """The permutation test of paired values (Fisher 1935, section 21): under equal models a group's sign is a coin.

    With single documents of a 0/1 measure it is McNemar's test. Complete where few groups differ, else drawn by seed.
    """
    changed = sums[sums != 0]
    if not len(changed):
        return 1.0
    told = np.append(changed, 0)  # SciPy asks for two values; a zero changes nothing
    done = stats.permutation_test(
        (told,), np.sum, permutation_type="samples", n_resamples=_FLIPS, vectorized=True, rng=np.random.default_rng(0)
    )
    return float(done.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, in their order (Holm 1979): the family-wise error stays at the level."""
    corrected, least = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        least = max(least, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = least
    return corrected


def verdict(difference: float, corrected: float) -> Verdict:
    """What a difference with this corrected p-value shows."""
    if corrected >= LEVEL or difference == 0:
        return Verdict.NONE
    return Verdict.BETTER if difference > 0 else Verdict.WORSE
