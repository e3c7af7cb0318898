"""The pictures of the answer: variants beside FLAN's ablation, and curves beside FLAN's. Equal numbers, equal bytes."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from tasks.variants import page, published
from tasks.variants.story import TESTED, Story

_OWN, _BASE, _FLAN = "#1f6feb", "#9aa5b1", "#d1495b"


def wordings(story: Story, path: Path) -> None:
    """Bars of each variant's held-out means with their intervals, and FLAN's ablation in a panel of its own."""
    measured = [name for name in TESTED if (name, "") in story.means]
    names = story.variants
    figure, axes = plt.subplots(1, len(measured) + 1, figsize=(3.2 * (len(measured) + 1), 1.6 + 0.42 * len(names)))
    for axis, name in zip(axes, measured, strict=False):
        models = story.means[name, ""]
        for place, variant in enumerate(names):
            if variant in models:
                _bar(axis, place, models[variant].mean, models[variant].bounds, _OWN if place else _BASE)
        axis.set_yticks(range(len(names)), names if axis is axes[0] else [])
        _finish(axis, name)
    last = axes[-1]
    for place, (_, value) in enumerate(published.WORDINGS.items()):
        last.barh(place, value, 0.6, color=_FLAN)
    last.set_yticks(range(len(published.WORDINGS)), list(published.WORDINGS))
    last.yaxis.tick_right()
    _finish(last, "FLAN, as published")
    _save(figure, path)


def curves(story: Story, path: Path) -> None:
    """Held-out means over the number of clusters or templates, and FLAN's own curve of clusters beside them."""
    found = page.curves(story)
    measured = [name for name in TESTED if (name, "") in story.means]
    figure, axes = plt.subplots(1, len(found) + 1, figsize=(4.2 * (len(found) + 1), 3.6), squeeze=False)
    for axis, (over, points) in zip(axes[0], found.items(), strict=False):
        for name in measured:
            models = story.means[name, ""]
            told = [(x, models[variant]) for x, variant in points if variant in models]
            line = axis.plot([x for x, _ in told], [one.mean for _, one in told], marker="o", label=name)
            low, high = zip(*(one.bounds for _, one in told), strict=True)
            axis.fill_between([x for x, _ in told], low, high, color=line[0].get_color(), alpha=0.15, linewidth=0)
        axis.set(title=f"Here, by {over}", xlabel=over, ylim=(0, 1))
        axis.set_xticks([x for x, _ in points], _ticks(over, points))
        axis.legend(frameon=False, fontsize=8)
    last = axes[0][-1]
    last.plot(list(published.CLUSTERS), list(published.CLUSTERS.values()), marker="o", color=_FLAN)
    last.set(title="FLAN, as published", xlabel="clusters", ylim=(0, 1))
    _save(figure, path)


def _ticks(over: str, points: list[tuple[float, str]]) -> list[str]:
    numbers = [f"{x:g}" for x, _ in points]
    return [*numbers[:-1], "all"] if over == "templates" else numbers


def _bar(axis: Any, place: int, mean: float, bounds: tuple[float, float], colour: str) -> None:
    axis.barh(place, mean, 0.6, color=colour)
    axis.plot(bounds, [place, place], color="#1c2126", linewidth=1.2)


def _finish(axis: Any, title: str) -> None:
    axis.invert_yaxis()
    axis.set(title=title, xlim=(0, 1))
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
