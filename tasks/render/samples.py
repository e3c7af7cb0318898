"""Sample records of each task, for a look at templates: what ingest wrote, and the starter's texts for the rest."""

import itertools
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tasks import sheets, tables
from tasks.records import Record, from_frame
from tasks.render.templates import OWN_INSTRUCTION

STARTER = Path(__file__).parent.parent / "ingest" / "starter"

MOST = 200
"""Samples of a task at most."""


def samples(folder: Path, tasks: set[str]) -> dict[str, list[Record]]:
    """Up to `MOST` records of each task in `folder`; for tasks that are not there, the starter's skeletons.

    Records of none of `tasks` that bring their own instruction are those of `OWN_INSTRUCTION`.
    """
    found: dict[str, list[Record]] = defaultdict(list)
    for record in itertools.chain(_OWN, _ingested(folder)):
        task = OWN_INSTRUCTION if record.task not in tasks and "instruction" in record.fields else record.task
        if len(found[task]) < MOST and not record.turns:
            found[task].append(record)
    return _skeletons() | found


def _ingested(folder: Path) -> Iterator[Record]:
    for path in sorted(folder.glob("*/records.parquet")):
        for frame in tables.read_frames(path):
            yield from from_frame(frame.group_by("task", maintain_order=True).head(MOST).select(frame.columns))


def _skeletons() -> dict[str, list[Record]]:
    """The starter's texts before their slots are filled: the same fields and options as its records have."""
    sheets_by_task = {path.stem: sheets.read(path) for path in sorted(STARTER.glob("[!_]*/*.yaml"))}
    return {
        task: [
            _sample(
                f"{task}/{number}", task, item["fields"], item["output"], item.get("options") or sheet.get("options")
            )
            for number, item in enumerate(sheet["items"])
        ]
        for task, sheet in sheets_by_task.items()
    }


def _sample(name: str, task: str, fields: dict[str, str], output: str, options: list[str] | None = None) -> Record:
    return Record(name, task, "", "sample", "", fields, [output], options or [])


_OWN = [
    _sample("sample/1", OWN_INSTRUCTION, {"instruction": "Name a river in Asia.", "input": ""}, "The Mekong."),
    _sample("sample/2", OWN_INSTRUCTION, {"instruction": "Put it in the plural.", "input": "goose"}, "geese"),
    _sample(
        "sample/3",
        OWN_INSTRUCTION,
        {"instruction": "Double it.", "input": "4", "positive_examples": "Input: 2\nOutput: 4"},
        "8",
    ),
]
"""A record for each set of fields that rows with an instruction of their own can have."""
