"""python -m tasks.ingest run NAME: read one source of params.yaml and write its records and its rejects."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from tasks import console, errors, guards, outputs, params, settings
from tasks.errors import UserError
from tasks.ingest.formats import FORMATS
from tasks.ingest.origin import Origin, Usable
from tasks.records import Record, Reject, write_lines, write_records

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Turn sources into records."""


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A source of params.yaml (ingest.sources.NAME).")],
    out: Annotated[Path | None, typer.Option(help="The folder to write; data/ingest/NAME by default.")] = None,
) -> None:
    """Write the source's records.jsonl and rejects.jsonl, and tell what became of every row."""
    section = params.load().ingest
    guards.known("source", [name], section.sources)
    source = section.sources[name]
    guards.known(f"ingest.sources.{name}.format", [source.format], FORMATS)
    origin = Origin(name, Path(source.path), source.cluster or name, source.licence, section.seed)
    with console.timed(f"ingest@{name}"):
        records, rejects = sort_out(console.track(FORMATS[source.format](origin), f"reading {source.path}"))
        if not records:
            raise UserError(_nothing_left(origin, rejects))
        folder = out or Path("data/ingest") / name
        with outputs.whole_folder(folder) as scratch:
            write_records(scratch / "records.jsonl", records)
            write_lines(scratch / "rejects.jsonl", (asdict(row) for row in rejects))
    reasons = Counter(row.reason.split(":")[0] for row in rejects)
    console.summary(
        f"source {name} in {folder}",
        {
            "rows": len(records) + len(rejects),
            "records": len(records),
            "rejects": len(rejects),
            **{f"  {reason}": count for reason, count in reasons.most_common(8)},
            "clusters": len({record.cluster for record in records}),
            "tasks": len({record.task for record in records}),
        },
    )


def sort_out(rows: Iterator[Usable | Reject]) -> tuple[list[Record], list[Reject]]:
    """The usable records, each once, and the rejects; a record that was there before is rejected as a duplicate."""
    records: dict[str, Record] = {}
    rejects: list[Reject] = []
    for row in rows:
        if isinstance(row, Reject):
            rejects.append(row)
        elif row.record.id in records:
            again = row.record
            rejects.append(
                Reject(again.source, row.place, "duplicate: the same record came before", again.output[:200])
            )
        else:
            records[row.record.id] = row.record
    return list(records.values()), rejects


def _nothing_left(origin: Origin, rejects: list[Reject]) -> str:
    """The message for a source without a usable row; its rejects are kept outside the stage's outs."""
    if not rejects:
        return f"{origin.path}: no rows in it"
    path = settings.BUILD / "rejects" / f"{origin.name}.jsonl"
    with outputs.whole(path) as scratch:
        write_lines(scratch, (asdict(row) for row in rejects))
    first = rejects[0]
    return (
        f"{origin.path}: all {len(rejects)} rows are rejected, the first ({first.place}): {first.reason}; all in {path}"
    )


if __name__ == "__main__":
    errors.run(app)
