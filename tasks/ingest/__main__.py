"""python -m tasks.ingest run NAME | forget: a source of params.yaml to records and rejects, and what no run may use."""

import functools
import json
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import polars as pl
import typer

from tasks import console, errors, guards, outputs, parallel, params, records, settings, tables
from tasks.errors import UserError
from tasks.ingest import formats, languages, near, rights
from tasks.ingest.card import Card
from tasks.ingest.clean import Cleaner
from tasks.ingest.containers.block import Block
from tasks.ingest.origin import Origin, Usable
from tasks.params import Clean
from tasks.records import Reject

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

SHOWN = 20
"""Ids of forgotten records that are listed."""


@app.callback()
def main() -> None:
    """Turn sources into records."""


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A source of params.yaml (ingest.sources.NAME).")],
    out: Annotated[Path | None, typer.Option(help="The folder to write; data/ingest/NAME by default.")] = None,
) -> None:
    """Write the source's records.parquet, rejects.jsonl and card.json, and tell what became of every row."""
    section = params.load().ingest
    guards.known("source", [name], section.sources)
    languages.check(section.clean.languages or ())
    origin = Origin.of(name, section)
    folder = out or Path("data/ingest") / name
    with console.timed(f"ingest@{name}"), outputs.whole_folder(folder) as scratch:
        form = formats.choose(origin)
        work = functools.partial(sort_out, origin=origin, form=form, wanted=section.clean, forgotten=rights.load())
        batches = without_repeats(parallel.ordered(work, formats.blocks(form, origin)), section.clean)
        card = write(console.track(batches, f"reading {origin.path}"), scratch)
        if not card.records:
            raise UserError(_nothing_left(origin, scratch / "rejects.jsonl"))
        if section.sources[name].train:
            rights.check_licences(origin, card.licences, card.examples, section.licences.allow)
        outputs.write_json(scratch / "card.json", card.content(name, form))
    _summarise(card, form, f"source {name} in {folder}")


@app.command()
def forget(
    identity: Annotated[list[str] | None, typer.Option("--id", help="A record's id; may stand several times.")] = None,
    person: Annotated[list[str] | None, typer.Option(help="Whose records; may stand several times.")] = None,
) -> None:
    """Leave records out of every later run, by id or by whose they are, and tell what still holds them."""
    if not identity and not person:
        raise UserError("name what to forget: --id ID or --person NAME")
    rights.forget(identity or (), person or ())
    found = list(rights.affected(Path("data/ingest"), rights.load()))
    for row in found[:SHOWN]:
        print(row)
    if len(found) > SHOWN:
        print(f"... and {len(found) - SHOWN:,} more")
    asked = [("--id", row) for row in identity or ()] + [("--person", name) for name in person or ()]
    names = "".join(f" {option} {shlex.quote(value)}" for option, value in asked)
    print(rights.AFTERWARDS.format(count=len(found), path=rights.FORGOTTEN, names=names))


@app.command("formats")
def list_formats() -> None:
    """List the formats, and what a row of each must have."""
    rows = {name: form.needs or "task files in folders" for name, form in formats.FORMATS.items()}
    console.summary("formats, in the order in which `auto` tries them", rows)


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


def write(batches: Iterable[Batch], folder: Path) -> Card:
    """Write records.parquet and rejects.jsonl into `folder`, and count what they hold."""
    card = Card()
    with (
        tables.TableWriter(folder / "records.parquet", records.SCHEMA) as table,
        (folder / "rejects.jsonl").open("w", encoding="utf-8", newline="\n") as rejected,
    ):
        for batch in batches:
            table.write(batch.records)
            card.add(batch.records)
            card.masked.update(batch.masked)
            for row in batch.rejects:
                rejected.write(json.dumps(row._asdict(), ensure_ascii=False) + "\n")
                card.rejects[row.reason.split(":")[0]] += 1
    return card


def _summarise(card: Card, form: str, title: str) -> None:
    rejects = card.rejects.total()
    counts = {"rows": card.records + rejects, "records": card.records, "rejects": rejects}
    shown = {f"  {reason}": count for reason, count in card.rejects.most_common(8)}
    masked = {f"masked: {kind}": count for kind, count in sorted(card.masked.items())}
    console.summary(title, {"format": form, **counts, **shown, **masked})


def _nothing_left(origin: Origin, rejects: Path) -> str:
    """The message for a source without a usable row; its rejects are kept outside the stage's outs."""
    with rejects.open(encoding="utf-8") as lines:
        first = next(map(json.loads, lines), None)
        count = 1 + sum(1 for _ in lines)
    if first is None:
        return f"{origin.path}: no rows in it"
    kept = settings.BUILD / "rejects" / f"{origin.name}.jsonl"
    with outputs.whole(kept) as scratch:
        rejects.replace(scratch)
    return (
        f"{origin.path}: all {count} rows are rejected, the first ({first['place']}): {first['reason']}; all in {kept}"
    )


if __name__ == "__main__":
    errors.run(app)
