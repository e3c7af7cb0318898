"""Params, records and the starter mixture that several test files share."""

from collections import defaultdict
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tasks import sheets
from tasks.ingest.formats import starter
from tasks.ingest.origin import Origin
from tasks.records import Record

ROOT = Path(__file__).resolve().parent.parent
STARTER = ROOT / "tasks" / "ingest" / "starter"
ORIGIN = Origin("starter", STARTER, "starter", "Apache-2.0", seed=17)


def sections(**changes: dict[str, Any]) -> dict[str, Any]:
    """The smallest params that are right, with the changes laid over their sections."""
    smallest: dict[str, Any] = {
        "compute": {"threads": 2, "dtype": "auto"},
        "model": {"source": "folder", "name": "base", "revision": "abc"},
        "ingest": {
            "seed": 17,
            "licences": {"allow": ["unknown", "Apache-2.0", "CC0-1.0"]},
            "clean": {},
            "sources": {"toy": {"path": "rows.jsonl", "format": "alpaca"}},
        },
        "render": {"examples": 10, "held_out": ["inference"]},
        "pack": {},
        "train": {},
        "evaluate": {"suites": ["inference"], "include": {}, "batch_size": 16, "backend": "own", "new_tokens": 24},
        "register": {},
        "gate": {},
    }
    return {name: values | changes.get(name, {}) for name, values in smallest.items()}


def write_params(folder: Path, **changes: dict[str, Any]) -> None:
    """These params as params.yaml in `folder`."""
    (folder / "params.yaml").write_text(yaml.safe_dump(sections(**changes)), encoding="utf-8")


def record(number: int, output: str = "yes", options: tuple[str, ...] = ("yes", "no"), task: str = "follows") -> Record:
    """A small inference record; equal numbers give equal records."""
    fields = {"premise": f"Premise {number}.", "hypothesis": f"Hypothesis {number}."}
    return Record(f"toy/{task}/{number}", task, "inference", "toy", "CC0-1.0", fields, [output], list(options))


@cache
def starter_files() -> dict[str, starter.TaskFile]:
    """The starter's task files by task."""
    return {path.stem: sheets.read_as(starter.TaskFile, path) for path in sorted(STARTER.glob("[!_]*/*.yaml"))}


@cache
def starter_records() -> dict[str, list[Record]]:
    """All records of the starter mixture by task; composed once, since that takes seconds."""
    tables = starter.load_tables(STARTER)
    composed: dict[str, list[Record]] = defaultdict(list)
    for path in sorted(STARTER.glob("[!_]*/*.yaml")):
        composed[path.stem] += starter.compose(path, starter_files()[path.stem], tables, ORIGIN)
    return dict(composed)
