"""Renders records in a folder of its own, as the tests of the mixture, the hold-out and decontamination need it."""

from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from tasks.records import Record, write_records
from tasks.render.__main__ import run
from tasks.render.catalogue import Catalogue
from tests.data_fixtures import write_params

LICENCE = "CC0-1.0"


def own(number: int, text: str = "", task: str = "chat", cluster: str = "general", source: str = "toy") -> Record:
    """A record that brings its own instruction; its content is that of its number and text."""
    fields = {"instruction": text or f"Say the number {number}.", "input": ""}
    return Record(f"{source}/{task}/{number}", task, cluster, source, LICENCE, fields, [f"It is {number}."])


def write_sources(home: Path, rows: list[Record], **wanted: Any) -> None:
    """Each source's records, and params that name the sources in the order in which they come."""
    by_source: dict[str, list[Record]] = defaultdict(list)
    for row in rows:
        by_source[row.source].append(row)
    sources = {name: {"path": f"{name}.jsonl"} for name in by_source}
    evaluate = {
        "include": wanted.pop("include", {}),
        "suites": wanted.pop("suites", ["inference"]),
        "batch_size": 16,
        "new_tokens": 24,
    }
    render = {"examples": 1_000, "held_out": ["inference"], **wanted}
    write_params(home, ingest={"sources": sources}, render=render, evaluate=evaluate)
    for name, own_rows in by_source.items():
        (home / "data" / "ingest" / name).mkdir(parents=True, exist_ok=True)
        write_records(home / "data" / "ingest" / name / "records.parquet", own_rows)


def render(home: Path, rows: list[Record], **wanted: Any) -> Path:
    """What rendering these records wrote; the inference cluster is held out unless `wanted` says otherwise."""
    home.mkdir(exist_ok=True)
    write_sources(home, rows, **wanted)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        run()
    return home / "data" / "render"


def catalogue(home: Path, rows: list[Record], seed: int = 17) -> Catalogue:
    """The catalogue of these records."""
    home.mkdir(exist_ok=True)
    write_sources(home, rows)
    return Catalogue.read(home / "data" / "ingest", list(dict.fromkeys(row.source for row in rows)), seed)
