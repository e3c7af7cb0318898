"""How much depends on the wording: scores by template, their spread, and how often answers stay the same."""

from collections import Counter, defaultdict
from statistics import pstdev
from typing import Any

Row = dict[str, Any]


def compared(rows: list[Row]) -> list[Row]:
    """The rows with `consistency`: under how many of the other templates the same document got the same answer.

    It is a share; its mean over rows is that of all pairs of templates. Case does not count.
    """
    answers = Counter((row["document"], row["answer"].casefold()) for row in rows)
    asked = Counter(row["document"] for row in rows)
    return [
        row
        | {
            "consistency": round(
                (answers[row["document"], row["answer"].casefold()] - 1) / max(1, asked[row["document"]] - 1), 6
            )
        }
        for row in rows
    ]


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
    """The spread over templates of each measure of one benchmark, as MEASURE_spread."""
    [told] = table({"": rows}).values()
    return {f"{name}_spread": values["spread"] for name, values in told.items() if name != "consistency"}


def _of_measure(name: str, by_template: dict[str, list[Row]]) -> dict[str, Any]:
    each = {template: sum(row[name] for row in rows) / len(rows) for template, rows in sorted(by_template.items())}
    return {
        "mean": round(sum(each.values()) / len(each), 6),
        "spread": round(pstdev(each.values()), 6),
        "templates": {
            template: {"score": round(score, 6), "documents": len(by_template[template])}
            for template, score in each.items()
        },
    }
