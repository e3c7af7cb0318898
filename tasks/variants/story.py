"""Everything that the answer tells, gathered from the checkouts of the runs."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tasks import params, statistics
from tasks.errors import UserError
from tasks.statistics import Verdict
from tasks.variants import scores
from tasks.variants.grid import BASE, Grid, Run
from tasks.variants.scores import Resampled

Json = dict[str, Any]

TESTED = ("exact answer", "valid answer", "rank accuracy", "ROUGE-L")
"""What is tested: with instructions, over all held-out clusters."""


@dataclass(frozen=True)
class Trained:
    """A variant's trainings, as means over them; `changes` are its own, by dotted path.

    `breadth` is how many clusters one of them was trained on; `clusters` are those of all.
    """

    name: str
    changes: Json
    runs: int
    examples: float
    tokens: float
    clusters: dict[str, float]
    breadth: float
    few_shot: float
    options: float
    validation_loss: float | None

    @property
    def wording(self) -> str:
        """How its examples are worded."""
        return str(self.changes.get("render.wording", "templates"))


@dataclass(frozen=True)
class Difference:
    """A variant's mean over all held-out clusters less another's; `p` is corrected for all of them together."""

    variant: str
    against: str
    measured: str
    mean: float
    low: float
    high: float
    p: float
    verdict: Verdict = Verdict.NONE


@dataclass(frozen=True)
class Story:
    """A comparison in numbers.

    `means` are scores by what was measured and suite ("" is all of them), then by variant; `own` those of each run by
    its name, over what was held out from it; `spreads` the standard deviation of exact answers over wordings, and how
    often answers agree, where that was asked; `lacking` the runs that are not there.
    """

    reference: str
    runs: list[Run]
    lacking: int
    trained: list[Trained]
    means: dict[tuple[str, str], dict[str, Resampled]]
    differences: list[Difference]
    spreads: dict[str, dict[str, float]]
    suites: list[str]
    own: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def variants(self) -> list[str]:
        """The base, and the variants in the grid's order."""
        return [BASE, *(one.name for one in self.trained)]

    def difference(self, variant: str, against: str, measured: str) -> Difference | None:
        """What was found of two variants."""
        asked = variant, against, measured
        return next((one for one in self.differences if (one.variant, one.against, one.measured) == asked), None)


def gather(grid: Grid, runs: Sequence[Run], home: Path, planned: int) -> Story:
    """Read the results of these runs, of `planned` ones. Raises UserError where the reference is not among them."""
    if grid.reference not in {run.variant for run in runs}:
        raise UserError(f"no run of the reference {grid.reference!r} is there, so there is nothing to compare with")
    benchmarks = scores.read(runs, home)
    means = scores.means(benchmarks)
    variants = [name for name in grid.variants if any(run.variant == name for run in runs)]
    return Story(
        reference=grid.reference,
        runs=list(runs),
        lacking=planned - len(runs),
        trained=[_trained(name, grid, [run for run in runs if run.variant == name], home) for name in variants],
        means=means,
        differences=differences(means, grid.reference),
        spreads=_spreads(runs, home),
        suites=list(dict.fromkeys(suite for _, suite in means if suite)),
        own={run.name: scores.of_run(benchmarks, run, place) for run, place in _places(runs)},
    )


def differences(means: dict[tuple[str, str], dict[str, Resampled]], reference: str) -> list[Difference]:
    """Each variant against the base, and the reference against each other variant, corrected for their number."""
    found = []
    for measured in (name for name in TESTED if (name, "") in means):
        models = means[measured, ""]
        others = [name for name in models if name not in (BASE, reference)]
        pairs = [(reference, BASE), *((name, BASE) for name in others), *((reference, name) for name in others)]
        for variant, against in (pair for pair in pairs if pair[0] in models):
            difference = models[variant].less(models[against])
            low, high = difference.bounds
            mean = round(difference.mean, 6)
            found.append(Difference(variant, against, measured, mean, low, high, difference.p()))
    corrected = statistics.holm([one.p for one in found])
    return [replace(one, p=p, verdict=statistics.verdict(one.mean, p)) for one, p in zip(found, corrected, strict=True)]


def _places(runs: Sequence[Run]) -> Iterator[tuple[Run, int]]:
    """Each run, and how many of its variant and hold-out come before it."""
    seen: Counter[tuple[str, str]] = Counter()
    for run in runs:
        yield run, seen[run.left_out, run.variant]
        seen[run.left_out, run.variant] += 1


def _trained(name: str, grid: Grid, runs: Sequence[Run], home: Path) -> Trained:
    mixtures = [_read(home / run.name / "data/render/mixture.json") for run in runs]
    trainings = [_read(home / run.name / "models/tuned/training.json") for run in runs]
    losses = [one["validation_loss"] for one in trainings if "validation_loss" in one]
    clusters = {cluster: 0.0 for one in mixtures for cluster in one["clusters"]}
    for cluster in clusters:
        clusters[cluster] = _mean([one["clusters"].get(cluster, 0) for one in mixtures])
    return Trained(
        name=name,
        changes=params.dotted(grid.variants[name]),
        runs=len(runs),
        examples=_mean([one["got"] for one in mixtures]),
        tokens=_mean([tokens(home / run.name, one) for run, one in zip(runs, trainings, strict=True)]),
        clusters=dict(sorted(clusters.items(), key=lambda item: (-item[1], item[0]))),
        breadth=_mean([len(one["clusters"]) for one in mixtures]),
        few_shot=_mean([one["few_shot"] for one in mixtures]),
        options=_mean([one["options"] for one in mixtures]),
        validation_loss=_mean(losses) if losses else None,
    )


def tokens(checkout: Path, training: Json) -> float:
    """The tokens that a training read, in mean rows: those of its steps, of all its epochs."""
    rows = _read(checkout / "data/pack/index.json")["rows"]
    inputs = _read(checkout / "models/tuned/inputs.json")
    return float(training["steps"] * inputs["params"]["train"]["rows_per_step"] * training["tokens"] / rows)


def _spreads(runs: Sequence[Run], home: Path) -> dict[str, dict[str, float]]:
    """variant -> `spread` and `consistency`, where documents were asked in every wording."""
    found = {}
    of_variant: Callable[[Run], str] = lambda run: run.variant  # noqa: E731
    grouped = [(name, list(own)) for name, own in itertools.groupby(sorted(runs, key=of_variant), of_variant)]
    for name, own, model in [(BASE, list(runs), BASE), *((name, own, "tuned") for name, own in grouped)]:
        tables = [
            scored
            for run in own
            for path in sorted((home / run.name / "reports/evaluate" / model).glob("*/metrics.json"))
            for scored in _read(path).values()
            if "exact_match_spread" in scored
        ]
        if tables:
            keys = {"spread": "exact_match_spread", "consistency": "consistency"}
            found[name] = {told: _mean([table[key] for table in tables]) for told, key in keys.items()}
    return found


def _mean(values: Sequence[float]) -> float:
    return round(float(np.mean(values)), 6)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
