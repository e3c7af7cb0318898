"""The scores of all runs, document by document, and what they vary by: seeds and documents.

A hierarchical bootstrap (Davison and Hinkley 1997, section 3.8): each resample draws the groups of documents of every
benchmark, the same ones for all models, and the seeds of each variant. So few seeds are drawn that their spread would
come out too small by (n - 1) / n; deviations from a variant's mean are therefore widened by sqrt(n / (n - 1)) (Rao and
Wu 1988). One seed alone shows nothing of it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks import statistics
from tasks.errors import UserError
from tasks.report import samples
from tasks.report.samples import FORMS, Key
from tasks.statistics import Groups, Numbers
from tasks.variants.grid import BASE, Run

RESAMPLES = 4_000

MEASURES = {
    "exact_match": "exact answer",
    "valid_answer": "valid answer",
    "accuracy": "rank accuracy",
    "acc": "rank accuracy",
    "rouge_l": "ROUGE-L",
}
"""The measures that are compared, by the names that results have for them; all are from 0 to 1."""


@dataclass(frozen=True)
class Benchmark:
    """One benchmark by one measure; `scores` are (seeds, documents) by variant, the base's of one row."""

    left_out: str
    suite: str
    name: str
    measured: str
    groups: Groups
    scores: Mapping[str, Numbers]


@dataclass(frozen=True)
class Resampled:
    """A mean score, and what it comes out as in each resample."""

    mean: float
    drawn: Numbers

    @property
    def bounds(self) -> tuple[float, float]:
        """The 95 % interval."""
        return statistics.bounds(self.drawn)

    def less(self, other: "Resampled") -> "Resampled":
        """The difference; both were resampled together."""
        return Resampled(self.mean - other.mean, self.drawn - other.drawn)

    def p(self) -> float:
        """The two-sided p-value of a difference of zero."""
        if not np.any(self.drawn):
            return 1.0
        sides = ((self.drawn <= 0).sum(), (self.drawn >= 0).sum())
        return float(min(1.0, 2 * (1 + min(sides)) / (1 + len(self.drawn))))


def read(runs: Sequence[Run], home: Path) -> list[Benchmark]:
    """The benchmarks that these runs were scored on; each run's checkout has its name in `home`.

    Raises UserError where two runs of one hold-out answered other documents.
    """
    found = []
    for left_out in dict.fromkeys(run.left_out for run in runs):
        own = [run for run in runs if run.left_out == left_out]
        suites = sorted(path.name for path in (home / own[0].name / "reports/evaluate/tuned").iterdir())
        for suite in suites:
            found += _of_suite(left_out, suite, own, home)
    return found


def means(benchmarks: Sequence[Benchmark]) -> dict[tuple[str, str], dict[str, Resampled]]:
    """(measured, suite) -> variant -> its mean over the suite's benchmarks; the suite "" is the mean over all suites.

    Each benchmark of a suite weighs the same, and so does each suite.
    """
    drawn = [(one, _resampled(one, number)) for number, one in enumerate(benchmarks)]
    found: dict[tuple[str, str], dict[str, Resampled]] = {}
    for measured in dict.fromkeys(one.measured for one in benchmarks):
        by_suite: dict[str, list[dict[str, Numbers]]] = defaultdict(list)
        for one, models in drawn:
            if one.measured == measured:
                by_suite[one.left_out or one.suite].append(models)
        # Suites of one hold-out are answered by the same models, so these are drawn together.
        models_of = {one.left_out or one.suite: one.left_out for one in benchmarks}
        seeded = {
            name: {variant: _seeded([models_of[name], variant], values) for variant, values in _mean(parts).items()}
            for name, parts in by_suite.items()
        }
        found[measured, ""] = {
            variant: _over([models[variant] for models in seeded.values()])
            for variant in next(iter(seeded.values()))
            if all(variant in models for models in seeded.values())
        }
        found |= {(measured, name): models for name, models in seeded.items()}
    return found


def of_run(benchmarks: Sequence[Benchmark], run: Run, place: int) -> dict[str, float]:
    """What one run scored, by what was measured, weighed as in `means`.

    `place` is the run's among those of its variant and hold-out.
    """
    parts: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in benchmarks:
        if one.left_out == run.left_out:
            parts[one.measured][one.suite].append(float(one.scores[run.variant][place].mean()))
    return {
        measured: round(float(np.mean([np.mean(own) for own in suites.values()])), 6)
        for measured, suites in parts.items()
    }


def _of_suite(left_out: str, suite: str, runs: Sequence[Run], home: Path) -> list[Benchmark]:
    known = samples.documents(home / runs[0].name / "data/render/benchmarks" / suite)
    tables = {run.name: samples.scores(samples.read_samples(_results(home, run, "tuned") / suite)) for run in runs}
    base = samples.scores(samples.read_samples(_results(home, runs[0], BASE) / suite))
    found = []
    for benchmark, measure in sorted(base):
        name, form = samples.asked(benchmark, suite)
        if measure not in MEASURES or form == samples.EVERY_WORDING:
            continue
        keys = sorted(base[benchmark, measure])
        own: dict[str, list[list[float]]] = {BASE: [_in_order(base[benchmark, measure], keys, suite, runs[0])]}
        for run in runs:
            told = tables[run.name].get((benchmark, measure), {})
            own.setdefault(run.variant, []).append(_in_order(told, keys, suite, run))
        measured = ", ".join(filter(None, (MEASURES[measure], FORMS.get(form))))
        groups = np.unique(np.array(samples.groups(keys, known)), return_inverse=True)[1]
        scores = {variant: np.array(rows) for variant, rows in own.items()}
        found.append(Benchmark(left_out, suite, name, measured, groups, scores))
    return found


def _in_order(told: Mapping[Key, float], keys: Sequence[Key], suite: str, run: Run) -> list[float]:
    if told.keys() != set(keys):
        raise UserError(f"{run.name}: other documents of {suite} than the base model's; compute it again")
    return [told[key] for key in keys]


def _results(home: Path, run: Run, model: str) -> Path:
    return home / run.name / "reports/evaluate" / model


def _resampled(one: Benchmark, number: int) -> dict[str, Numbers]:
    """Each variant's mean score by resample and seed, (RESAMPLES + 1, seeds); the first row is of all documents."""
    groups = one.groups
    sizes, rng = np.bincount(groups), np.random.default_rng([0, number])
    drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), RESAMPLES)
    times = np.vstack([np.ones(len(sizes), np.int64), drawn])
    return {
        variant: times @ np.array([np.bincount(groups, weights=row) for row in rows]).T / (times @ sizes)[:, None]
        for variant, rows in one.scores.items()
    }


def _mean(parts: Sequence[Mapping[str, Numbers]]) -> dict[str, Numbers]:
    """The mean of several benchmarks, by variant."""
    return {variant: np.mean([part[variant] for part in parts], axis=0) for variant in parts[0]}


def _seeded(models: Sequence[str], values: Numbers) -> Resampled:
    """The mean over seeds, which are drawn anew in each resample: the same ones for the same `models`."""
    whole, drawn = float(values[0].mean()), values[1:]
    seeds = drawn.shape[1]
    center = drawn.mean(axis=1)
    if seeds == 1:
        return Resampled(whole, center)
    rng = np.random.default_rng([1, *"/".join(models).encode()])
    chosen = rng.integers(0, seeds, drawn.shape)
    deviations = np.take_along_axis(drawn, chosen, axis=1).mean(axis=1) - center
    return Resampled(whole, center + np.sqrt(seeds / (seeds - 1)) * deviations)


def _over(suites: Sequence[Resampled]) -> Resampled:
    return Resampled(float(np.mean([one.mean for one in suites])), np.mean([one.drawn for one in suites], axis=0))
