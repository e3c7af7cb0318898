"""python -m tasks.ingest run NAME: read one source of params.yaml and write its records and its rejects."""

import functools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import polars as pl
import typer

from tasks import console, errors, guards, outputs, parallel, params, records, settings, tables
from tasks.errors import UserError
from tasks.ingest import formats
from tasks.ingest.containers.block import Block
from tasks.ingest.origin import Origin, Usable
from tasks.records import Reject

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Turn sources into records."""


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A source of params.yaml (ingest.sources.NAME).")],
    out: Annotated[Path | None, typer.Option(help="The folder to write; data/ingest/NAME by default.")] = None,
) -> None:
    """Write the source's records.parquet and rejects.jsonl, and tell what became of every row."""
    section = params.load().ingest
    guards.known("source", [name], section.sources)
    origin = Origin.of(name, section)
    folder = out or Path("data/ingest") / name
    with console.timed(f"ingest@{name}"), outputs.whole_folder(folder) as scratch:
        form = formats.choose(origin)
        work = functools.partial(sort_out, origin=origin, form=form)
        batches = parallel.ordered(work, formats.blocks(form, origin))
        counts = write(console.track(unique(batches, origin), f"reading {origin.path}"), scratch)
        if not counts["records"]:
            raise UserError(_nothing_left(origin, scratch / "rejects.jsonl"))
    console.summary(f"source {name} in {folder}", {"format": form, **counts})


@app.command("formats")
def list_formats() -> None:
    """List the formats, and what a row of each must have."""
    rows = {name: form.needs or "task files in folders" for name, form in formats.FORMATS.items()}
    console.summary("formats, in the order in which `auto` tries them", rows)


class Batch(NamedTuple):
    """What became of one block of rows: the records as a table with each row's place, and the rejects."""

    records: pl.DataFrame
    places: list[str]
    rejects: list[Reject]


def sort_out(block: Block | None, origin: Origin, form: str) -> Batch:
    """The block's rows as records and rejects; runs in a process of its own."""
    usable: list[Usable] = []
    rejects: list[Reject] = []
    for row in formats.read(form, block, origin):
        if isinstance(row, Reject):
            rejects.append(row)
        else:
            usable.append(row)
    return Batch(records.to_frame([row.record for row in usable]), [row.place for row in usable], rejects)


def unique(batches: Iterable[Batch], origin: Origin) -> Iterator[Batch]:
    """The batches without the records that came before; these become rejects."""
    seen: set[str] = set()
    for batch in batches:
        fresh: list[int] = []
        again: list[int] = []
        for number, identity in enumerate(batch.records["id"].to_list()):
            (again if identity in seen else fresh).append(number)
            seen.add(identity)
        repeated = [
            Reject(origin.name, batch.places[number], "duplicate: the same record came before", record.output[:200])
            for number, record in zip(again, records.from_frame(batch.records[again]), strict=True)
        ]
        yield Batch(batch.records[fresh], [batch.places[number] for number in fresh], [*batch.rejects, *repeated])


def write(batches: Iterable[Batch], folder: Path) -> dict[str, int]:
    """Write records.parquet and rejects.jsonl into `folder`, and count rows, records, and rejects by reason."""
    reasons: Counter[str] = Counter()
    with (
        tables.TableWriter(folder / "records.parquet", records.SCHEMA) as table,
        (folder / "rejects.jsonl").open("w", encoding="utf-8", newline="\n") as rejected,
    ):
        for batch in batches:
            table.write(batch.records)
            for row in batch.rejects:
                rejected.write(json.dumps(row._asdict(), ensure_ascii=False) + "\n")
                reasons[row.reason.split(":")[0]] += 1
    rejects = reasons.total()
    shown = {f"  {reason}": count for reason, count in reasons.most_common(8)}
    return {"rows": table.rows + rejects, "records": table.rows, "rejects": rejects, **shown}


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
