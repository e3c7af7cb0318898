"""python -m tasks.report run: evaluation results to report.md, table.md, gains.png, data_card.md and metrics."""

import csv
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from tasks import console, errors, outputs, params
from tasks.report import data_card, page
from tasks.report.compare import MEASURES, Comparison, by_suite, compare, read_samples

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)

SHOWN = 3
"""Side-by-side answers of each benchmark."""


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
        comparisons = [item for suite in suites for item in compare(results, benchmarks, suite)]
        shown = [row for suite in suites for row in side_by_side(results, suite)]
        with outputs.whole_folder(out) as folder:
            text = page.page(comparisons, facts(models, mixture), shown)
            (folder / "report.md").write_text(text, encoding="utf-8")
            (folder / "table.md").write_text(page.table(comparisons) + "\n", encoding="utf-8")
            page.draw(comparisons, folder / "gains.png")
            outputs.write_json(folder / "summary.json", by_suite(comparisons))
            write_table(folder / "comparison.csv", comparisons)
            write_data_card(folder, ingested, mixture)
    rows = {
        f"{item.suite} / {item.task} · {MEASURES[item.measure]}": (
            f"base {item.base:.3f}  tuned {item.tuned:.3f}  gain {item.difference:+.3f}"
            f" ({item.low:+.3f} to {item.high:+.3f})"
        )
        for item in comparisons
    }
    console.summary(f"base against tuned, in {out}", rows)


def write_data_card(folder: Path, ingested: Path, mixture: Path) -> None:
    """Write data_card.md, and its totals as data.json."""
    cards = data_card.read_cards(ingested)
    examples = json.loads(mixture.read_text(encoding="utf-8"))["got"]
    totals = data_card.profile(cards, examples, data_card.dropped(mixture.parent / "contamination"))
    (folder / "data_card.md").write_text(data_card.page(cards, totals), encoding="utf-8")
    outputs.write_json(folder / "data.json", totals)


def facts(models: Path, mixture: Path) -> dict[str, Any]:
    """What the page's first lines tell about the training."""
    trained = json.loads((models / "tuned" / "training.json").read_text(encoding="utf-8"))
    source = json.loads((models / "base" / "source.json").read_text(encoding="utf-8"))
    mixed = json.loads(mixture.read_text(encoding="utf-8"))
    return {
        "model": source["file"] or source["name"],
        "examples": mixed["got"],
        "clusters": len(mixed["clusters"]),
        "tokens": trained["tokens"],
        "supervised_tokens": trained["supervised_tokens"],
    }


def side_by_side(results: Path, suite: str) -> list[dict[str, Any]]:
    """The first generated answers of each benchmark, from both models."""
    base, tuned = (read_samples(results / model / suite) for model in ("base", "tuned"))
    pairs = [(before, after) for before, after in zip(base, tuned, strict=True) if "valid_answer" in before]
    rows = []
    for benchmark in sorted({before["benchmark"] for before, _ in pairs}):
        own = [(before, after) for before, after in pairs if before["benchmark"] == benchmark]
        rows += [{**before, "base": before["answer"], "tuned": after["answer"]} for before, after in own[:SHOWN]]
    return rows


def write_table(path: Path, comparisons: list[Comparison]) -> None:
    """One row for each benchmark, measure and model, the form that `dvc plots` draws."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["benchmark", "measure", "model", "score"], lineterminator="\n")
        writer.writeheader()
        for item in comparisons:
            values = asdict(item)
            for model in ("base", "tuned"):
                name = f"{item.suite} / {item.task} ({MEASURES[item.measure]})"
                writer.writerow({"benchmark": name, "measure": item.measure, "model": model, "score": values[model]})


if __name__ == "__main__":
    errors.run(app)
