"""python -m tasks.report run | compare: evaluation results to report.html, report.md, a model card and metrics."""

import csv
from pathlib import Path
from typing import Annotated

import typer

from tasks import console, errors, outputs, params
from tasks.report import card, compare, data_card, page, samples, story, web
from tasks.report.compare import Comparison
from tasks.report.story import Places, Story

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Report what tuning changed."""


@app.command()
def run(
    results: Path = Path("reports/evaluate"),
    benchmarks: Path = Path("data/render/benchmarks"),
    mixture: Path = Path("data/render/mixture.json"),
    models: Path = Path("models"),
    ingested: Path = Path("data/ingest"),
    out: Path = Path("reports/report"),
) -> None:
    """Write the report on the suites of params.yaml to OUT."""
    suites = params.load().evaluate.suites
    with console.timed("report"):
        for model in ("base", "tuned"):
            outputs.keep_only(results / model, suites)
        told = story.gather(Places(results, benchmarks, mixture, models, ingested, suites))
        with outputs.whole_folder(out) as folder:
            write(folder, told)
    rows = {
        f"{item.name} · {item.measured}": (
            f"base {item.base:.3f}  tuned {item.tuned:.3f}  gain {item.difference:+.3f}"
            f" ({item.low:+.3f} to {item.high:+.3f})  {item.verdict}"
        )
        for item in told.comparisons
    }
    console.summary(f"base against tuned, in {out}", rows)


@app.command("compare")
def compare_two(
    before: Annotated[Path, typer.Argument(help="A model's results: a folder with a folder of each suite.")],
    after: Annotated[Path, typer.Argument(help="Another model's results on the same suites.")],
    benchmarks: Path = Path("data/render/benchmarks"),
    contamination: Path = Path("data/render/contamination"),
) -> None:
    """Compare any two models on the suites of params.yaml, document by document."""
    suites = params.load().evaluate.suites
    for folder in (before, after):
        samples.check(folder, suites)
    pairs = [pair for suite in suites for pair in compare.pairs(before, after, benchmarks / suite)]
    found = compare.compare(pairs, benchmarks, contamination / "marks.json")
    console.console.print(page.table(found, compare.called(before, after)), markup=False, soft_wrap=True)


def write(folder: Path, told: Story) -> None:
    """Write every form of the report into `folder`."""
    texts = {
        "report.html": web.page(told),
        "report.md": page.page(told),
        "table.md": page.table(told.comparisons) + "\n",
        "MODEL_CARD.md": card.page_of(told),
        "data_card.md": data_card.page(told.cards, told.totals),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", newline="\n")
    page.draw(told.comparisons, folder / "gains.png")
    outputs.write_json(folder / "summary.json", compare.summary(told.means))
    outputs.write_json(folder / "data.json", told.totals)
    write_table(folder / "comparison.csv", told.comparisons)


def write_table(path: Path, comparisons: list[Comparison]) -> None:
    """One row for each benchmark, measure and model, the form that `dvc plots` draws."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["benchmark", "measure", "model", "score"], lineterminator="\n")
        writer.writeheader()
        for item in comparisons:
            name = f"{item.name} ({item.measured})"
            for model, score in (("base", item.base), ("tuned", item.tuned)):
                writer.writerow({"benchmark": name, "measure": item.measure, "model": model, "score": score})


if __name__ == "__main__":
    errors.run(app)
