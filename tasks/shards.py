"""Token shards: packed rows of sequences as plain arrays, memory-mapped by training."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.errors import UserError

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Shards:
    """The arrays of a packed data set.

    `tokens` (int32) and `supervised` (bool) hold all sequences end to end; sequence s is the slice
    `boundaries[s]:boundaries[s + 1]`, and row r is the sequences `rows[r]:rows[r + 1]`. `index` names each sequence's
    example and tells the counts.
    """

    tokens: npt.NDArray[np.int32]
    supervised: npt.NDArray[np.bool_]
    boundaries: Ints
    rows: Ints
    index: dict[str, Any]

    def row(self, number: int) -> dict[str, Any]:
        """Row `number`: its token ids, supervised flags and the lengths of its sequences, in order."""
        first, last = self.rows[number], self.rows[number + 1]
        span = slice(self.boundaries[first], self.boundaries[last])
        lengths = np.diff(self.boundaries[first : last + 1])
        return {"ids": self.tokens[span], "supervised": self.supervised[span], "lengths": lengths}

    def examples(self, number: int) -> list[str]:
        """The ids of the examples in row `number`."""
        return list(self.index["examples"][self.rows[number] : self.rows[number + 1]])

    def __len__(self) -> int:
        return len(self.rows) - 1


_ARRAYS = ("tokens", "supervised", "boundaries", "rows")


def write_shards(folder: Path, shards: Shards) -> None:
    """Write the arrays and the index into an existing folder."""
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(shards, name), allow_pickle=False)
    text = json.dumps(shards.index, indent=1, sort_keys=True, ensure_ascii=False)
    (folder / "index.json").write_text(text + "\n", encoding="utf-8")


def read_shards(folder: Path) -> Shards:
    """The shards in `folder`, memory-mapped. Raises UserError where there are none."""
    if not (folder / "index.json").is_file():
        raise UserError(f"{folder}: no token shards here yet; run: dvc repro pack")
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in _ARRAYS}
    return Shards(**arrays, index=json.loads((folder / "index.json").read_text(encoding="utf-8")))
