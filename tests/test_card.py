"""A source's card tells what is in it; the run's card puts the sources together."""

import json
from pathlib import Path
from typing import Any

import pytest

from tasks.ingest.__main__ import run
from tasks.report import data_card
from tests.data_fixtures import write_params
from tests.test_ingest import lines

ROWS = [
    {"instruction": "Name the harbour that was built in the north of the island.", "input": "", "output": "Port Anna"},
    {"instruction": "Nenne den Hafen, der im Norden der Insel gebaut wurde, bitte.", "output": "Mail a@example.com"},
    {"instruction": "Say it.", "output": "It."},
    {"instruction": "Say it.", "output": "It."},
    {"instruction": "Say it."},
]


@pytest.fixture
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_bytes(lines(*ROWS))
    toy = {"path": "rows.jsonl", "format": "alpaca", "licence": "CC0-1.0"}
    write_params(Path(), ingest={"sources": {"toy": toy}, "clean": {"personal_data": "mask"}})
    run("toy")
    loaded: dict[str, Any] = json.loads(Path("data/ingest/toy/card.json").read_text())
    return loaded


def test_a_card_counts_every_row(card: dict[str, Any]) -> None:
    assert (card["rows"], card["records"]) == (5, 3)
    assert sum(card["rejects"].values()) == 2
    assert card["rejects"]["duplicate"] == 1
    assert card["masked"] == {"EMAIL": 1}
    assert (card["licences"], card["clusters"], card["tasks"]) == ({"CC0-1.0": 3}, {"toy": 3}, 1)


def test_a_card_tells_lengths_and_languages(card: dict[str, Any]) -> None:
    assert card["characters"]["asked"] == {"least": 7, "median": 59, "ninth_tenth": 59, "most": 61}
    assert card["characters"]["answer"]["least"] == 3
    assert card["languages"] == {"sample": 3, "found": {"en": 1, "de": 1, "und": 1}}


def test_the_run_s_card_adds_the_sources_up(card: dict[str, Any]) -> None:
    other = {**card, "source": "other"}
    totals = data_card.profile([card, other], 4, 2)
    assert (totals["rows"], totals["records"], totals["licences"]) == (10, 6, {"CC0-1.0": 6})
    text = data_card.page([card, other], totals)
    assert "4 training examples, drawn from 6 records of 2 sources; 2 records were dropped for their overlap" in text
    assert "| other | alpaca | 5 | 3 | 1 | 1 | 0 | CC0-1.0 3 |" in text


def test_the_records_dropped_for_their_overlap_are_counted(tmp_path: Path) -> None:
    (tmp_path / "dropped.jsonl").write_text("{}\n{}\n")
    assert data_card.dropped(tmp_path) == 2
