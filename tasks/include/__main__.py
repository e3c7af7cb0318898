"""python -m tasks.include run NAME: make a folder of lm-eval task YAMLs (evaluate.include.NAME) one of the suites.

The YAMLs are lm-eval's own. Their data files lie in the folder, or as links there; a group may name lm-eval's own
tasks. Python files beside the YAMLs (`!function`) are run, as lm-eval runs them.
"""

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

from tasks import console, errors, guards, outputs, params, suites
from tasks.errors import UserError
from tasks.include import diagnosis, documents, folders
from tasks.records import write_lines

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

HOME = Path("data/render/benchmarks")
"""Where render puts the suite, and evaluate reads it: the place that its YAMLs name."""


@app.callback()
def main() -> None:
    """Include benchmarks."""


@app.command()
def run(
    name: Annotated[str, typer.Argument(help="A name in evaluate.include.")],
    out: Annotated[Path | None, typer.Option(help="data/include/NAME by default.")] = None,
) -> None:
    """Copy the folder to OUT, with suite.json and asked.jsonl: the sizes, and what the documents say."""
    wanted = params.load().evaluate.include
    guards.known("evaluate.include", [name], wanted)
    source, target = Path(wanted[name]), out or Path("data/include") / name
    with console.timed(f"include@{name}"), tempfile.TemporaryDirectory() as scratch:
        here = folders.copy(source, Path(scratch) / name, Path(scratch) / name)
        found = suites.find(here, source)
        tasks = load(found)
        described = {}
        for task, one in tasks.items():
            with suites.reading(f"{found.yaml_of(task)}: task {task}"):
                diagnosis.aggregations(vars(one.config))
                described[task] = documents.describe(name, one)
        with outputs.whole(target) as folder:
            folders.copy(source, folder, HOME / name)
            write_lines(folder / "asked.jsonl", (row for one in described.values() for row in one.asked))
            outputs.write_json(folder / suites.INCLUDED, suites.contents(tasks))
            outputs.write_json(folder / "suite.json", {task: one.sizes for task, one in described.items()})
            if not (folder / "README.md").is_file():
                (folder / "README.md").write_text(documents.page(name, described), encoding="utf-8")
    console.summary(
        f"suite {name}, in {target}", {task: f"{one.sizes['documents']:,} documents" for task, one in described.items()}
    )


def load(suite: suites.Suite) -> dict[str, Any]:
    """The suite's tasks by name. Raises UserError that says what is wrong, where lm-eval cannot say it."""
    found: dict[str, Any] = {}
    for name in suite.names:
        try:
            found |= suite.load_one(name)
        except UserError as error:
            diagnosis.check(suite, name, error.__cause__)
            raise
    return found


if __name__ == "__main__":
    errors.run(app)
