"""A batch: what becomes of one block of rows, on any core; and which of its records came before, in order.

It stands apart from the command, since processes find a function by its module's name, and a command has none.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import polars as pl

from tasks import records
from tasks.ingest import formats, near, rights
from tasks.ingest.clean import Cleaner
from tasks.ingest.containers.block import Block
from tasks.ingest.origin import Origin, Usable
from tasks.params import Clean
from tasks.records import Reject


class Batch(NamedTuple):
    """What became of one block of rows: the records as a table with each row's place, and the rejects.

    `masked` counts personal data by kind; `signatures` are there where near duplicates are looked for.
    """

    records: pl.DataFrame
    places: list[str]
    rejects: list[Reject]
    masked: Mapping[str, int]
    signatures: near.Signatures | None


def sort_out(block: Block | None, origin: Origin, form: str, wanted: Clean, forgotten: rights.Forgotten) -> Batch:
    """The block's rows as records and rejects; runs in a process of its own."""
    usable: list[Usable] = []
    rejects: list[Reject] = []
    cleaner = Cleaner(wanted, forgotten)
    for row in map(cleaner.sort, formats.read(form, block, origin)):
        if isinstance(row, Reject):
            rejects.append(row)
        else:
            usable.append(row)
    made = [row.record for row in usable]
    signatures = near.signatures(made, wanted.near_duplicates) if wanted.near_duplicates else None
    return Batch(records.to_frame(made), [row.place for row in usable], rejects, cleaner.masked, signatures)


def without_repeats(batches: Iterable[Batch], wanted: Clean) -> Iterator[Batch]:
    """The batches without the records that came before, and where asked without those that are much like one."""
    same = exact_repeats()
    batches = (_reject(batch, same(batch)) for batch in batches)
    if not wanted.near_duplicates:
        return batches
    alike = near_repeats(wanted.near_duplicates)
    return (_reject(batch, alike(batch)) for batch in batches)


def exact_repeats() -> Callable[[Batch], dict[int, str]]:
    """Tells which rows of the next batch came before, each with the reason."""
    seen: set[str] = set()

    def repeats(batch: Batch) -> dict[int, str]:
        found = {}
        for number, identity in enumerate(batch.records["id"].to_list()):
            if identity in seen:
                found[number] = "duplicate: the same record came before"
            seen.add(identity)
        return found

    return repeats


def near_repeats(threshold: float) -> Callable[[Batch], dict[int, str]]:
    """Tells which rows of the next batch are near duplicates, each with the record that it repeats."""
    index = near.Index(threshold)
    names = pl.Series(dtype=pl.String)

    def repeats(batch: Batch) -> dict[int, str]:
        assert batch.signatures is not None  # noqa: S101 - sort_out computes them whenever they are asked for
        first = len(names)
        names.extend(batch.records["id"])
        return {
            later - first: f"near duplicate: of {names[earlier]}"
            for later, earlier in index.add(batch.signatures).items()
        }

    return repeats


def _reject(batch: Batch, reasons: Mapping[int, str]) -> Batch:
    """The batch with the rows of these numbers as rejects."""
    if not reasons:
        return batch
    kept = [number for number in range(len(batch.records)) if number not in reasons]
    dropped = records.from_frame(batch.records[list(reasons)])
    rejects = [
        Reject(record.source, batch.places[number], reason, record.output[:200])
        for (number, reason), record in zip(reasons.items(), dropped, strict=True)
    ]
    return Batch(
        batch.records[kept],
        [batch.places[number] for number in kept],
        [*batch.rejects, *rejects],
        batch.masked,
        batch.signatures and batch.signatures.take(kept),
    )
