"""Base against tuned, benchmark by benchmark, document by document."""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tasks.errors import UserError

MEASURES = {"accuracy": "rank accuracy", "exact_match": "exact answer", "valid_answer": "valid answer"}
"""What is measured, with its name for people. Rank accuracy: the most likely option is the right one. Exact answer: the
generated text is the right option. Valid answer: it is one of the options at all."""

_RESAMPLES = 2_000


@dataclass(frozen=True)
class Comparison:
    """One measure on one task of a suite, for the same documents under both models.

    `low` and `high` bound the difference tuned - base: a 95 % bootstrap interval over documents.
    """

    suite: str
    task: str
    measure: str
    documents: int
    base: float
    tuned: float
    low: float
    high: float
    majority_class: float
    first_option: float

    @property
    def difference(self) -> float:
        """Tuned less base; above zero is a gain."""
        return round(self.tuned - self.base, 6)


def read_samples(folder: Path) -> list[dict[str, Any]]:
    """The documents' results that evaluate wrote. Raises UserError where there are none."""
    path = folder / "samples.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: no results yet; run: dvc repro evaluate")
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def compare(results: Path, benchmarks: Path, suite: str) -> list[Comparison]:
    """All comparisons of a suite. Raises UserError where the two models did not answer the same documents."""
    baselines = json.loads((benchmarks / suite / "suite.json").read_text(encoding="utf-8"))
    base, tuned = (_by_measure(read_samples(results / model / suite)) for model in ("base", "tuned"))
    for key in sorted(base.keys() | tuned.keys()):
        if base.get(key, {}).keys() != tuned.get(key, {}).keys():
            raise UserError(f"{results}: base and tuned have other documents in {key[0]}; run: dvc repro evaluate")
    found = []
    for (benchmark, measure), before in sorted(base.items()):
        after = tuned[benchmark, measure]
        task = benchmark.removeprefix(f"{suite}_").rsplit("_", 1)[0]
        pairs = np.array([(before[document], after[document]) for document in sorted(before)], dtype=float)
        low, high = interval(pairs[:, 1] - pairs[:, 0])
        means = pairs.mean(axis=0).round(6)
        chance = baselines[task]
        found.append(
            Comparison(
                suite=suite,
                task=task,
                measure=measure,
                documents=len(pairs),
                base=float(means[0]),
                tuned=float(means[1]),
                low=low,
                high=high,
                majority_class=chance["majority_class"],
                first_option=chance["first_option"],
            )
        )
    return found


def interval(differences: np.ndarray) -> tuple[float, float]:
    """A 95 % percentile bootstrap interval of the mean paired difference (Efron and Tibshirani 1993, chapter 13)."""
    if np.ptp(differences) == 0:
        return float(differences[0]), float(differences[0])
    drawn = stats.bootstrap(
        (differences,), np.mean, n_resamples=_RESAMPLES, method="percentile", rng=np.random.default_rng(0)
    )
    return round(float(drawn.confidence_interval.low), 6), round(float(drawn.confidence_interval.high), 6)


def by_suite(comparisons: list[Comparison]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean over a suite's tasks: suite -> measure -> base, tuned, difference."""
    groups: dict[tuple[str, str], list[Comparison]] = defaultdict(list)
    for item in comparisons:
        groups[item.suite, item.measure].append(item)
    table: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for (suite, measure), items in groups.items():
        base, tuned = (float(np.mean([getattr(item, side) for item in items])) for side in ("base", "tuned"))
        table[suite][measure] = {"base": round(base, 4), "tuned": round(tuned, 4), "gain": round(tuned - base, 4)}
    return dict(table)


def _by_measure(samples: list[dict[str, Any]]) -> dict[tuple[str, str], dict[str, int]]:
    """(benchmark, measure) -> document -> 0 or 1."""
    found: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for row in samples:
        for measure in MEASURES:
            if measure in row:
                found[row["benchmark"], measure][row["document"]] = row[measure]
    return found
