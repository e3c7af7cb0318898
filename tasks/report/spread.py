"""How much a score depends on the wording: each template's mean, and the spread over templates."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from tasks.report import samples
from tasks.report.compare import Paired
from tasks.statistics import Numbers


@dataclass(frozen=True)
class Wording:
    """One template's documents and scores."""

    template: str
    documents: int
    base: float
    tuned: float


@dataclass(frozen=True)
class Spread:
    """The templates of one benchmark by one measure; `base` and `tuned` are standard deviations over them all."""

    suite: str
    task: str
    form: str
    measure: str
    wordings: list[Wording]
    base: float
    tuned: float


def of_all(pairs: Iterable[Paired]) -> list[Spread]:
    """The spreads of benchmarks that ask the same documents in every wording; where there are none, of all others."""
    found = [told for pair in pairs if (told := over_templates(pair))]
    return [told for told in found if told.form == samples.EVERY_WORDING] or found


def over_templates(pair: Paired) -> Spread | None:
    """The spread of a benchmark that was asked in several templates, else None."""
    places: dict[str, list[int]] = defaultdict(list)
    for place, (_, template) in enumerate(pair.keys):
        places[template].append(place)
    if len(places) < 2:
        return None
    wordings = [
        Wording(template, len(own), _mean(pair.before[own]), _mean(pair.after[own]))
        for template, own in sorted(places.items())
    ]
    base, tuned = np.std([(wording.base, wording.tuned) for wording in wordings], axis=0).round(6)
    return Spread(pair.suite, pair.task, pair.form, pair.measure, wordings, float(base), float(tuned))


def _mean(scores: Numbers) -> float:
    return round(float(scores.mean()), 6)
