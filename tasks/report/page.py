"""The report in Markdown, and the picture for `dvc plots`."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from tasks.report import conclusions
from tasks.report.answers import Answer
from tasks.report.compare import Comparison, by_measure
from tasks.report.story import Story

_BASE, _TUNED, _CHANCE = "#9aa5b1", "#1f6feb", "#d1495b"


def table(comparisons: Sequence[Comparison], names: tuple[str, str] = ("base", "tuned")) -> str:
    """Two models as a Markdown table, in columns that read well as they are; p is corrected for all rows."""
    rows = [["benchmark", "measure", "documents", *names, "gain (95 % interval)", "p", "verdict", "majority"]]
    for item in comparisons:
        gain = f"{item.difference:+.3f} ({item.low:+.3f} to {item.high:+.3f})"
        chance = "–" if item.majority_class is None else f"{item.majority_class:.3f}"
        scores = [f"{item.base:.3f}", f"{item.tuned:.3f}", gain, short(item.p), str(item.verdict), chance]
        rows.append([item.name, item.measured, str(item.documents), *scores])
    return aligned(rows)


def short(p: float) -> str:
    """A p-value as people read it."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def aligned(rows: list[list[str]]) -> str:
    """A Markdown table whose first row is the head."""
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in cells)


def page(story: Story) -> str:
    """The report in Markdown."""
    return "\n".join(
        [
            "# Base against tuned, zero-shot on held-out clusters",
            "",
            conclusions.training(story),
            "",
            *(f"- {sentence}" for sentence in conclusions.results(story.comparisons)),
            "",
            table(story.comparisons),
            "",
            "The interval is of each benchmark alone; p is corrected for all of them, and the verdict follows from p.",
            "",
            *clean_scores(story),
            "## Where it got worse",
            "",
            conclusions.losses(story.comparisons),
            "",
            "![base against tuned](gains.png)",
            "",
            "## Answers side by side",
            "",
            *(_side_by_side(answer) for answer in story.answers),
            "",
        ]
    )


def clean_scores(story: Story) -> list[str]:
    """The scores on documents that no training record shares text with, where there are others."""
    cleaned = [item for item in story.comparisons if item.clean]
    if not cleaned:
        return []
    rows = [["benchmark", "measure", "clean documents", "base", "tuned", "gain (95 % interval)"]]
    for item in cleaned:
        if clean := item.clean:
            gain = f"{clean.after - clean.before:+.3f} ({clean.low:+.3f} to {clean.high:+.3f})"
            scores = [f"{clean.before:.3f}", f"{clean.after:.3f}", gain]
            rows.append([item.name, item.measured, str(clean.documents), *scores])
    return ["## Clean documents alone", "", aligned(rows), ""]


def draw(comparisons: list[Comparison], path: Path) -> None:
    """Bars of base and tuned for each benchmark and measure, with the majority class as a mark."""
    measured = by_measure(comparisons)
    names = list(dict.fromkeys(item.name for item in comparisons))
    figure, axes = plt.subplots(1, len(measured), figsize=(11, 1.2 + 0.55 * len(names)), sharey=True, squeeze=False)
    for axis, (measure, rows) in zip(axes[0], measured.items(), strict=True):
        for item in rows:
            place = names.index(item.name)
            axis.barh(place - 0.2, item.base, 0.38, color=_BASE, label="base")
            axis.barh(place + 0.2, item.tuned, 0.38, color=_TUNED, label="tuned")
            if item.majority_class is not None:
                axis.plot(
                    [item.majority_class] * 2, [place - 0.42, place + 0.42], color=_CHANCE, label="majority class"
                )
        axis.set_yticks(range(len(names)), names)
        axis.set(title=measure, xlim=(0, max(1, *(score for item in rows for score in (item.base, item.tuned)))))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].invert_yaxis()
    handles = {
        label: handle for axis in axes[0] for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _side_by_side(answer: Answer) -> str:
    return (
        f"- `{answer.document}` ({answer.kind}) expects **{answer.expected}**; base: “{answer.base}”;"
        f" tuned: “{answer.tuned}”"
    )
