"""CSV and TSV files: the first line names the columns, every cell is text, empty where nothing stands."""

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path

from tasks.errors import UserError
from tasks.ingest.containers import stream
from tasks.ingest.containers.block import LONGEST, Block, Fault, batches

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_NO_UTF_8 = re.compile("[\udc80-\udcff]")

csv.field_size_limit(LONGEST)


def blocks(path: Path, file: str) -> Iterator[Block]:
    """The rows in blocks; a row's number is that of the line where it begins.

    Raises UserError where the first line does not name each column once.
    """
    delimiter = next(mark for suffix, mark in _DELIMITERS.items() if suffix in path.name.lower())
    sheet = _Sheet(path, delimiter)
    _, header = next(sheet)
    if isinstance(header, Fault):
        raise UserError(f"{path}: line 1: {header.reason}")
    names = [name.strip() for name in header]
    wrong = sorted({repr(name) for name in names if not name or names.count(name) > 1})
    if wrong:
        raise UserError(f"{path}: line 1 must name each column once: {', '.join(wrong)} is empty or stands twice")
    yield from batches(_rows(sheet, names), file, "line")


def _rows(sheet: "_Sheet", names: list[str]) -> Iterator[tuple[int, object, int]]:
    for number, cells in sheet:
        if isinstance(cells, Fault):
            yield number, cells, 0
        else:
            text = "".join(cells)
            yield number, _row(cells, names, text), len(text)


def _row(cells: list[str], names: list[str], text: str) -> dict[str, str] | Fault:
    if len(cells) != len(names):
        return Fault(f"columns: {len(cells)} in this row and {len(names)} in the first line", cells)
    if not text.isascii() and _NO_UTF_8.search(text):
        return Fault("not UTF-8: a byte that begins no character", text)
    return dict(zip(names, cells, strict=True))


class _Sheet:
    """The rows of a CSV file as lists of cells, each with the number of its first line, or its fault."""

    def __init__(self, path: Path, delimiter: str) -> None:
        self._path = path
        self._lines: list[str] = []
        self._reader = csv.reader(self._texts(), delimiter=delimiter, strict=True)

    def __iter__(self) -> "_Sheet":
        return self

    def __next__(self) -> tuple[int, list[str] | Fault]:
        while True:
            self._lines.clear()
            number = self._reader.line_num + 1
            try:
                if cells := next(self._reader):
                    return number, cells
            except csv.Error as error:
                return number, Fault(f"no valid CSV: {error}", "".join(self._lines)[:2_000])

    def _texts(self) -> Iterator[str]:
        """The lines; a byte that is no UTF-8 is carried along as half of a surrogate pair, so that its row is told."""
        for first, lines in stream.lines(stream.parts(self._path)):
            if isinstance(lines, Fault):
                raise UserError(f"{self._path}: line {first}: {lines.reason}")
            for line in io.StringIO(lines.decode("utf-8", errors="surrogateescape"), newline="\n"):
                self._lines.append(line)
                yield line
