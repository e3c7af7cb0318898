"""A record: one raw row made uniform; a reject: one that could not be; and the files that hold many of them."""

import hashlib
import itertools
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import orjson
import polars as pl

from tasks import tables

_NAME = 60
"""Characters of a name at most."""


class Record(NamedTuple):
    """One row of a source.

    `fields` are the named texts that a template may use (`instruction` and `input` for a row that brings its
    own instruction; `premise` and `hypothesis` for an inference row). `outputs` are the accepted answers, the
    first of which is trained on. `options` are the answers to choose from; empty when the answer is free text.
    `turns` are the texts before the answer in a conversation of several turns, the user's and the assistant's in
    turn, beginning and ending with the user's; empty for a single question. `system` is the row's own system message.
    `person` is the digest of whose record it is (`person_digest`), where the source says so.
    """

    id: str
    task: str
    cluster: str
    source: str
    licence: str
    fields: dict[str, str]
    outputs: list[str]
    options: list[str] = []  # noqa: RUF012 - shared and never changed
    turns: list[str] = []  # noqa: RUF012
    system: str = ""
    person: str = ""

    @property
    def output(self) -> str:
        """The answer that is trained on."""
        return self.outputs[0]


class Reject(NamedTuple):
    """A row that cannot be used: where it stands (a line, or a row of an array), why, and how it begins."""

    source: str
    place: str
    reason: str
    row: str


def digest(value: object, length: int = 16) -> str:
    """The first `length` hex digits of the SHA-256 over the JSON of `value` with its keys sorted."""
    text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    return hashlib.sha256(text).hexdigest()[:length]


def slug(text: str) -> str:
    """A name in the form of `params.Name` (a-z, 0-9, `_`, `-`, at most 60 characters) for a task or a cluster.

    A text that is too long, or of which no letter can stand in a name, is told from others by its digest.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    name = re.sub(r"[^a-z0-9_-]+", "_", plain).strip("_-")
    if 0 < len(name) <= _NAME:
        return name
    return f"{name[: _NAME - 9]}_{digest(text, 8)}".lstrip("_")


def content_of(identity: str) -> str:
    """The part of a record's id that says what the record holds: equal texts have equal ones, whatever their source."""
    return identity.rpartition("/")[2]


def person_digest(name: str) -> str:
    """What stands for a person where the name itself must not."""
    return digest(["person", name.strip()], 64)


def write_lines(path: Path, rows: Iterable[object]) -> int:
    """Write one JSON object a line to `path` and return how many."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        return sum(bool(file.write(json.dumps(row, ensure_ascii=False) + "\n")) for row in rows)


_TEXT: pl.DataType = pl.String()
_TEXTS: pl.DataType = pl.List(pl.String)

SCHEMA = pl.Schema(
    {
        "id": _TEXT,
        "task": _TEXT,
        "cluster": _TEXT,
        "source": _TEXT,
        "licence": _TEXT,
        "field_names": _TEXTS,
        "field_texts": _TEXTS,
        "outputs": _TEXTS,
        "options": _TEXTS,
        "turns": _TEXTS,
        "system": _TEXT,
        "person": _TEXT,
    }
)
"""The columns of a records file: a record's, with `fields` as two lists."""


def to_frame(records: Iterable[Record]) -> pl.DataFrame:
    """Records as a table with the columns of `SCHEMA`."""
    rows = [(*record[:5], list(record.fields), list(record.fields.values()), *record[6:]) for record in records]
    return tables.frame_of(rows, SCHEMA)


def from_frame(frame: pl.DataFrame) -> list[Record]:
    """The records of a table that `to_frame` made."""
    columns = [frame[name].to_list() for name in SCHEMA]
    fields = [dict(zip(names, texts, strict=True)) for names, texts in zip(*columns[5:7], strict=True)]
    return [Record(*row) for row in zip(*columns[:5], fields, *columns[7:], strict=True)]


def write_records(path: Path, records: Iterable[Record]) -> int:
    """Write records to a Parquet file and return how many."""
    return tables.write_rows(path, records, to_frame, SCHEMA)


def read_records(path: Path) -> Iterator[Record]:
    """The records of a file that `write_records` wrote."""
    return itertools.chain.from_iterable(map(from_frame, tables.read_frames(path)))
