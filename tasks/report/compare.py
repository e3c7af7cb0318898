"""Two models, benchmark by benchmark, document by document: base against tuned, or any other two."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tasks import statistics
from tasks.errors import UserError
from tasks.report import samples
from tasks.report.samples import Key
from tasks.statistics import Estimate, Groups, Numbers, Verdict

_REMEDY = "run: dvc repro evaluate"

_RIGHT = ("accuracy", "exact_match")
"""Measures of right answers, which the majority class is to be compared with."""


@dataclass(frozen=True)
class Comparison:
    """One measure on one task of a suite, for the same documents under both models.

    `low` and `high` bound the difference tuned - base: a 95 % bootstrap interval over documents. `p` is corrected for
    all comparisons that were made together, and `verdict` follows from it. `clean` is of the documents that share no
    text with the training data, where there are others. `majority_class` and `first_option` need no model.
    """

    suite: str
    task: str
    form: str
    measure: str
    documents: int
    base: float
    tuned: float
    low: float
    high: float
    p: float
    verdict: Verdict = Verdict.NONE
    clean: Estimate | None = None
    majority_class: float | None = None
    first_option: float | None = None

    @property
    def difference(self) -> float:
        """Tuned less base; above zero is a gain."""
        return round(self.tuned - self.base, 6)

    @property
    def name(self) -> str:
        """The benchmark's name for people."""
        return f"{self.suite} / {self.task}"

    @property
    def measured(self) -> str:
        """What was measured, for people: the measure, and the form where it is not the usual one."""
        return ", ".join(filter(None, (samples.spoken(self.measure), samples.FORMS.get(self.form))))

    @property
    def gain(self) -> float:
        """The difference where a higher score is better, else the opposite of it."""
        return self.difference if samples.rises(self.measure) else -self.difference


@dataclass(frozen=True)
class Paired:
    """The scores of two models on the same documents of one benchmark, by one measure; `groups` of what is related."""

    suite: str
    task: str
    form: str
    measure: str
    keys: list[Key]
    before: Numbers
    after: Numbers
    groups: Groups

    @property
    def is_compared(self) -> bool:
        """Whether it is compared. The few documents in every wording are asked in one wording already: only how far
        their answers agree is new there, and the spread of scores, which spread.py tells."""
        return self.form != samples.EVERY_WORDING or self.measure == "consistency"

    def compared(self, touched: Collection[str], chance: dict[str, float]) -> Comparison:
        """The comparison before any correction; `touched` are the documents that a clean score leaves out."""
        clean = np.array([document not in touched for document, _ in self.keys])
        whole = statistics.estimate(self.before, self.after, self.groups)
        return Comparison(
            suite=self.suite,
            task=self.task,
            form=self.form,
            measure=self.measure,
            documents=whole.documents,
            base=whole.before,
            tuned=whole.after,
            low=whole.low,
            high=whole.high,
            p=whole.p,
            clean=None if clean.all() or not clean.any() else self._among(clean),
            majority_class=chance.get("majority_class"),
            first_option=chance.get("first_option"),
        )

    def _among(self, chosen: NDArray[np.bool_]) -> Estimate:
        return statistics.estimate(self.before[chosen], self.after[chosen], self.groups[chosen])


def pairs(base: Path, tuned: Path, suite: Path) -> Iterator[Paired]:
    """Two models' results on a suite, document by document; each folder of results holds a folder of each suite.

    Raises UserError where the two models did not answer the same documents, or through another backend.
    """
    known = samples.documents(suite)
    before, after = (samples.scores(samples.read_samples(model / suite.name)) for model in (base, tuned))
    _same_backend(base / suite.name, tuned / suite.name)
    for place in sorted(before.keys() | after.keys()):
        benchmark, measure = place
        if before.get(place, {}).keys() != after.get(place, {}).keys():
            names = " and ".join(called(base, tuned))
            raise UserError(f"{tuned / suite.name}: {names} have other documents in {benchmark}; {_REMEDY}")
        keys = sorted(before[place])
        one, other = (np.array([scores[place][key] for key in keys]) for scores in (before, after))
        groups = np.array(samples.groups(keys, known))
        yield Paired(suite.name, *samples.asked(benchmark, suite.name), measure, keys, one, other, groups)


def _same_backend(before: Path, after: Path) -> None:
    one, other = samples.backend(before), samples.backend(after)
    if one != other:
        raise UserError(f"{after}: answered through {other}, {before} through {one} (evaluate.backend): not comparable")


def called(one: Path, other: Path) -> tuple[str, str]:
    """Short names of two models' folders: the ends of their paths, as long as it takes to tell them apart."""
    ends = [path.resolve().parts for path in (one, other)]
    sizes = range(1, 1 + max(map(len, ends)))
    length = next((size for size in sizes if ends[0][-size:] != ends[1][-size:]), 1)
    return str(Path(*ends[0][-length:])), str(Path(*ends[1][-length:]))


def compare(paired: Iterable[Paired], benchmarks: Path, marks: Path) -> list[Comparison]:
    """All comparisons that tell something of their own, corrected for their number.

    `benchmarks` is where render wrote the suites, `marks` its list of documents that training records shared text with.
    """
    marked, known = _read(marks), {}
    found = []
    for item in (one for one in paired if one.is_compared):
        if item.suite not in known:
            known[item.suite] = _read(benchmarks / item.suite / "suite.json")
        touched = frozenset(marked.get(f"{item.suite}/{item.task}", ()))
        chance = known[item.suite].get(item.task, {}) if item.measure in _RIGHT else {}
        found.append(item.compared(touched, chance))
    return corrected(found)


def corrected(comparisons: Iterable[Comparison]) -> list[Comparison]:
    """The same comparisons with p-values corrected for all of them, and the verdicts that follow."""
    found = list(comparisons)
    return [
        replace(item, p=p, verdict=statistics.verdict(item.gain, p))
        for item, p in zip(found, statistics.holm([item.p for item in found]), strict=True)
    ]


def by_suite(paired: Iterable[Paired]) -> list[Comparison]:
    """Each measure's mean over the tasks of a suite, with its interval; no test is made of it."""
    found: dict[tuple[str, ...], list[Paired]] = defaultdict(list)
    for item in (one for one in paired if one.is_compared):
        found[item.suite, item.measure, samples.FORMS.get(item.form, "")].append(item)
    return [_mean(items) for items in found.values()]


def _mean(items: list[Paired]) -> Comparison:
    """The mean of a suite's tasks, each of equal weight."""
    low, high = statistics.mean_interval([(item.after - item.before, item.groups) for item in items])
    base, tuned = np.mean([(item.before.mean(), item.after.mean()) for item in items], axis=0).round(6)
    documents = sum(len(item.keys) for item in items)
    first = items[0]
    return Comparison(
        first.suite, "", first.form, first.measure, documents, float(base), float(tuned), low, high, p=1.0
    )


def summary(means: Iterable[Comparison]) -> dict[str, dict[str, dict[str, float]]]:
    """Suite -> measure -> base, tuned, gain: the numbers of `dvc metrics diff` and of the registered version."""
    table: dict[str, dict[str, dict[str, float]]] = defaultdict(dict)
    for item in means:
        scores = {"base": item.base, "tuned": item.tuned, "gain": item.difference}
        name = f"{item.measure}_{item.form}" if samples.FORMS.get(item.form) else item.measure
        table[item.suite][name] = {side: round(score, 4) for side, score in scores.items()}
    return dict(table)


def by_measure(comparisons: Iterable[Comparison]) -> dict[str, list[Comparison]]:
    """The comparisons by what was measured, in their order."""
    found: dict[str, list[Comparison]] = defaultdict(list)
    for item in comparisons:
        found[item.measured].append(item)
    return dict(found)


def _read(path: Path) -> dict[str, Any]:
    """A JSON file, or nothing where there is none: foreign benchmarks tell no scores without a model."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
