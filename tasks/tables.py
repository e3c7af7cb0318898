"""Tables of many rows as Parquet files, written and read part by part, so that memory stays bounded."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

Row = TypeVar("Row")

ROWS_PER_GROUP = 8_192
"""Rows of a Parquet row group: what a reader holds in memory at once."""


class TableWriter:
    """Writes a Parquet file frame by frame; equal rows give equal bytes, whatever the frames they came in."""

    def __init__(self, path: Path, schema: pl.Schema) -> None:
        self._arrow = schema.to_frame().to_arrow().schema
        self._file = pq.ParquetWriter(path, self._arrow, compression="zstd", compression_level=1)
        self._waiting = schema.to_frame()
        self.rows = 0

    def write(self, frame: pl.DataFrame) -> None:
        """Append the rows of a frame."""
        self._waiting = pl.concat([self._waiting, frame])
        while len(self._waiting) >= ROWS_PER_GROUP:
            self._flush(ROWS_PER_GROUP)

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, *error: Any) -> None:
        if error[0] is None and len(self._waiting):
            self._flush(len(self._waiting))
        self._file.close()

    def _flush(self, rows: int) -> None:
        group, self._waiting = self._waiting[:rows], self._waiting[rows:]
        self._file.write_table(group.to_arrow().cast(self._arrow), row_group_size=rows)
        self.rows += rows


def write_rows(
    path: Path, rows: Iterable[Row], to_frame: Callable[[Sequence[Row]], pl.DataFrame], schema: pl.Schema
) -> int:
    """Write rows to a Parquet file, a row group at a time, and return how many."""
    waiting = iter(rows)
    with TableWriter(path, schema) as table:
        while batch := list(itertools.islice(waiting, ROWS_PER_GROUP)):
            table.write(to_frame(batch))
    return table.rows


def read_frames(path: Path, columns: list[str] | None = None) -> Iterator[pl.DataFrame]:
    """The row groups of a Parquet file, one after the other."""
    with pq.ParquetFile(path) as file:
        for number in range(file.num_row_groups):
            yield cast(pl.DataFrame, pl.from_arrow(file.read_row_group(number, columns=columns)))


def count(path: Path) -> int:
    """The rows of a Parquet file."""
    with pq.ParquetFile(path) as file:
        return int(file.metadata.num_rows)


def read_group(path: Path, number: int, columns: list[str] | None = None) -> pl.DataFrame:
    """One row group of a Parquet file."""
    with pq.ParquetFile(path) as file:
        return cast(pl.DataFrame, pl.from_arrow(file.read_row_group(number, columns=columns)))


def frame_of(rows: Sequence[Sequence[Any]], schema: pl.Schema) -> pl.DataFrame:
    """A table with the columns of `schema` from rows that hold their values in that order.

    It goes through Arrow, which takes lists of Python texts some fifty times as fast as Polars does.
    """
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrow = schema.to_frame().to_arrow().schema
    arrays = [pa.array(values, field.type) for field, values in zip(arrow, columns, strict=True)]
    return cast(pl.DataFrame, pl.from_arrow(pa.Table.from_arrays(arrays, schema=arrow)))
