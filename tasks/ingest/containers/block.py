"""A block: the part of a file that one process turns into records."""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, NamedTuple

LONGEST = 64 * 2**20
"""Bytes of one row at most; what is longer is refused instead of held in memory."""

_BYTES, _ROWS = 4 * 2**20, 2_000


class Fault(NamedTuple):
    """A row that could not be read: why, and how it begins."""

    reason: str
    shown: object


class Block(NamedTuple):
    """Rows of one file that are neighbours: unparsed JSON, or values that are parsed already, each with its number.

    `file` is the file's path in a folder source, empty where the source is that file. Unparsed lines count from
    `first`; the unit `object` is a whole file that holds one JSON object.
    """

    file: str
    unit: Literal["line", "row", "object"]
    content: bytes | list[tuple[int, Any]]
    first: int = 1


def batches(rows: Iterable[tuple[int, object, int]], file: str, unit: Literal["line", "row"]) -> Iterator[Block]:
    """Blocks of parsed rows; `rows` are numbers, values and sizes in bytes, and few large rows fill a block too."""
    waiting: list[tuple[int, Any]] = []
    held = 0
    for number, value, size in rows:
        waiting.append((number, value))
        held += size
        if len(waiting) == _ROWS or held >= _BYTES:
            yield Block(file, unit, waiting)
            waiting, held = [], 0
    if waiting:
        yield Block(file, unit, waiting)
