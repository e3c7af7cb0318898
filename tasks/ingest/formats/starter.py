"""Format `starter`: a folder of hand-written task files, each composed into records by seed.

A task file is `CLUSTER/TASK.yaml`. Its items are skeletons: texts with slots, which are filled from tables or number
ranges. A skeleton yields at most `DRAWS` records, so that no phrase dominates its task.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import jinja2
from pydantic import BaseModel, ConfigDict, Field

from tasks import sheets
from tasks.errors import UserError
from tasks.ingest.formats.form import Format
from tasks.ingest.origin import Origin, Usable
from tasks.records import Record, digest
from tasks.sandbox import holds, names_in, render_text

DRAWS = 3
"""Records composed from one skeleton with slots; a skeleton without slots gives one."""

_TRIES = 60

Row = str | int | float | dict[str, str | int | float]


class Range(BaseModel):
    """A whole number drawn from `low` to `high`, both included, in steps of `step`."""

    model_config = ConfigDict(extra="forbid")
    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1


Slot = str | Range | list[Row]
"""The name of a table, a number range, or the values themselves."""


class Item(BaseModel):
    """One skeleton: every text may use slots as Jinja2 expressions, for instance `{{ country.capital }}`."""

    model_config = ConfigDict(extra="forbid")
    fields: dict[str, str]
    output: str
    options: list[str] | None = None
    slots: dict[str, Slot] = {}
    where: str | None = None


class TaskFile(BaseModel):
    """A task of the starter mixture."""

    model_config = ConfigDict(extra="forbid")
    about: str
    options: list[str] = []
    tables: dict[str, list[Row]] = {}
    slots: dict[str, Slot] = {}
    items: Annotated[list[Item], Field(min_length=1)]


def load_tables(folder: Path) -> dict[str, list[Row]]:
    """The tables that all tasks share: `_tables/NAME.yaml`, each a list of rows."""
    return {path.stem: sheets.read_as(list[Row], path) for path in sorted(folder.glob("_tables/*.yaml"))}


def read(origin: Origin) -> Iterator[Usable]:
    """All records of the starter folder, in the order of the file names and items; the same seed, the same records.

    Raises UserError where a task file is wrong.
    """
    if not origin.path.is_dir():
        raise UserError(f"{origin.path}: no such folder of task files")
    tables = load_tables(origin.path)
    for path in sorted(origin.path.glob("[!_]*/*.yaml")):
        for record in compose(path, sheets.read_as(TaskFile, path), tables, origin):
            yield Usable(f"{path.parent.name}/{path.name}", record)


def compose(path: Path, task: TaskFile, shared: dict[str, list[Row]], origin: Origin) -> Iterator[Record]:
    """The records of one task file; each item draws from its own seed, so a new item changes no other.

    Raises UserError where an item is wrong or gives no record.
    """
    name, tables = path.stem, shared | task.tables
    seen: set[str] = set()
    for item in task.items:
        source = random.Random(f"{origin.seed}/{name}/{digest(item.model_dump())}")
        found: dict[str, Record] = {}
        try:
            for fields, output, options in draws(item, task, tables, source):
                record = origin.record(name, path.parent.name, fields, [output], options)
                if record.id not in seen:
                    found[record.id] = record
                if len(found) == DRAWS:
                    break
        except (jinja2.TemplateError, LookupError, ValueError, TypeError, ArithmeticError) as error:
            raise UserError(f"{path}: item {item.fields}: {error}") from error
        if not found:
            raise UserError(f"{path}: item {item.fields}: gives no record of its own in {_TRIES} draws")
        seen |= found.keys()
        yield from found.values()


def draws(
    item: Item, task: TaskFile, tables: dict[str, list[Row]], source: random.Random
) -> Iterator[tuple[dict[str, str], str, list[str]]]:
    """Fields, output and options of an item, again and again with new values in its slots; once where it has none."""
    slots = used_slots(item, task)
    for _ in range(_TRIES if slots else 1):
        values = draw(slots, tables, source)
        if not item.where or holds(item.where, values):
            yield fill(item, task, values, source)


def used_slots(item: Item, task: TaskFile) -> dict[str, Slot]:
    """The slots that the item's texts mention, in a fixed order."""
    texts = [*item.fields.values(), item.output, *(item.options or [])]
    condition = "{{ " + item.where + " }}" if item.where else ""
    mentioned = frozenset[str]().union(*map(names_in, [*texts, condition]))
    return {name: slot for name, slot in sorted((task.slots | item.slots).items()) if name in mentioned}


def draw(slots: dict[str, Slot], tables: dict[str, list[Row]], source: random.Random) -> dict[str, object]:
    """A value for each slot; two slots of one table get different rows."""
    values: dict[str, object] = {}
    taken: dict[str, list[Row]] = {}
    for name, slot in slots.items():
        if isinstance(slot, Range):
            values[name] = source.randrange(slot.low, slot.high + 1, slot.step)
            continue
        if isinstance(slot, str) and slot not in tables:
            raise LookupError(f"slot {name!r}: no table {slot!r}; there are {', '.join(sorted(tables)) or 'none'}")
        rows = slot if isinstance(slot, list) else tables[slot]
        used = taken.setdefault(slot if isinstance(slot, str) else name, [])
        row = source.choice([row for row in rows if row not in used])
        used.append(row)
        values[name] = row
    return values


def fill(
    item: Item, task: TaskFile, values: dict[str, object], source: random.Random
) -> tuple[dict[str, str], str, list[str]]:
    """The item's fields, output and shuffled options with the slots filled. Raises ValueError where they disagree."""
    fields = {name: render_text(text, values) for name, text in item.fields.items()}
    output = render_text(item.output, values)
    options = [render_text(text, values) for text in (item.options or task.options)]
    if not output or not all(fields.values()):
        raise ValueError("a field or the output is empty")
    if options and output not in options:
        raise ValueError(f"the output {output!r} is none of the options {options}")
    if len(set(options)) != len(options):
        raise ValueError(f"an option stands twice in {options}")
    source.shuffle(options)
    return fields, output, options


FORMAT = Format("starter", (), read=read)
