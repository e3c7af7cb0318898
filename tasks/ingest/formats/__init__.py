"""The formats by name. A new format is a file here with a `FORMAT`, and its place in this list."""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from tasks import errors, guards
from tasks.errors import UserError
from tasks.ingest import files, licence
from tasks.ingest.containers import json_array
from tasks.ingest.containers.block import Block
from tasks.ingest.formats import (
    alpaca,
    dolly,
    gpteacher,
    labelled,
    messages,
    prompt_response,
    self_instruct,
    sharegpt,
    starter,
    superni,
    unnatural,
)
from tasks.ingest.formats.form import Format, Unusable, optional
from tasks.ingest.origin import Origin, Row, Usable, reject
from tasks.records import Record, Reject, person_digest

_FORMS = (
    starter, superni, self_instruct, unnatural, messages, sharegpt, dolly, alpaca, gpteacher, prompt_response, labelled,
)  # fmt: skip

FORMATS: dict[str, Format] = {form.FORMAT.name: form.FORMAT for form in _FORMS}
"""In the order in which `auto` tries them: the more particular first."""

_LOOKED_AT = 20
"""Rows that `auto` looks at."""


def choose(origin: Origin) -> str:
    """The name of the source's format; `auto` looks at the first rows, takes what most of them fit, and says so.

    Raises UserError where the format is unknown, or where `auto` fits none.
    """
    guards.known(f"ingest.sources.{origin.name}.format", [origin.format], [*FORMATS, "auto"])
    if origin.format != "auto":
        return origin.format
    seen = _first_rows(origin)
    fitting = {name: sum(map(form.fits, seen)) for name, form in FORMATS.items()}
    best = max(fitting, key=lambda name: fitting[name])
    if not fitting[best]:
        raise UserError(_nothing_fits(origin, seen))
    print(f"format {best}: {fitting[best]} of the first {len(seen)} rows of {origin.path} have {FORMATS[best].needs}")
    return best


def blocks(form: str, origin: Origin) -> Iterable[Block | None]:
    """The source in parts that processes can share; a form that reads by itself is one part."""
    return [None] if FORMATS[form].read else files.blocks(origin)


def read(form: str, block: Block | None, origin: Origin) -> Iterator[Usable | Reject]:
    """What becomes of each row of a block in this format."""
    wanted = FORMATS[form]
    if wanted.read is not None:
        yield from wanted.read(origin)
    for row in _rows(wanted, block, origin) if block else ():
        if isinstance(row, Reject):
            yield row
            continue
        try:
            yield Usable(row.place, _named(wanted.record(row, origin), row, origin))  # type: ignore[misc]
        except Unusable as fault:
            yield reject(origin, row.place, str(fault), row.value)


def persons_are_named(form: str, origin: Origin) -> None:
    """The field that says whose a row is can be found. Raises UserError where the first rows have no such field."""
    if origin.person is None:
        return
    fields = {key for row in _first_rows(origin) for key in row} if FORMATS[form].read is None else set()
    if origin.person not in fields:
        raise UserError(
            f"ingest.sources.{origin.name}.person: no row of {origin.path} has a field {origin.person};"
            f" {errors.suggestion(origin.person, fields)}"
        )


def _rows(form: Format, block: Block, origin: Origin) -> Iterator[Row | Reject]:
    """The block's rows, and in their places the instances of those that hold several."""
    for row in files.rows(block, origin):
        if isinstance(row, Row) and block.unit == "object" and not form.whole_file:
            raise json_array.no_array(origin.path / block.file, row.value)
        if form.instances is None or isinstance(row, Reject):
            yield row
            continue
        try:
            yield from form.instances(row)
        except Unusable as fault:
            yield reject(origin, row.place, str(fault), row.value)


def _named(record: Record, row: Row, origin: Origin) -> Record:
    """The record with what the row itself says about its licence and whose it is."""
    for key in ("licence", "license"):
        if key in row.value and (name := optional(row.value, key)):
            record = record._replace(licence=licence.spdx(name))
    if origin.person is not None:
        record = record._replace(person=_person(row.value, origin.person))
    return record


def _person(values: dict[str, Any], name: str) -> str:
    """Whose row it is, by a digest of the name or the number; empty where the row does not say it."""
    value = values.get(name)
    told = str(value) if isinstance(value, int) else optional(values, name)
    return person_digest(told) if told.strip() else ""


def _first_rows(origin: Origin) -> list[dict[str, Any]]:
    rows = (row for block in files.blocks(origin) for row in files.rows(block, origin))
    usable = (row.value for row in rows if isinstance(row, Row))
    return list(itertools.islice(usable, _LOOKED_AT))


def _nothing_fits(origin: Origin, seen: list[dict[str, Any]]) -> str:
    if not seen:
        key = f"ingest.sources.{origin.name}.format"
        return f"{origin.path}: no row of it can be read, so no format can be found; name it in {key} to see why"
    keys = set(seen[0])
    known = [form for form in FORMATS.values() if form.keys]
    nearest = sorted(known, key=lambda form: -sum(bool(keys & set(group)) for group in form.keys) / len(form.keys))
    listed = "".join(f"\n  {form.name}: {form.needs}" for form in nearest)
    held = ", ".join(sorted(keys)) or "no keys"
    return f"{origin.path}: no format fits; the first row has {held}, and the formats need, nearest first:{listed}"
