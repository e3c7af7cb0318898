"""python -m tasks.render run | preview | lint: records and templates to training examples and held-out benchmarks."""

import tempfile
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from tasks import console, errors, examples, guards, outputs, params, tables
from tasks.errors import UserError
from tasks.records import write_records
from tasks.render import benchmarks, decontaminate, holdout, included, index, mixture, rendering, tally, templates
from tasks.render import lint as linter
from tasks.render.catalogue import Catalogue, Mask
from tasks.render.index import Asked
from tasks.render.mixture import Choice
from tasks.render.samples import samples
from tasks.render.tally import Tally

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

Records = Annotated[Path, typer.Option(help="The folder that ingest wrote.")]

OUTS = (
    "examples.parquet",
    "validation.parquet",
    "benchmarks",
    "contamination",
    "mixture.json",
    "mixture.csv",
    "mixture.png",
)


@app.callback()
def main() -> None:
    """Turn records into examples."""


@app.command()
def run(
    records: Records = Path("data/ingest"), include: Path = Path("data/include"), out: Path = Path("data/render")
) -> None:
    """Write training and validation examples, benchmarks, what was dropped for them, and the mixture into OUT."""
    everything = params.load()
    wanted = everything.render
    with console.timed("render"), ExitStack() as stack:
        outputs.keep_only(records, everything.ingest.sources)
        outputs.keep_only(include, everything.evaluate.include)
        listed = Catalogue.read(records, list(everything.ingest.sources), wanted.seed)
        side = holdout.split(listed, everything)
        paths = {name: stack.enter_context(outputs.whole(out / name)) for name in OUTS}
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        asked = write_suites(listed, wanted, paths["benchmarks"], out / "benchmarks")
        asked += included.suites(include, everything.evaluate, paths["benchmarks"])
        holdout.benchmarks_are_apart(included.clusters(include, everything.evaluate), listed.tasks_of(side.training))
        index.write(of_suites(asked, everything.evaluate.suites), wanted.decontaminate, scratch)
        found = decontaminate.search(listed, side.training, scratch, paths["contamination"])
        holdout.contents_are_apart(listed, found.asked, side.training, side.held)
        choice = mixture.choose(listed, side.training, ~found.contaminated, wanted)
        counted = write_examples(listed, choice, wanted, paths, scratch)
        guards.not_trained_on(counted.clusters, side.excluded)
        left_out = {"duplicates": side.repeated, "contaminated": int(found.contaminated.sum())}
        told = write_mixture(counted, choice, paths, left_out)
    _summarise(told, listed, side, everything, out)


def write_suites(listed: Catalogue, wanted: params.Render, folder: Path, home: Path) -> list[Asked]:
    """Write the suite of each held-out cluster into `folder`, which will be `home`; returns what they ask."""
    asked, bank = [], templates.load_bank()
    most = np.full(len(listed.tasks), benchmarks.POOL * wanted.documents)
    for name in wanted.held_out:
        rows = listed.records(listed.first(listed.of_clusters([name]), most))
        asked += benchmarks.write_suite(folder / name, home / name, rows, bank, wanted)
    return asked


def of_suites(asked: list[Asked], suites: Collection[str]) -> list[Asked]:
    """The documents of these suites."""
    return [one for one in asked if one.benchmark.split("/")[0] in suites]


def write_examples(
    listed: Catalogue, choice: Choice, wanted: params.Render, paths: Mapping[str, Path], scratch: Path
) -> Tally:
    """Write the training and the validation examples, and count the first."""
    exemplars = scratch / "exemplars.parquet"
    write_records(exemplars, rendering.exemplars(listed, choice.training, wanted))
    bank = templates.load_bank()
    counted = Tally(one.hash for own in bank.templates.values() for one in own if one.lists_options)
    training = counted.passing(rendering.rendered(listed, choice.training, exemplars, wanted))
    validation = rendering.rendered(listed, choice.validation, exemplars, wanted)
    for name, frames in (("examples.parquet", training), ("validation.parquet", validation)):
        with tables.TableWriter(paths[name], examples.SCHEMA) as table:
            for frame in console.track(frames, f"rendering {name}"):
                table.write(frame)
    return counted


def write_mixture(
    counted: Tally, choice: Choice, paths: Mapping[str, Path], left_out: Mapping[str, int]
) -> dict[str, Any]:
    """Write the mixture as numbers, as a table and as a picture; returns the numbers."""
    told = tally.numbers(counted.table, choice.asked, validation=int(choice.validation.sum()), **left_out)
    outputs.write_json(paths["mixture.json"], told)
    counted.table.write_csv(paths["mixture.csv"])
    tally.draw(counted.table, choice.asked, paths["mixture.png"])
    return told


@app.command()
def preview(
    records: Records = Path("data/ingest"),
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    number: Annotated[int, typer.Option("-n", help="Examples of each task.", min=1)] = 1,
) -> None:
    """Show rendered examples of each task, held-out ones too, as the model will read them (chat markup apart)."""
    everything, bank = params.load(), templates.load_bank()
    listed = Catalogue.read(records, list(everything.ingest.sources), everything.render.seed)
    guards.known("task", [task] if task else [], {one.name for one in listed.tasks})
    pools = pools_before_decontamination(listed, everything)
    for record in sorted(listed.records(first_of(listed, task, number)), key=lambda record: record.task):
        try:
            shown = rendering.example(record, bank, everything.render, pools.get((record.cluster, record.task), []))
        except UserError as error:
            console.console.rule(f"[bold]{record.cluster} / {record.task}[/] · not shown")
            console.console.print(str(error), markup=False, style="red")
            continue
        console.console.rule(f"[bold]{shown.cluster} / {shown.task}[/] · {shown.template} ({shown.kind})")
        if shown.system:
            console.console.print(shown.system, markup=False, style="dim")
        for place, text in enumerate([shown.prompt, *shown.turns[1:]]):
            console.console.print(text, markup=False, style="green" if place % 2 else None)


def pools_before_decontamination(listed: Catalogue, everything: params.Params) -> rendering.Pools:
    """The exemplars of each task as a run would take them if no record shared text with a benchmark."""
    wanted = everything.render
    if not wanted.few_shot.share:
        return {}
    trainable = holdout.split(listed, everything).training
    choice = mixture.choose(listed, trainable, np.ones(len(trainable), bool), wanted)
    return rendering.pooled(rendering.exemplars(listed, choice.training, wanted))


def first_of(listed: Catalogue, task: str | None, number: int) -> Mask:
    """The first records of one task by key, or of each one."""
    named = np.array([task in (None, one.name) for one in listed.tasks], bool)
    return listed.first(named[listed.task], np.full(len(listed.tasks), number))


def untrained(listed: Catalogue, side: holdout.Side, everything: params.Params) -> dict[str, str]:
    """The sources to train on of which the hold-out leaves nothing, and why."""
    found = {}
    for name in (name for name, source in everything.ingest.sources.items() if source.train):
        own = listed.of_sources([name])
        if (own <= side.held).all() and own.any():
            clusters = sorted({task.cluster for task in listed.tasks_of(own)})
            reasons = ", ".join(f"{one} (by {side.excluded[one]})" for one in clusters)
            found[name] = f"none of its {own.sum():,} records is trained on: all are of clusters held out, {reasons}"
    return found


def _summarise(
    told: Mapping[str, Any], listed: Catalogue, side: holdout.Side, everything: params.Params, out: Path
) -> None:
    rows: dict[str, object] = {
        "examples": f"{told['got']:,} of {told['asked']:,} asked for",
        "out of": f"{int(side.training.sum()):,} records that may be trained on",
    }
    if told["got"] < told["asked"]:
        rows["warning"] = "fewer records than asked for may be trained on: add sources, or lower render.examples"
    rows |= {f"  {cluster}": count for cluster, count in told["clusters"].items()}
    rows |= {name: told[name] for name in ("validation", "duplicates", "contaminated")}
    rows |= {f"source {name}": told for name, told in untrained(listed, side, everything).items()}
    for name, held in sorted(side.excluded.items()):
        count = f"{int(listed.of_clusters([name]).sum()):,} records"
        if name in everything.render.held_out:
            rows[f"held out: {name}"] = count
        else:
            rows[f"dropped: {name}"] = f"{count}, related to {held}"
    console.summary(f"examples in {out}", rows)


@app.command()
def lint(
    bank: Annotated[Path, typer.Argument(help="A folder of template files.")] = Path("tasks/render/templates"),
    records: Records = Path("data/ingest"),
) -> None:
    """Check template files against sample records; exit status 1 where there is an error."""
    tasks = {path.stem for path in bank.rglob("*.yaml")}
    findings = list(linter.lint(bank, samples(records, tasks)))
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
