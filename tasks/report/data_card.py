"""The data card of a run: what the model was trained on, from the sources' own cards and the mixture."""

import json
from pathlib import Path
from typing import Any

Card = dict[str, Any]


def read_cards(ingested: Path) -> list[Card]:
    """The cards of the sources below `ingested`, by name."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(ingested.glob("*/card.json"))]


def dropped(contamination: Path) -> int:
    """How many records share text with a benchmark and were dropped."""
    with (contamination / "dropped.jsonl").open(encoding="utf-8") as lines:
        return sum(1 for _ in lines)


def profile(cards: list[Card], examples: int, contaminated: int) -> Card:
    """The card's totals, as MLflow shows them with the data set."""
    return {
        "sources": len(cards),
        "rows": sum(card["rows"] for card in cards),
        "records": sum(card["records"] for card in cards),
        "examples": examples,
        "rejects": _sum(cards, "rejects"),
        "masked": _sum(cards, "masked"),
        "licences": _sum(cards, "licences"),
        "contaminated": contaminated,
    }


def page(cards: list[Card], totals: Card) -> str:
    """The card in Markdown."""
    return "\n".join(
        [
            "# Data card",
            "",
            f"{totals['examples']:,} training examples, drawn from {totals['records']:,} records of"
            f" {totals['sources']} sources; {totals['contaminated']:,} records were dropped for their overlap with"
            " benchmarks.",
            "",
            _table(
                ["source", "format", "rows", "records", "tasks", "clusters", "conversations", "licences"],
                [_source(card) for card in cards],
            ),
            "",
            "## Lengths and languages",
            "",
            "Characters, as median / ninth tenth / most. Languages are determined on a sample of each source; `und` is"
            " too short or unclear to tell.",
            "",
            _table(
                ["source", "what is asked", "answer", "languages (of a sample)"],
                [
                    [
                        card["source"],
                        *(_spread(card["characters"][part]) for part in ("asked", "answer")),
                        _tongues(card),
                    ]
                    for card in cards
                ],
            ),
            "",
            "## What was left out or changed",
            "",
            _table(["source", "rejected, by reason", "masked"], [_left_out(card) for card in cards]),
            "",
            "Every rejected row is kept with its place and reason in `data/ingest/SOURCE/rejects.jsonl`.",
            "",
        ]
    )


def _source(card: Card) -> list[str]:
    counts = [f"{card[name]:,}" for name in ("rows", "records", "tasks")]
    more = [f"{len(card['clusters']):,}", f"{card['conversations']:,}", _counts(card["licences"])]
    return [card["source"], card["format"], *counts, *more]


def _left_out(card: Card) -> list[str]:
    return [card["source"], _counts(card["rejects"]), _counts(card["masked"])]


def _tongues(card: Card) -> str:
    return f"{_counts(card['languages']['found'])} (of {card['languages']['sample']})"


def _spread(values: dict[str, int]) -> str:
    return " / ".join(f"{values[name]:,}" for name in ("median", "ninth_tenth", "most"))


def _counts(counts: dict[str, int]) -> str:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count:,}" for name, count in ordered) or "none"


def _sum(cards: list[Card], name: str) -> dict[str, int]:
    return {
        key: sum(card[name].get(key, 0) for card in cards) for key in sorted({k for card in cards for k in card[name]})
    }


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
