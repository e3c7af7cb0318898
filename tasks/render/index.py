"""The index of what the benchmarks ask: every run of words that tells a document, as a number.

It lies in a folder, so that each process that looks records up maps the same memory.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.params import Decontaminate
from tasks.render import ngrams
from tasks.render.ngrams import Numbers, Words

WORDING = 10, 0.2
"""Documents, and share of a benchmark's documents, above which what they have in common is the benchmark's wording."""


class Asked(NamedTuple):
    """A document of a benchmark: the texts of its record, and the prompt it is asked in."""

    benchmark: str
    document: str
    texts: Sequence[str]
    prompt: str = ""


class Index(NamedTuple):
    """The runs of words by number, ascending, each with the place of its document in `asked`.

    `seen` tells of the first bits of a number, quickly, whether it may be one of them. `lengths` are the words of runs.
    """

    runs: Numbers
    documents: NDArray[np.int32]
    seen: NDArray[np.bool_]
    lengths: NDArray[np.int64]
    asked: pl.DataFrame
    """Columns benchmark, document, and said: its texts in plain words."""

    def find(self, numbers: Numbers) -> NDArray[np.int64]:
        """The places of those numbers that are in the index."""
        places = np.flatnonzero(self.seen[_slots(numbers, len(self.seen))])
        near = np.searchsorted(self.runs, numbers[places])
        return np.asarray(places[self.runs[np.minimum(near, len(self.runs) - 1)] == numbers[places]])

    def owners(self, number: np.uint64) -> list[int]:
        """The documents that have a run of this number."""
        first, last = np.searchsorted(self.runs, number, "left"), np.searchsorted(self.runs, number, "right")
        return list(self.documents[first:last].tolist())

    def name(self, document: int) -> tuple[str, str]:
        """The benchmark and the id of a document."""
        return self.asked["benchmark"][document], self.asked["document"][document]

    def says(self, document: int, phrase: str) -> bool:
        """Whether the phrase stands word by word in a text of the document."""
        return any(f" {phrase} " in f" {text} " for text in self.asked["said"][document])


def write(documents: Iterable[Asked], wanted: Decontaminate, folder: Path) -> None:
    """Write the index of the documents into `folder`."""
    asked = list(documents)
    names = pl.DataFrame([one[:2] for one in asked], {"benchmark": pl.String, "document": pl.String}, orient="row")
    rows = [row for place, one in enumerate(asked) for row in _texts(place, one)]
    texts = pl.DataFrame(rows, {"place": pl.Int32, "form": pl.String, "text": pl.String}, orient="row")
    words = ngrams.words(texts["text"])
    owned = texts.select("place", "form", benchmark=names["benchmark"].gather(texts["place"]))
    runs = _telling(_runs(owned, words, wanted), names["benchmark"].value_counts(name="size"), wanted.words)
    numbers = runs["run"].to_numpy()
    seen = np.zeros(2 ** max(16, (16 * len(runs)).bit_length()), bool)
    seen[_slots(numbers, len(seen))] = True
    arrays = (numbers, runs["place"].to_numpy(), seen, runs["length"].unique().sort().to_numpy())
    for name, array in zip(Index._fields, arrays, strict=False):
        np.save(folder / f"{name}.npy", array)
    spaced = words.texts.str.replace_all(" +", " ").str.strip_chars(" ")
    said = texts.select("place", said=spaced).group_by("place", maintain_order=True).agg("said")
    names.with_columns(said["said"]).write_parquet(folder / "asked.parquet")


@cache
def load(folder: Path) -> Index:
    """The index that `write` wrote."""
    runs, documents, seen, lengths = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in Index._fields[:-1])
    return Index(runs, documents, seen, lengths, pl.read_parquet(folder / "asked.parquet"))


def _texts(place: int, asked: Asked) -> list[tuple[int, str, str]]:
    each = [(place, "text", text) for text in asked.texts]
    return [*each, (place, "all", "\n".join(asked.texts)), (place, "prompt", asked.prompt)]


def _runs(owned: pl.DataFrame, words: Words, wanted: Decontaminate) -> pl.DataFrame:
    """The runs of `wanted.words` words of every text, and each shorter text as a whole that is long enough."""
    sizes, places = np.diff(words.starts), np.arange(len(words.numbers))
    frames = []
    for length, numbers in ngrams.runs(words.numbers, range(min(wanted.shortest, wanted.words), wanted.words + 1)):
        begins = words.within(places, length)
        if length < wanted.words:
            begins = begins[sizes[words.owners(begins)] == length]
        found = owned[words.owners(begins)]
        frames.append(found.with_columns(pl.Series("run", numbers[begins]), length=pl.lit(length, pl.Int64)))
    return pl.concat(frames)


def _telling(runs: pl.DataFrame, sizes: pl.DataFrame, words: int) -> pl.DataFrame:
    """The runs that tell a document from others of its benchmark, by number.

    Words of a prompt and short texts count where they are one document's; longer texts, a passage say, where they are
    not those of so many documents that they must be the benchmark's wording.
    """
    most, share = WORDING
    alone = (pl.col("form") == "prompt") | ((pl.col("form") == "text") & (pl.col("length") < words))
    limit = pl.when(alone).then(1).otherwise(pl.max_horizontal(most, share * pl.col("size")))
    shared = pl.col("place").n_unique().over("benchmark", "form", "run")
    telling = runs.join(sizes, on="benchmark").filter(shared <= limit)
    return telling.select("run", "place", "length").unique(["run", "place"]).sort("run", "place")


def _slots(numbers: Numbers, size: int) -> NDArray[np.int64]:
    return (numbers >> np.uint64(64 - size.bit_length() + 1)).astype(np.int64)
