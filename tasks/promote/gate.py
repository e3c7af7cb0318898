"""The decision: a function of a candidate's evidence, the champion's, and the section `gate` of params.yaml."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from tasks import errors, statistics
from tasks.params import Gate
from tasks.report import compare, samples
from tasks.report.compare import Comparison, Paired
from tasks.statistics import Verdict

NOT_MET = "not met: "
"""What the reason begins with of each demand that a version does not meet."""


class Check(NamedTuple):
    """One demand: what it is, whether it is met, and the numbers."""

    name: str
    passed: bool
    told: str


@dataclass(frozen=True)
class Decision:
    """Whether a candidate becomes the champion, and why; `comparisons` are those that the checks rest on."""

    candidate: str
    champion: str | None
    policy: str
    checks: list[Check]
    against_base: list[Comparison]
    against_champion: list[Comparison] = field(default_factory=list)

    @property
    def promoted(self) -> bool:
        """Only when every demand is met."""
        return all(check.passed for check in self.checks)

    @property
    def why(self) -> str:
        """The demands that were not met, or that all were."""
        failed = [f"{NOT_MET}{check.name}: {check.told}" for check in self.checks if not check.passed]
        return "; ".join(failed) or f"all {len(self.checks)} demands are met"


class Mean(NamedTuple):
    """A measure's mean difference over benchmarks, with its interval; above zero is a gain."""

    difference: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.difference:+.3f} ({self.low:+.3f} to {self.high:+.3f})"


def compared(pairs: Iterable[Paired]) -> list[Comparison]:
    """Every benchmark and measure, corrected for their number."""
    return compare.corrected([pair.compared((), {}) for pair in pairs])


def with_measure(pairs: Iterable[Paired], measure: str) -> list[Paired]:
    """The pairs of one measure."""
    return [pair for pair in pairs if pair.measure == measure]


def mean(pairs: Sequence[Paired], of: Callable[[Paired], statistics.Numbers]) -> Mean:
    """The mean over benchmarks of equal weight."""
    parts = [(of(pair), pair.groups) for pair in pairs]
    value = float(np.mean([numbers.mean() for numbers, _ in parts]))
    return Mean(value, *statistics.mean_interval([(numbers, _consecutive(groups)) for numbers, groups in parts]))


def gained(pair: Paired) -> statistics.Numbers:
    """By how much each document improved."""
    return (pair.after - pair.before) * (1 if samples.rises(pair.measure) else -1)


def is_better(gate: Gate, pairs: list[Paired], whom: str) -> Iterator[Check]:
    """The demand to be better on each chosen measure."""
    judged = {(item.name, item.form, item.measure): item.verdict for item in compared(pairs)}
    for measure in gate.measures:
        own, name = with_measure(pairs, measure), f"better than the {whom} on {samples.spoken(measure)}"
        if not own:
            yield Check(name, False, _unmeasured(measure, pairs))
            continue
        verdicts = [judged[f"{pair.suite} / {pair.task}", pair.form, measure] for pair in own]
        found, better, worse = mean(own, gained), verdicts.count(Verdict.BETTER), verdicts.count(Verdict.WORSE)
        told = f"{found} in the mean of {len(own)} benchmarks, of which {better} better and {worse} worse"
        yield Check(name, found.low > 0 and better > 0 and not worse, told)


def is_no_worse(gate: Gate, pairs: list[Paired]) -> Iterator[Check]:
    """The demand to be no worse than the champion, within the margin, on each chosen measure."""
    for measure in gate.measures:
        own, name = with_measure(pairs, measure), f"no worse than the champion on {samples.spoken(measure)}"
        if not own:
            yield Check(name, False, _unmeasured(measure, pairs))
            continue
        found = mean(own, gained)
        yield Check(name, found.low > -gate.margin, f"{found}, and the margin is {gate.margin:g}")


def keeps_floor(gate: Gate, comparisons: Iterable[Comparison], whom: str) -> Check:
    """The demand that no measure of any benchmark may have fallen further than the floor."""
    below = []
    for item in comparisons:
        low = item.low if samples.rises(item.measure) else -item.high
        if not low >= -gate.floor * max(1.0, abs(item.base)):  # a score that is no number is refused too
            below.append(f"{item.name}, {item.measured} {item.gain:+.3f} (as low as {low:+.3f})")
    told = "; ".join([*below, f"an interval may reach {gate.floor:g} below"])
    return Check(f"no fall below the {whom}'s scores", not below, told)


def reaches(least: float | None, pairs: Sequence[Paired], measure: str) -> Iterator[Check]:
    """The demand for a rate of its own, in each suite that measures it."""
    by_suite: dict[str, list[Paired]] = {}
    for pair in with_measure(pairs, measure):
        by_suite.setdefault(pair.suite, []).append(pair)
    for suite, own in by_suite.items() if least is not None else ():
        found = mean(own, lambda pair: pair.after)
        told = f"{found.difference:.3f} ({found.low:.3f} to {found.high:.3f}), and its lower end must be {least:g}"
        yield Check(f"{samples.spoken(measure)} on {suite}", found.low >= (least or 0), told)


def decide(
    gate: Gate, candidate: str, champion: str | None, base: list[Paired], champions: list[Paired], facts: list[Check]
) -> Decision:
    """Judge a candidate. `base` pairs it with its base, `champions` with the champion; `facts` are checked already."""
    base, champions = ([pair for pair in pairs if pair.is_compared] for pairs in (base, champions))
    against_base, against_champion = compared(base), compared(champions)
    checks = [*is_better(gate, base, "base"), keeps_floor(gate, against_base, "base")]
    if champion is not None:
        better = gate.policy == "superior"
        checks += is_better(gate, champions, "champion") if better else is_no_worse(gate, champions)
        checks.append(keeps_floor(gate, against_champion, "champion"))
    checks += [*reaches(gate.valid_answer, base, "valid_answer"), *reaches(gate.stopped, base, "stopped"), *facts]
    return Decision(candidate, champion, gate.policy, checks, against_base, against_champion)


def _unmeasured(measure: str, pairs: Iterable[Paired]) -> str:
    hint = errors.suggestion(measure, {pair.measure for pair in pairs})
    return f"no benchmark that can be compared measures it; {hint}"


def _consecutive(groups: statistics.Groups) -> statistics.Groups:
    numbers: statistics.Groups = np.unique(groups, return_inverse=True)[1]
    return numbers
