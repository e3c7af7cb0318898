"""How much depends on the wording: scores by template, their spread, and how often answers stay the same."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from statistics import pstdev
from typing import Any

Row = dict[str, Any]


def agreement(rows: list[Row]) -> Iterator[Row]:
    """One row for each document that was asked in several templates.

    `consistency` is the share of pairs of templates under which its answers are the same; `answer` the most frequent.
    """
    by_document: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_document[row["document"]].append(row)
    for document, own in by_document.items():
        answers = Counter(row["answer"].lower() for row in own)
        same = sum(count * (count - 1) for count in answers.values()) / max(1, len(own) * (len(own) - 1))
        yield {
            "benchmark": own[0]["benchmark"],
            "document": document,
            "template": "",
            "answer": answers.most_common(1)[0][0],
            "expected": own[0]["expected"],
            "answers": {row["template"]: row["answer"] for row in own},
            "consistency": round(same, 6),
        }


def table(rows: dict[str, list[Row]]) -> dict[str, Any]:
    """benchmark -> measure -> the mean over its templates, their spread (standard deviation), and each one's score."""
    found = {}
    for benchmark, own in rows.items():
        names = [name for name, value in own[0].items() if isinstance(value, int | float)]
        by_template: dict[str, list[Row]] = defaultdict(list)
        for row in own:
            by_template[row["template"]].append(row)
        if len(by_template) > 1:
            found[benchmark] = {name: _of_measure(name, by_template) for name in names}
    return found


def spreads(rows: list[Row]) -> dict[str, float]:
    """The mean over templates and the spread of each measure of one benchmark, under names of their own."""
    [told] = table({"": rows}).values()
    return {
        f"{name}_{key}": values[key] for name, values in told.items() for key in ("template_mean", "template_spread")
    }


def _of_measure(name: str, by_template: dict[str, list[Row]]) -> dict[str, Any]:
    each = {template: sum(row[name] for row in rows) / len(rows) for template, rows in sorted(by_template.items())}
    return {
        "template_mean": round(sum(each.values()) / len(each), 6),
        "template_spread": round(pstdev(each.values()), 6),
        "templates": {
            template: {"score": round(score, 6), "documents": len(by_template[template])}
            for template, score in each.items()
        },
    }
