"""A data set of a hub, or a folder in a hub's layout, named by a file NAME.hub.yaml, read as a stream.

The file says `dataset` (the id, `owner/name`, or a folder), `revision` (what pins it), `split`, and `config` where the
data set has several. No code of the data set is run: the library reads data files alone.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from tasks import outputs, sheets
from tasks.errors import UserError
from tasks.ingest.containers.block import Block, batches

SUFFIX = ".hub.yaml"

_COMMIT = re.compile("[0-9a-f]{40}")


class DataSet(BaseModel):
    """Which rows of which data set, pinned."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dataset: str
    """The hub's id (`owner/name`), or a folder in a hub's layout, relative to the repository's root or absolute."""
    revision: str
    """The hub's full commit hash, or the folder's digest."""
    split: str
    """The split's name, `train` for instance."""
    config: str | None = None
    """The configuration, where the data set has several."""


def blocks(path: Path, file: str) -> Iterator[Block]:
    """The split's rows in blocks. Raises UserError where the data set is not pinned or cannot be read."""
    wanted = sheets.read_as(DataSet, path)
    _check_pinned(path, wanted)
    yield from batches(_rows(path, wanted), file, "row")


def _check_pinned(path: Path, wanted: DataSet) -> None:
    folder = Path(wanted.dataset)
    if folder.is_dir():
        found = outputs.digest_path(folder)
        if found != wanted.revision:
            raise UserError(f"{path}: revision: the digest of {folder} is {found}, not {wanted.revision}")
    elif not _COMMIT.fullmatch(wanted.revision):
        raise UserError(
            f"{path}: revision: {wanted.revision!r} is no full commit hash (40 hex digits); a branch or a tag may move"
        )


def _rows(path: Path, wanted: DataSet) -> Iterator[tuple[int, object, int]]:
    import datasets  # takes seconds to import, and only these sources need it

    try:
        stream = datasets.load_dataset(
            wanted.dataset, wanted.config, revision=wanted.revision, split=wanted.split, streaming=True
        )
        named = _label_names(stream.features or {})
        for number, row in enumerate(stream, start=1):
            value = {name: named[name](cell) if name in named else cell for name, cell in row.items()}
            yield number, value, sum(len(cell) for cell in row.values() if isinstance(cell, str))
    except (OSError, ValueError, TypeError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{path}: {wanted.dataset}, split {wanted.split!r}: cannot be read: {reason}") from error


def _label_names(features: Any) -> dict[str, Callable[[Any], Any]]:
    """What turns the number of a class into its name, for each column of classes."""
    columns = {name: column for name, column in features.items() if hasattr(column, "int2str")}
    return {
        name: lambda cell, column=column: cell if cell is None or cell < 0 else column.int2str(cell)  # type: ignore[misc]
        for name, column in columns.items()
    }
