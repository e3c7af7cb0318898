"""The report's page and picture."""

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from tasks.report.compare import MEASURES, Comparison

_BASE, _TUNED, _CHANCE = "#9aa5b1", "#1f6feb", "#d1495b"


def table(comparisons: list[Comparison]) -> str:
    """Base against tuned as a Markdown table, in columns that read well as they are."""
    rows = [["benchmark", "measure", "documents", "base", "tuned", "gain (95 % interval)", "majority", "first option"]]
    for item in comparisons:
        gain = f"{item.difference:+.3f} ({item.low:+.3f} to {item.high:+.3f})"
        chance = "–" if item.measure == "valid_answer" else f"{item.majority_class:.3f}"
        first = "1.000" if item.measure == "valid_answer" else f"{item.first_option:.3f}"
        scores = [f"{item.base:.3f}", f"{item.tuned:.3f}", gain, chance, first]
        rows.append([f"{item.suite} / {item.task}", MEASURES[item.measure], str(item.documents), *scores])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(f"| {' | '.join(map(str.ljust, row, widths))} |" for row in rows)


def page(comparisons: list[Comparison], facts: dict[str, Any], samples: list[dict[str, Any]]) -> str:
    """The report in Markdown: what was trained on what, base against tuned, and answers side by side."""
    better, worse = _names(comparisons, 1), _names(comparisons, -1)
    return "\n".join(
        [
            "# Base against tuned, zero-shot on held-out clusters",
            "",
            f"{facts['model']} with a LoRA adapter, trained on {facts['examples']} examples"
            f" ({facts['tokens']:,} tokens, of which {facts['supervised_tokens']:,} are learnt) of"
            f" {facts['clusters']} clusters. No task of a benchmark's cluster was trained on.",
            "",
            table(comparisons),
            "",
            f"Better, with an interval above zero: {better}. Worse, with an interval below zero: {worse}.",
            "An interval that holds zero shows no difference.",
            "",
            "![base against tuned](gains.png)",
            "",
            "## Answers side by side",
            "",
            *(_side_by_side(row) for row in samples),
            "",
        ]
    )


def draw(comparisons: list[Comparison], path: Path) -> None:
    """Bars of base and tuned for each benchmark and measure, with the majority class as a mark."""
    figure, axes = plt.subplots(
        1, len(MEASURES), figsize=(11, 1.2 + 0.55 * len({(item.suite, item.task) for item in comparisons})), sharey=True
    )
    for axis, (measure, name) in zip(axes, MEASURES.items(), strict=True):
        rows = [item for item in comparisons if item.measure == measure]
        for place, item in enumerate(rows):
            axis.barh(place - 0.2, item.base, 0.38, color=_BASE, label="base" if place == 0 else None)
            axis.barh(place + 0.2, item.tuned, 0.38, color=_TUNED, label="tuned" if place == 0 else None)
            if measure != "valid_answer":
                label = "majority class" if place == 0 else None
                axis.plot([item.majority_class] * 2, [place - 0.42, place + 0.42], color=_CHANCE, label=label)
        axis.set_yticks(range(len(rows)), [f"{item.suite} / {item.task}" for item in rows])
        axis.set(title=name, xlim=(0, 1))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].invert_yaxis()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.09, 1, 1))
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _names(comparisons: list[Comparison], sign: int) -> str:
    found = [item for item in comparisons if (item.low > 0 if sign > 0 else item.high < 0)]
    return ", ".join(f"{item.suite} / {item.task} ({MEASURES[item.measure]})" for item in found) or "none"


def _side_by_side(row: dict[str, Any]) -> str:
    return f"- `{row['document']}` expects **{row['expected']}**; base: “{row['base']}”; tuned: “{row['tuned']}”"
