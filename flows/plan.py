"""python -m flows.plan: which stages would run and why, how many tokens, and about how many minutes. Runs nothing."""

import json
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from flows import graph
from tasks import errors, params, preflight, settings

app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)


@app.command()
def main() -> None:
    """Tell which stages would run and why, how many tokens, and about how many minutes. Runs nothing."""
    values = params.dotted(preflight.load().model_dump(mode="json", by_alias=True))
    plan = graph.plan()
    table = Table(title=f"{len(plan.reasons)} of {len(plan.stages)} stages would run", title_justify="left")
    for column in ("stage", "why", "minutes"):
        table.add_column(column, overflow="fold")
    minutes = {stage.address: expected_minutes(stage, values) for stage in plan.stages if stage.address in plan.reasons}
    for stage in plan.stages:
        if stage.address in minutes:
            table.add_row(stage.address, "; ".join(plan.reasons[stage.address]), f"{minutes[stage.address]:.1f}")
        else:
            table.add_row(stage.address, "[dim]unchanged[/]", "")
    console = Console()
    console.print(table)
    total = sum(minutes.values())
    console.print(
        f"About {total:.0f} minutes of work one after another; stages that can will run side by side. A stage's minutes"
        " are those of its last run here, or else of two cores, in proportion to what it grows with (dvc.yaml, meta)."
    )
    for stage in plan.stages:
        if "counts" in stage.meta:
            console.print(counts(stage, stage.address in plan.reasons))


def expected_minutes(stage: graph.Stage, values: dict[str, Any]) -> float:
    """How long the stage took here last, else what dvc.yaml expects of it, at the size that params now ask for.

    `values` are the params by dotted path. The part of a stage's time that does not grow is taken to grow too.
    """
    minutes, sizes = float(stage.meta.get("minutes", 0.1)), dict(stage.meta.get("grows_with", {}))
    path = settings.BUILD / "timings" / f"{stage.address}.json"
    if path.is_file():
        timing = json.loads(path.read_text(encoding="utf-8"))
        measured = timing.get("params", {})
        minutes, sizes = timing["seconds"] / 60, {key: measured[key] for key in sizes if key in measured}
    for key, size in sizes.items():
        minutes *= values[key] / size
    return minutes


def counts(stage: graph.Stage, stale: bool) -> str:
    """The sizes that a stage found, in one line."""
    path = Path(stage.meta["counts"])
    if not path.is_file():
        return f"{stage.address}: not counted yet; `dvc repro {stage.address}` counts without training."
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    sizes = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in found.items() if isinstance(value, int))
    return f"{stage.address}: {sizes}" + (" (as counted last; it would run again)" if stale else "")


if __name__ == "__main__":
    errors.run(app)
