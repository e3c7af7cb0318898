"""Parquet files, read some thousand rows at a time."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import UserError
from tasks.ingest.containers.block import Block, batches

_ROWS = 2_000


def blocks(path: Path, file: str) -> Iterator[Block]:
    """The rows in blocks. Raises UserError where the file is no Parquet or names a column twice."""
    try:
        yield from batches(_rows(path), file, "row")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: no readable Parquet file: {error}") from error


def _rows(path: Path) -> Iterator[tuple[int, object, int]]:
    number = 0
    with pq.ParquetFile(path) as table:
        names = table.schema_arrow.names
        if len(set(names)) < len(names):
            raise UserError(f"{path}: a column stands twice among {', '.join(names)}")
        for batch in table.iter_batches(_ROWS):
            size = batch.nbytes // max(1, len(batch))
            for value in batch.to_pylist():
                number += 1
                yield number, value, size
