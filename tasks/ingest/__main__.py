"""python -m tasks.ingest run NAME | forget: a source of params.yaml to records and rejects, and what no run may use."""

import functools
import json
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from tasks import console, errors, guards, outputs, parallel, params, records, settings, tables
from tasks.errors import UserError
from tasks.ingest import batch, formats, languages, rights
from tasks.ingest.batch import Batch
from tasks.ingest.card import Card
from tasks.ingest.origin import Origin

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
        work = functools.partial(
            batch.sort_out, origin=origin, form=form, wanted=section.clean, forgotten=rights.load()
        )
        batches = batch.without_repeats(parallel.ordered(work, formats.blocks(form, origin)), section.clean)
        card = write(console.track(batches, f"reading {origin.path}"), scratch)
        if not card.records:
            raise UserError(_nothing_left(origin, scratch / "rejects.jsonl"))
        if not card.persons:
            formats.persons_are_named(form, origin)
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
    found = list(rights.affected(Path("data/ingest"), rights.Forgotten.of(identity or (), person or ())))
    for row in found[:SHOWN]:
        print(row)
    if len(found) > SHOWN:
        print(f"... and {len(found) - SHOWN:,} more")
    asked = [("--id", row) for row in identity or ()] + [("--person", name) for name in person or ()]
    names = "".join(f" {option} {shlex.quote(value)}" for option, value in asked)
    print((rights.AFTERWARDS if found else rights.NOTHING).format(count=len(found), path=rights.FORGOTTEN, names=names))


@app.command("formats")
def list_formats() -> None:
    """List the formats, and what a row of each must have."""
    rows = {name: form.needs or "task files in folders" for name, form in formats.FORMATS.items()}
    console.summary("formats, in the order in which `auto` tries them", rows)


def write(batches: Iterable[Batch], folder: Path) -> Card:
    """Write records.parquet and rejects.jsonl into `folder`, and count what they hold."""
    card = Card()
    with (
        tables.TableWriter(folder / "records.parquet", records.SCHEMA) as table,
        (folder / "rejects.jsonl").open("w", encoding="utf-8", newline="\n") as rejected,
    ):
        for part in batches:
            table.write(part.records)
            card.add(part.records)
            card.masked.update(part.masked)
            for row in part.rejects:
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
