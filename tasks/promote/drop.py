"""A version on fresh documents beside what it showed when it was registered: has it fallen?

The documents are others, so nothing can be paired: it has fallen where the interval of a mean lies wholly below the one
of then.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tasks import statistics
from tasks.params import Gate
from tasks.promote.gate import Mean
from tasks.report import samples


class Beside(NamedTuple):
    """A measure's mean over the benchmarks of a suite, then and now."""

    measure: str
    benchmarks: int
    before: Mean
    now: Mean

    @property
    def fallen(self) -> bool:
        """Whether it is lower now by more than chance."""
        return self.now.high < self.before.low

    def __str__(self) -> str:
        told = f"{self.before.difference:.3f} ({self.before.low:.3f} to {self.before.high:.3f})"
        now = f"{self.now.difference:.3f} ({self.now.low:.3f} to {self.now.high:.3f})"
        return f"{told} then, {now} now{', fallen' * self.fallen}"


def beside(gate: Gate, before: Path, now: Path) -> Iterator[Beside]:
    """The gate's measures of one suite in two folders of results, on the benchmarks that both have."""
    one, other = (samples.scores(samples.read_samples(folder)) for folder in (before, now))
    for measure in gate.measures:
        shared = sorted(place for place in one.keys() & other.keys() if place[1] == measure)
        if shared:
            yield Beside(measure, len(shared), *(_mean([scores[place] for place in shared]) for scores in (one, other)))


def _mean(benchmarks: list[dict[samples.Key, float]]) -> Mean:
    """Documents of one record, under several templates, count as one."""
    parts = []
    for scores in benchmarks:
        records = np.array([document for document, _ in scores])
        parts.append((np.array(list(scores.values())), np.unique(records, return_inverse=True)[1]))
    value = float(np.mean([numbers.mean() for numbers, _ in parts]))
    return Mean(value, *statistics.mean_interval(parts))
