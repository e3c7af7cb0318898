"""Token shards: sequences end to end in plain arrays, and the rows that they share, memory-mapped by training."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks import outputs, tables
from tasks.errors import UserError

Ints = npt.NDArray[np.int64]

KINDS = {"tokens": "<i4", "supervised": "|b1", "boundaries": "<i8", "members": "<i8", "rows": "<i8"}
"""The arrays of shards, and the number format of each."""

VALIDATION = "validation"
"""The folder, among a training's shards, of those for the validation loss."""


@dataclass(frozen=True)
class Shards:
    """The arrays of a packed data set.

    `tokens` (int32) and `supervised` (bool) hold all sequences end to end, in the order of their source; sequence s is
    the slice `boundaries[s]:boundaries[s + 1]`. Row r is the sequences `members[rows[r]:rows[r + 1]]`; a sequence that
    a budget leaves out is in no row. `index` tells the counts, and each array's length and digest.
    """

    folder: Path
    tokens: npt.NDArray[np.int32]
    supervised: npt.NDArray[np.bool_]
    boundaries: Ints
    members: Ints
    rows: Ints
    index: dict[str, Any]

    def row(self, number: int) -> dict[str, Any]:
        """Row `number`: its token ids, supervised flags and the lengths of its sequences, in order."""
        numbers = self._members(number)
        spans = [slice(self.boundaries[one], self.boundaries[one + 1]) for one in numbers]
        return {
            "ids": np.concatenate([self.tokens[span] for span in spans]),
            "supervised": np.concatenate([self.supervised[span] for span in spans]),
            "lengths": self.boundaries[numbers + 1] - self.boundaries[numbers],
        }

    def examples(self, number: int) -> list[str]:
        """The ids of the examples in row `number`."""
        found: dict[int, str] = {}
        wanted, start = self._members(number), 0
        for frame in tables.read_frames(self.folder / "sequences.parquet", ["id"]):
            here = wanted[(wanted >= start) & (wanted < start + len(frame))]
            found |= {int(one): frame["id"][int(one - start)] for one in here}
            start += len(frame)
        return [found[int(one)] for one in wanted]

    def __len__(self) -> int:
        return len(self.rows) - 1

    def _members(self, number: int) -> Ints:
        return np.asarray(self.members[self.rows[number] : self.rows[number + 1]])


class ArrayWriter:
    """Writes one array of unknown length to a .npy file, part by part, and its digest as it goes."""

    def __init__(self, folder: Path, name: str) -> None:
        self._kind = np.dtype(KINDS[name])
        self._file = (folder / f"{name}.npy").open("wb")
        self._digest = hashlib.sha256()
        self.items = 0
        self._head()

    def append(self, part: npt.NDArray[Any]) -> None:
        """Write the next items."""
        content = np.ascontiguousarray(part, self._kind).data
        self._digest.update(content)
        self._file.write(content)
        self.items += len(part)

    def close(self) -> dict[str, Any]:
        """End the file. Returns what the index holds of it."""
        self._file.seek(0)
        self._head()
        self._file.close()
        return {"items": self.items, "sha256": self._digest.hexdigest()}

    def __enter__(self) -> "ArrayWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _head(self) -> None:
        """The header, whose length does not depend on the number of items: numpy leaves room for it to grow."""
        described = {"descr": self._kind.str, "fortran_order": False, "shape": (self.items,)}
        np.lib.format.write_array_header_1_0(self._file, described)


def write_array(folder: Path, name: str, values: npt.NDArray[Any]) -> dict[str, Any]:
    """Write a whole array into `folder`. Returns what the index holds of it."""
    with ArrayWriter(folder, name) as writer:
        writer.append(values)
        return writer.close()


def write_index(folder: Path, index: dict[str, Any]) -> None:
    """Write the index; `arrays` in it holds what the writers of the arrays returned."""
    outputs.write_json(folder / "index.json", index)


def read_shards(folder: Path) -> Shards:
    """The shards in `folder`, memory-mapped. Raises UserError where there are none, or an array is not whole."""
    if not (folder / "index.json").is_file():
        raise UserError(f"{folder}: no token shards here yet; run: dvc repro pack")
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    arrays = {name: _mapped(folder / f"{name}.npy", index["arrays"][name]["items"]) for name in KINDS}
    return Shards(folder, **arrays, index=index)


def verify(folder: Path) -> None:
    """Compare every array's bytes with the digest in the index. Raises UserError where one differs."""
    shards = read_shards(folder)
    for name in KINDS:
        values = getattr(shards, name)
        if hashlib.sha256(values.data).hexdigest() != shards.index["arrays"][name]["sha256"]:
            raise UserError(f"{folder / name}.npy: its digest is not that of index.json; run: dvc repro -f pack")


def _mapped(path: Path, items: int) -> npt.NDArray[Any]:
    try:
        # An empty file cannot be mapped; an empty array takes no memory either.
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r" if items else None, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run: dvc repro -f pack") from error
    if len(found) != items:
        raise UserError(f"{path}: holds {len(found)} items, and index.json says {items}; run: dvc repro -f pack")
    return found
