"""Near duplicates: rows of which every text repeats that of an earlier row, found by MinHash (Broder 1997).

A text is the set of its word 5-grams. Two records are compared text by text, not as a whole, so that instances of one
task, which share a long instruction, are no duplicates, nor are rows that differ in a label or a number alone.

Candidates come from locality-sensitive hashing over 128 values of a whole record; they are then compared by 64 values
of each text, of which one byte is kept (b-bit minwise hashing, Li and König 2010; standard error about 0.05 at 0.8).
So a record takes 128 to 256 bytes of hashes and 64 a text: about 350 MB for a million records of three texts.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from rensa import RMinHash

from tasks.records import Record

_WORDS = 5
_WHOLE = 128
_EACH = 64
_SEED = 1
_MEMBERS = 8
"""Rows of one bucket that are compared; a phrase that a whole source shares would fill a bucket with all its rows."""

_WORD = re.compile(r"\w+")

Ints = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint32]


class Signatures(NamedTuple):
    """The hashes of n records: `bands` [n, bands] of the whole, `texts` [t, 64] of each text, `counts` [n] of texts."""

    bands: Hashes
    texts: npt.NDArray[np.uint8]
    counts: Ints

    def take(self, rows: list[int]) -> "Signatures":
        """The signatures of these records, in this order."""
        ends = np.cumsum(self.counts)
        texts = [self.texts[ends[row] - self.counts[row] : ends[row]] for row in rows]
        return Signatures(self.bands[rows], np.concatenate([self.texts[:0], *texts]), self.counts[rows])


def signatures(records: Sequence[Record], threshold: float) -> Signatures:
    """The signatures of records; runs in the processes that read them."""
    texts = [list(_grams(record)) for record in records]
    wholes = [[gram for text in record for gram in text] for record in texts]
    each = _minhash([text for record in texts for text in record], _EACH)
    byte = ((each.astype(np.uint64) * np.uint64(0x9E3779B1) >> np.uint64(24)) & np.uint64(255)).astype(np.uint8)
    return Signatures(_bands(_minhash(wholes, _WHOLE), threshold), byte, np.array([*map(len, texts)], dtype=np.int64))


class Index:
    """The records so far. Row numbers count from 0 in the order of `add`."""

    def __init__(self, threshold: float) -> None:
        # A byte agrees by chance once in 256; compared is the number of equal bytes.
        self._agreeing = _EACH * (threshold * 255 + 1) / 256
        self._rows = 0
        self._runs: list[npt.NDArray[np.uint64]] = []
        self._texts = np.empty((0, _EACH), dtype=np.uint8)
        self._ends: Ints = np.zeros(1, dtype=np.int64)
        self._dropped: set[int] = set()

    def add(self, batch: Signatures) -> dict[int, int]:
        """Add rows; those of them that repeat an earlier kept row, each with the row that it repeats."""
        first, self._rows = self._rows, self._rows + len(batch.counts)
        self._hold(batch, first)
        rows = np.arange(first, self._rows, dtype=np.uint64)
        entries = np.sort((batch.bands.astype(np.uint64) << np.uint64(32) | rows[:, None]).ravel())
        found = [pairs for run in [*self._runs, entries] for pairs in _together(entries, run)]
        self._store(entries)
        repeats: dict[int, int] = {}
        for later, earlier in self._alike(np.unique(np.concatenate(found), axis=0)) if found else ():
            if earlier not in self._dropped and later not in repeats:
                repeats[later] = earlier
                self._dropped.add(later)
        return repeats

    def _hold(self, batch: Signatures, first: int) -> None:
        ends = self._ends[first] + np.cumsum(batch.counts)
        self._ends = _grown(self._ends, first + 1 + len(ends))
        self._ends[first + 1 : first + 1 + len(ends)] = ends
        start = int(self._ends[first])
        self._texts = _grown(self._texts, start + len(batch.texts))
        self._texts[start : start + len(batch.texts)] = batch.texts

    def _store(self, entries: npt.NDArray[np.uint64]) -> None:
        # Sorted runs of falling size, merged as they grow: a lookup searches few, and an entry is moved a few times.
        self._runs.append(entries)
        while len(self._runs) > 1 and 2 * len(self._runs[-1]) > len(self._runs[-2]):
            last = self._runs.pop()
            self._runs[-1] = np.sort(np.concatenate([self._runs[-1], last]), kind="stable")

    def _alike(self, pairs: Ints) -> Iterator[tuple[int, int]]:
        """The pairs of which every text is alike, in order."""
        start, end = self._ends[pairs], self._ends[pairs + 1]
        counts = end - start
        alike = counts[:, 0] == counts[:, 1]
        for text in range(int(counts.max(initial=0))):
            open_ = np.flatnonzero(alike & (text < counts[:, 0]))
            later, earlier = (self._texts[start[open_, side] + text] for side in (0, 1))
            alike[open_] = (later == earlier).sum(axis=1) >= self._agreeing
        yield from ((int(later), int(earlier)) for later, earlier in pairs[alike])


def _grams(record: Record) -> Iterator[list[str]]:
    """The 5-grams of each text, marked with the text's name; a short text is one gram with its punctuation."""
    texts = {**record.fields, "\x00turns": "\n".join(record.turns), "\x00output": record.output}
    for name, text in sorted(texts.items()):
        words = _WORD.findall(text.lower())
        if len(words) < _WORDS:
            yield [f"{name}\x00{text.strip().lower()}"]
        else:
            yield [f"{name}\x00{' '.join(words[at : at + _WORDS])}" for at in range(len(words) - _WORDS + 1)]


def _minhash(sets: list[list[str]], values: int) -> Hashes:
    rows = RMinHash.digest_matrix_from_token_sets(sets, num_perm=values, seed=_SEED).to_rows() if sets else []
    return np.array(rows, dtype=np.uint32).reshape(len(sets), values)


def _bands(whole: Hashes, threshold: float) -> Hashes:
    """One hash for each band; 16 bands of 8 values find 95 % of the pairs at 0.8, 32 of 4 find 87 % at 0.5."""
    width = 8 if threshold >= 0.8 else 4
    bands = whole.reshape(len(whole), -1, width).astype(np.uint64)
    mixed = np.arange(1, bands.shape[1] + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for place in range(width):
        mixed = (mixed ^ bands[:, :, place]) * np.uint64(0x2545F4914F6CDD1D)
        mixed ^= mixed >> np.uint64(29)
    return (mixed >> np.uint64(32)).astype(np.uint32)


def _together(entries: npt.NDArray[np.uint64], run: npt.NDArray[np.uint64]) -> Iterator[Ints]:
    """Pairs [p, 2] of a later row of `entries` and an earlier one of `run` in the same bucket, some for each bucket."""
    low, high = np.uint64(0xFFFFFFFF), np.uint64(32)
    at = np.searchsorted(run, entries & ~low)
    for _ in range(_MEMBERS):
        met = run[np.minimum(at, len(run) - 1)]
        hit = (at < len(run)) & (met >> high == entries >> high) & (met < entries)
        if not hit.any():
            return
        yield np.stack([entries[hit] & low, met[hit] & low], axis=1).astype(np.int64)
        at += 1


def _grown(array: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """The array with room for `size` rows; it doubles, so that growing costs each row a fixed time."""
    if size <= len(array):
        return array
    room = np.empty((max(size, 2 * len(array)), *array.shape[1:]), dtype=array.dtype)
    room[: len(array)] = array
    return room
