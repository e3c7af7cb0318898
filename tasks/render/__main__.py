"""python -m tasks.render run | preview | lint: records and templates to training examples and held-out benchmarks."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tasks import console, errors, guards, outputs, params
from tasks.errors import UserError
from tasks.examples import Example, write_examples
from tasks.records import Record, read_records
from tasks.render import benchmarks, mixture, templates
from tasks.render import lint as linter
from tasks.render.samples import samples

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

POOL = 32
"""Records of a task that its exemplars are drawn from."""

Records = Annotated[Path, typer.Option(help="The folder that ingest wrote.")]


@app.callback()
def main() -> None:
    """Turn records into examples."""


@app.command()
def run(records: Records = Path("data/ingest"), out: Path = Path("data/render")) -> None:
    """Write examples.parquet, mixture.json and benchmarks/SUITE into OUT."""
    everything = params.load()
    wanted, bank = everything.render, templates.load_bank()
    with console.timed("render"):
        outputs.keep_only(records, everything.ingest.sources)
        training, held_out = hold_out(records, everything)
        chosen = mixture.choose(training, wanted.examples, wanted.cap, wanted.seed)
        if not chosen:
            raise UserError(
                "render: no record is left to train on: every cluster is held out, related, or train: false"
            )
        examples = [example(record, bank, wanted) for record in console.track(chosen, "rendering")]
        guards.not_trained_on({item.cluster: item.id for item in examples}, wanted.excluded())
        home = out / "benchmarks"
        with (
            outputs.whole(out / "examples.parquet") as lines,
            outputs.whole(out / "mixture.json") as mixed,
            outputs.whole_folder(home) as folder,
        ):
            write_examples(lines, examples)
            outputs.write_json(mixed, mixture.realised(examples, wanted.examples))
            for cluster, rows in held_out.items():
                benchmarks.write_suite(folder / cluster, home / cluster, rows, bank, wanted.documents, wanted.seed)
    _summarise(examples, held_out, wanted, out)


@app.command()
def preview(
    records: Records = Path("data/ingest"),
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    number: Annotated[int, typer.Option("-n", help="Examples of each task.", min=1)] = 1,
) -> None:
    """Show rendered examples of each task, held-out ones too, as the model will read them (chat markup apart)."""
    everything, bank = params.load(), templates.load_bank()
    by_task: dict[str, list[Record]] = defaultdict(list)
    for record in read_sources(records, list(everything.ingest.sources)):
        by_task[record.task].append(record)
    guards.known("task", [task] if task else [], by_task)
    for name in [task] if task else sorted(by_task):
        for record in mixture.choose(by_task[name], number, number, everything.render.seed):
            shown = example(record, bank, everything.render, by_task[name][:POOL])
            console.console.rule(f"[bold]{shown.cluster} / {shown.task}[/] · {shown.template} ({shown.kind})")
            console.console.print(shown.prompt, markup=False)
            console.console.print(shown.completion, markup=False, style="green")


def example(record: Record, bank: templates.Bank, wanted: params.Render, pool: Sequence[Record] = ()) -> Example:
    """The record in one of its templates, after exemplars from the pool, both drawn by seed."""
    template = templates.draw_form(wanted.seed, record, bank.for_record(record), wanted)
    return templates.render(record, template, templates.draw_exemplars(wanted.seed, record, pool, wanted.few_shot))


def read_sources(folder: Path, names: list[str]) -> list[Record]:
    """The records of the named sources. Raises UserError where one was not ingested yet."""
    missing = [name for name in names if not (folder / name / "records.parquet").is_file()]
    if missing:
        raise UserError(f"{folder}: no records of {', '.join(missing)} yet; run: dvc repro render")
    return [record for name in names for record in read_records(folder / name / "records.parquet")]


def hold_out(folder: Path, wanted: params.Params) -> tuple[list[Record], dict[str, list[Record]]]:
    """The records that may be trained on, and those of each held-out cluster.

    Raises UserError where a held-out cluster has no record.
    """
    excluded = wanted.render.excluded()
    trainable = {name for name, source in wanted.ingest.sources.items() if source.train}
    records = read_sources(folder, list(wanted.ingest.sources))
    training = [row for row in records if row.cluster not in excluded and row.source in trainable]
    held_out = {name: [row for row in records if row.cluster == name] for name in wanted.render.held_out}
    clusters = {row.cluster for row in records}
    guards.known("render.held_out", held_out, clusters)
    guards.known("render.related", wanted.render.excluded(), clusters)
    return training, held_out


def _summarise(examples: list[Example], held_out: dict[str, list[Record]], wanted: params.Render, out: Path) -> None:
    got = mixture.realised(examples, wanted.examples)
    rows: dict[str, object] = {"examples": f"{got['got']} of {got['asked']} asked for"}
    rows |= {f"  {cluster}": count for cluster, count in dict(got["clusters"]).items()}  # type: ignore[call-overload]
    rows |= {f"held out: {name}": f"{len(records):,} records" for name, records in held_out.items()}
    dropped = {name: held for name, held in wanted.excluded().items() if name != held}
    rows |= {f"dropped: {name}": f"related to {held}" for name, held in dropped.items()}
    console.summary(f"examples in {out}", rows)


@app.command()
def lint(
    bank: Annotated[Path, typer.Argument(help="A folder of template files.")] = Path("tasks/render/templates"),
    records: Records = Path("data/ingest"),
    least: Annotated[int, typer.Option(help="Templates of a task; fewer get a note.", min=1)] = 8,
) -> None:
    """Check template files against sample records; exit status 1 where there is an error."""
    tasks = {path.stem for path in bank.rglob("*.yaml")}
    findings = list(linter.lint(bank, samples(records, tasks), least))
    for path, found in findings:
        place = f"{path}: {found.template}" if found.template else f"{path}"
        console.console.print(
            f"{'error' if found.error else 'note'}: {place}: {found.fault}; {found.remedy}", markup=False
        )
    errors_found = sum(found.error for _, found in findings)
    console.console.print(f"{len(tasks)} files: {errors_found} errors, {len(findings) - errors_found} notes")
    if errors_found:
        raise typer.Exit(1)


if __name__ == "__main__":
    errors.run(app)
