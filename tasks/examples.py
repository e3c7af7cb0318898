"""An example: a rendered (prompt, completion) pair, or conversation, that remembers its record and its template."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tasks import tables


class Example(NamedTuple):
    """What is trained on; no text carries chat markup yet.

    `turns` are the user's and the assistant's texts in turn; every assistant turn is learnt, everything else is
    masked. `shots` are rendered exemplars that stand before the first turn, as many as fit, and
    `exemplars` the ids of their records; `system` is the record's own system message, empty where the run's is taken.
    """

    id: str
    record: str
    task: str
    cluster: str
    template: str
    template_hash: str
    kind: str
    turns: list[str]
    shots: list[str] = []  # noqa: RUF012 - shared and never changed
    system: str = ""
    exemplars: list[str] = []  # noqa: RUF012

    @property
    def prompt(self) -> str:
        """What the model reads first: the exemplars and the first turn."""
        return "\n\n".join([*self.shots, self.turns[0]])

    @property
    def completion(self) -> str:
        """The last answer."""
        return self.turns[-1]


_TEXT: pl.DataType = pl.String()
_TEXTS: pl.DataType = pl.List(pl.String)

SCHEMA = pl.Schema(
    {
        "id": _TEXT,
        "record": _TEXT,
        "task": _TEXT,
        "cluster": _TEXT,
        "template": _TEXT,
        "template_hash": _TEXT,
        "kind": _TEXT,
        "turns": _TEXTS,
        "shots": _TEXTS,
        "system": _TEXT,
        "exemplars": _TEXTS,
    }
)
"""The columns of an examples file: an example's."""


def to_frame(examples: Sequence[Example]) -> pl.DataFrame:
    """Examples as a table with the columns of `SCHEMA`."""
    return tables.frame_of(examples, SCHEMA)


def from_frame(frame: pl.DataFrame) -> list[Example]:
    """The examples of a table that `to_frame` made."""
    return [Example(*row) for row in zip(*(frame[name].to_list() for name in SCHEMA), strict=True)]


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write examples to a Parquet file and return how many."""
    return tables.write_rows(path, examples, to_frame, SCHEMA)


def read_examples(path: Path) -> Iterator[Example]:
    """The examples of a file that `write_examples` wrote."""
    return itertools.chain.from_iterable(map(from_frame, tables.read_frames(path)))
