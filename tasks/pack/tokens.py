"""Examples as tokens: which are read, which are learnt. The guards of a single example stand here.

Runs in processes of its own, which load nothing but the tokenizer.
"""

import hashlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from tasks import examples, guards
from tasks.examples import Example
from tasks.pack import encoder
from tasks.pack.encoder import Encode
from tasks.pack.skeleton import Markup, Shape, Skeleton, Text, fill
from tasks.records import Reject

AT_ONCE = 256
"""Examples whose texts are tokenised together: a tokenizer may keep a hundred bytes a token until all are."""

SCHEMA = pl.Schema(
    {
        "id": pl.String(),
        "task": pl.String(),
        "cluster": pl.String(),
        "template": pl.String(),
        "kind": pl.String(),
        "shots": pl.Int32(),
        "tokens": pl.Int32(),
        "supervised_tokens": pl.Int32(),
    }
)
"""The columns of sequences.parquet: an example's, how many exemplars its prompt kept, and its sizes."""


class Markings(NamedTuple):
    """What a process needs to know of the chat beside its tokenizer: the ids that the guards look for.

    `start` is what the tokenizer puts before a text as a whole.
    """

    end_of_turn: int
    bos: int | None
    start: str


class Work(NamedTuple):
    """A part of the examples, and the skeletons of their shapes."""

    examples: pl.DataFrame
    skeletons: dict[Shape, Skeleton]


class Sequence(NamedTuple):
    """One tokenised example.

    `runs` are the lengths of its stretches, read and learnt in turn, beginning with one that is read; some are 0.
    `fault` is why it cannot be trained on, empty where it can.
    """

    example: Example
    ids: list[int]
    runs: list[int]
    fault: str = ""


class Batch(NamedTuple):
    """Tokenised examples: `ids` and `supervised` (tokens,) end to end, `table` (sequences,) with `SCHEMA`.

    `order` (sequences,) is a hash of each example's id.
    """

    ids: npt.NDArray[np.int32]
    supervised: npt.NDArray[np.bool_]
    table: pl.DataFrame
    order: npt.NDArray[np.uint64]
    rejects: list[Reject]


def tokenise(work: Work, tokenizer: Path, markings: Markings, row_tokens: int) -> Batch:
    """The part's examples as sequences, in their order; those longer than `row_tokens` are rejected.

    `tokenizer` is the tokenizer's file.

    Raises GuardError where the tokens are not what training and generation both need.
    """
    encode = encoder.load(tokenizer)
    rows = examples.from_frame(work.examples)
    found = [
        shortened(sequence, work.skeletons, encode, row_tokens)
        for start in range(0, len(rows), AT_ONCE)
        for sequence in sequences(rows[start : start + AT_ONCE], work.skeletons, encode)
    ]
    usable = [not sequence.fault and len(sequence.ids) <= row_tokens for sequence in found]
    kept = list(itertools.compress(found, usable))
    for sequence in kept:
        guard(sequence, markings)
    rejects = [_reject(sequence, row_tokens) for sequence, good in zip(found, usable, strict=True) if not good]
    return _batch(kept, work.examples.filter(usable), rejects)


def sequences(rows: list[Example], skeletons: dict[Shape, Skeleton], encode: Encode) -> Iterator[Sequence]:
    """Each example with all of its exemplars, its markup taken from the skeleton of its shape."""
    shaped = [skeletons[shape(row)] for row in rows]
    texts = [text for row, skeleton in zip(rows, shaped, strict=True) for text in _texts(row, skeleton)]
    encoded = iter(encode(texts))
    for row, skeleton in zip(rows, shaped, strict=True):
        yield _assembled(row, skeleton, encoded)


def shape(row: Example) -> Shape:
    """What decides the markup around an example."""
    return Shape(len(row.turns), bool(row.system))


def shortened(sequence: Sequence, skeletons: dict[Shape, Skeleton], encode: Encode, row_tokens: int) -> Sequence:
    """The sequence without its first exemplars, as many as it takes to fit."""
    while len(sequence.ids) > row_tokens and sequence.example.shots:
        row = sequence.example
        fewer = row._replace(shots=row.shots[1:], exemplars=row.exemplars[1:])
        sequence = next(sequences([fewer], skeletons, encode))
    return sequence


def guard(sequence: Sequence, markings: Markings) -> None:
    """What must hold of every sequence. Raises GuardError."""
    where, ids = f"example {sequence.example.id}", sequence.ids
    guards.only_one_bos(where, ids, markings.bos)
    guards.end_of_turn_supervised(where, ids, [sequence.runs[-1] > 0], markings.end_of_turn)


def _texts(row: Example, skeleton: Skeleton) -> Iterator[str]:
    """The stretches of an example that are left to tokenise; before one that ends in an answer, its prompt alone."""
    messages = [row.system, row.prompt, *row.turns[1:]]
    for piece in skeleton:
        if isinstance(piece, Text):
            if piece.lead is None and piece.read < len(piece.parts):
                yield fill(piece.parts[: piece.read], messages)
            yield fill(piece.parts, messages)


def _assembled(row: Example, skeleton: Skeleton, encoded: Iterator[list[int]]) -> Sequence:
    """Markup and tokenised stretches, end to end."""
    ids: list[int] = []
    runs: list[int] = []
    fault = ""
    for piece in skeleton:
        if isinstance(piece, Markup):
            own, read = piece.ids, 0 if piece.learnt else len(piece.ids)
        elif piece.read == len(piece.parts):
            own = next(encoded)
            read = len(own)
        else:
            lead = next(encoded) if piece.lead is None else piece.lead
            own, read = next(encoded), len(lead)
            fault = fault or _fault(row, piece, lead, own)
        ids += own
        runs += [read, len(own) - read]
    return Sequence(row, ids, runs, fault)


def _fault(row: Example, piece: Text, lead: list[int], own: list[int]) -> str:
    """Why an answer cannot be told from its prompt, where that is the row's doing. GuardError where it is not."""
    where = f"example {row.id}"
    if own[: len(lead)] != lead and fill(piece.parts[piece.read :], ["", *row.turns])[:1].isspace():
        return "answer joins its prompt: it begins with white space that makes one token with the prompt's end"
    guards.prompt_is_prefix(where, lead, own)
    guards.supervised_somewhere(where, [len(own) > len(lead)])
    return ""


def _reject(sequence: Sequence, row_tokens: int) -> Reject:
    reason = sequence.fault or f"too long: {len(sequence.ids)} tokens, and pack.row_tokens is {row_tokens}"
    return Reject("pack", sequence.example.id, reason, sequence.example.prompt[:200])


def _batch(kept: list[Sequence], frame: pl.DataFrame, rejects: list[Reject]) -> Batch:
    ids = np.fromiter(itertools.chain.from_iterable(row.ids for row in kept), np.int32)
    runs = np.fromiter(itertools.chain.from_iterable(row.runs for row in kept), np.int32)
    supervised = np.repeat(np.tile([False, True], len(runs) // 2), runs)
    table = frame.select(
        *("id", "task", "cluster", "template", "kind"),
        shots=pl.Series([len(row.example.shots) for row in kept], dtype=pl.Int32),
        tokens=pl.Series([len(row.ids) for row in kept], dtype=pl.Int32),
        supervised_tokens=pl.Series([sum(row.runs[1::2]) for row in kept], dtype=pl.Int32),
    )
    hashes = (hashlib.blake2b(row.example.id.encode(), digest_size=8).digest() for row in kept)
    return Batch(ids, supervised, table, np.frombuffer(b"".join(hashes), "<u8"), rejects)
