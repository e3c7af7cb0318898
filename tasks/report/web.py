"""The report as one HTML page that needs nothing beside it: no script, no font, no picture from elsewhere.

`report.html.jinja` is its text and `style.css` its looks; places in pictures are percentages, so that a picture is as
wide as the screen and its words keep their size.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from matplotlib.ticker import MaxNLocator

from tasks.report import card, compare, conclusions
from tasks.report import page as markdown
from tasks.report.compare import Comparison
from tasks.report.samples import meaning, spoken
from tasks.report.story import Story
from tasks.statistics import LEVEL, Verdict

_HERE = Path(__file__).parent
_POINTS = 400
"""Points of a curve at most; more would not be seen."""


@dataclass(frozen=True)
class Scale:
    """A stretch of numbers laid out from 0 to 100 %."""

    low: float
    high: float
    ticks: list[float]

    @classmethod
    def over(cls, values: Sequence[float], steps: int = 6) -> "Scale":
        """A scale on which all values lie, with some room beside them, and round ticks."""
        room = 0.06 * (max(values) - min(values)) or 0.1
        low, high = min(values) - room, max(values) + room
        ticks = MaxNLocator(steps, steps=[1, 2, 5, 10]).tick_values(low, high)
        return cls(low, high, [round(float(tick), 10) + 0.0 for tick in ticks if low <= tick <= high])

    def at(self, value: float) -> float:
        """The value's place in per cent."""
        return round(100 * (value - self.low) / (self.high - self.low), 2)


def environment(*folders: Path) -> jinja2.Environment:
    """Where pages are made: from templates in `folders`, with the looks and the filters of the report."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, _HERE]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters |= {"spoken": spoken, "meaning": meaning, "p": markdown.short, "count": conclusions.count}
    return made


def page(story: Story) -> str:
    """The page. The same story gives the same bytes."""
    return (
        environment()
        .get_template("report.html.jinja")
        .render(
            story=story,
            verdicts={name: [item for item in story.comparisons if item.verdict is name] for name in Verdict},
            conclusions=conclusions,
            level=LEVEL,
            panels=panels(story),
            scores=Scale(0.0, 1.0, [0.0, 0.25, 0.5, 0.75, 1.0]),
            mixture=mixture(story),
            curve=curve(story.history),
            values=card.values(story),
            licences=card.licences(story),
        )
    )


class Panel(NamedTuple):
    """One measure's gains: the scale, and each suite as its mean and its benchmarks."""

    name: str
    measure: str
    scale: Scale
    suites: list[tuple[Comparison, list[Comparison]]]


def panels(story: Story) -> list[Panel]:
    """A panel for each measure. Shares have a scale in common, so that panels compare; others have their own."""
    means = {(item.suite, item.measured): item for item in story.means}
    common = Scale.over(_bounds(item for item in [*story.comparisons, *story.means] if _is_share(item)), 9)
    found = []
    for name, items in compare.by_measure(story.comparisons).items():
        suites = {item.suite: means[item.suite, name] for item in items}
        told = [(mean, [item for item in items if item.suite == suite]) for suite, mean in suites.items()]
        all_of_it = [*items, *suites.values()]
        scale = common if all(map(_is_share, all_of_it)) else Scale.over(_bounds(all_of_it), 9)
        found.append(Panel(name, items[0].measure, scale, told))
    return found


def _bounds(items: Iterable[Comparison]) -> list[float]:
    return [0.0, *(bound for item in items for bound in (item.low, item.high))]


def _is_share(item: Comparison) -> bool:
    return max(map(abs, (item.base, item.tuned))) <= 1


def mixture(story: Story) -> list[tuple[str, int, float]]:
    """The clusters, the largest first: name, examples, and the bar's length in per cent of the longest."""
    clusters = sorted(story.mixture["clusters"].items(), key=lambda item: (-item[1], item[0]))
    longest = max((examples for _, examples in clusters), default=1)
    return [(name, examples, round(100 * examples / longest, 2)) for name, examples in clusters]


def curve(history: list[dict[str, float]]) -> dict[str, Any]:
    """The loss of each step, its moving mean, and the validations, in per cent of the picture; and the ticks."""
    steps, losses = (np.array([point[name] for point in history], dtype=float) for name in ("step", "loss"))
    width = max(1, len(losses) // 12)
    kernel = np.ones(width)
    smooth = np.convolve(losses, kernel, "same") / np.convolve(np.ones(len(losses)), kernel, "same")
    checked = [(point["step"], point["validation_loss"]) for point in history if "validation_loss" in point]
    across = Scale(float(steps[0]), max(float(steps[-1]), float(steps[0]) + 1), [])
    up = Scale.over([*losses, *(loss for _, loss in checked)], 4)
    chosen = np.unique(np.linspace(0, len(steps) - 1, min(len(steps), _POINTS)).astype(int))

    def line(values: np.ndarray) -> str:
        return " ".join(f"{across.at(steps[place])},{100 - up.at(values[place]):.2f}" for place in chosen)

    return {
        "raw": line(losses),
        "smooth": line(smooth),
        "window": width,
        "checked": [(across.at(step), round(100 - up.at(loss), 2), step, loss) for step, loss in checked],
        "ticks": [(tick, round(100 - up.at(tick), 2)) for tick in up.ticks],
        "steps": (int(steps[0]), int(steps[-1])),
        "ends": (round(float(smooth[0]), 3), round(float(smooth[-1]), 3)),
    }
