"""The catalogue: of each record of all sources where it stands, its task and two hashes, some 22 bytes a record.

The mixture, the hold-out and decontamination decide on it; the records themselves stay in their files.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
import xxhash
from numpy.typing import NDArray

from tasks import tables
from tasks.errors import UserError
from tasks.records import Record, from_frame

Mask = NDArray[np.bool_]
"""One truth value for each record of the catalogue."""


class Task(NamedTuple):
    """A task of a cluster; two clusters may use one name."""

    cluster: str
    name: str


class Group(NamedTuple):
    """A row group of a records file; its records are `start` to `stop` of the catalogue."""

    path: Path
    number: int
    start: int
    stop: int


@dataclass(frozen=True)
class Catalogue:
    """What is known of all records, in the order of the sources and of their rows."""

    sources: list[str]
    tasks: list[Task]
    groups: list[Group]
    source: NDArray[np.int16]
    """The place of each record's source in `sources`."""
    task: NDArray[np.int32]
    """The place of each record's task in `tasks`."""
    keys: NDArray[np.uint64]
    """A hash of the seed and the record's id: who comes first wherever some are chosen."""
    content: NDArray[np.uint64]
    """A hash of what the record says, the last part of its id."""

    @classmethod
    def read(cls, folder: Path, sources: list[str], seed: int) -> "Catalogue":
        """The catalogue of the named sources. Raises UserError where one was not ingested yet."""
        groups: list[Group] = []
        places: dict[Task, int] = {}
        columns: list[_Columns] = []
        for source, path in enumerate(_files(folder, sources)):
            for number, frame in enumerate(tables.read_frames(path, ["id", "task", "cluster"])):
                start = groups[-1].stop if groups else 0
                groups.append(Group(path, number, start, start + len(frame)))
                columns.append(_columns(frame, source, places, seed))
        joined = [np.concatenate(parts) for parts in zip(_NONE, *columns, strict=True)]
        return cls(sources, list(places), groups, *joined)

    def of_sources(self, names: Collection[str]) -> Mask:
        """The records of these sources."""
        return np.array([name in names for name in self.sources], bool)[self.source]

    def of_clusters(self, names: Collection[str]) -> Mask:
        """The records of these clusters."""
        return np.array([task.cluster in names for task in self.tasks], bool)[self.task]

    def tasks_of(self, among: Mask) -> list[Task]:
        """The tasks of these records."""
        return [self.tasks[place] for place in np.unique(self.task[among])]

    def counts(self, among: Mask) -> NDArray[np.int64]:
        """How many of these records each task has."""
        return np.bincount(self.task[among], minlength=len(self.tasks))

    def repeated(self, among: Mask) -> Mask:
        """Which of these records say what a record of an earlier source among them says."""
        rows = np.flatnonzero(among)
        _, first, inverse = np.unique(self.content[rows], return_index=True, return_inverse=True)
        found = np.zeros(len(among), bool)
        found[rows] = self.source[rows] > self.source[rows][first][inverse]
        return found

    def first(self, among: Mask, most: NDArray[np.int64]) -> Mask:
        """Of these records the first ones of each task by key, `most[task]` of them at most."""
        rows = np.flatnonzero(among)
        rows = rows[np.lexsort((self.keys[rows], self.task[rows]))]
        counts = np.bincount(self.task[rows], minlength=len(self.tasks))
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        found = np.zeros(len(among), bool)
        found[rows[rank < most[self.task[rows]]]] = True
        return found

    def parts(self, among: Mask) -> Iterator[tuple[Group, Mask]]:
        """The row groups that hold some of these records, each with the mask of its own rows."""
        for group in self.groups:
            mask = among[group.start : group.stop]
            if mask.any():
                yield group, mask

    def records(self, among: Mask) -> Iterator[Record]:
        """These records, in the catalogue's order."""
        for group, mask in self.parts(among):
            yield from from_frame(tables.read_group(group.path, group.number).filter(mask))


class _Columns(NamedTuple):
    source: NDArray[np.int16]
    task: NDArray[np.int32]
    keys: NDArray[np.uint64]
    content: NDArray[np.uint64]


_NONE = _Columns(np.empty(0, np.int16), np.empty(0, np.int32), np.empty(0, np.uint64), np.empty(0, np.uint64))


def _files(folder: Path, sources: list[str]) -> list[Path]:
    paths = [folder / name / "records.parquet" for name in sources]
    missing = [name for name, path in zip(sources, paths, strict=True) if not path.is_file()]
    if missing:
        raise UserError(f"{folder}: no records of {', '.join(missing)} yet; run: dvc repro render")
    return paths


def _columns(frame: pl.DataFrame, source: int, places: dict[Task, int], seed: int) -> _Columns:
    """The catalogue's columns of a part; `places` gets the tasks that are new in it."""
    names = frame.select("cluster", "task")
    distinct = names.unique(maintain_order=True)
    codes = [places.setdefault(Task(*row), len(places)) for row in distinct.iter_rows()]
    coded = distinct.with_columns(pl.Series("code", codes, pl.Int32))
    task = names.join(coded, on=["cluster", "task"], maintain_order="left")["code"].to_numpy()
    keys = np.fromiter(
        (xxhash.xxh3_64_intdigest(name, seed) for name in frame["id"].cast(pl.Binary)), np.uint64, len(frame)
    )
    content = frame["id"].str.split("/").list.last().hash().to_numpy()
    return _Columns(np.full(len(frame), source, np.int16), task, keys, content)
