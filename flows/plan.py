"""python -m flows.plan: which stages would run and why, how many tokens, and about how many minutes. Runs nothing."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from flows import graph
from tasks import errors, params, settings


def main() -> None:
    """Print the plan."""
    params.load()
    plan = graph.plan()
    table = Table(title=f"{len(plan.reasons)} of {len(plan.stages)} stages would run", title_justify="left")
    for column in ("stage", "why", "minutes"):
        table.add_column(column)
    total = 0.0
    for stage in plan.stages:
        if stage.address not in plan.reasons:
            table.add_row(stage.address, "[dim]unchanged[/]", "")
            continue
        minutes = expected_minutes(stage)
        total += minutes
        why = plan.reasons[stage.address]
        more = f" and {len(why) - 3} more" if len(why) > 3 else ""
        table.add_row(stage.address, ", ".join(why[:3]) + more, f"{minutes:.1f}")
    console = Console()
    console.print(table)
    console.print(f"About {total:.0f} minutes of work one after another; stages that can will run side by side.")
    for stage in plan.stages:
        if "counts" in stage.meta:
            console.print(counts(stage, stage.address in plan.reasons))


def expected_minutes(stage: graph.Stage) -> float:
    """How long the stage took here last, else what dvc.yaml expects of it."""
    path = settings.BUILD / "timings" / f"{stage.address}.json"
    if path.is_file():
        return float(json.loads(path.read_text(encoding="utf-8"))["seconds"]) / 60
    return float(stage.meta.get("minutes", 0.1))


def counts(stage: graph.Stage, stale: bool) -> str:
    """The sizes that a stage found, in one line."""
    path = Path(stage.meta["counts"])
    if not path.is_file():
        return f"Tokens: not counted yet; `dvc repro {stage.address}` counts them without training."
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    sizes = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in found.items() if isinstance(value, int))
    return f"{stage.address}: {sizes}" + (" (as counted last; it would run again)" if stale else "")


if __name__ == "__main__":
    errors.run(main)
