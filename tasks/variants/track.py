"""A comparison in MLflow: each training's run says which variant it is, and has the scores that are compared."""

import json
import re
from pathlib import Path
from typing import Any

from mlflow.entities import Metric, Param

from tasks import params, tracking
from tasks.variants.grid import Run
from tasks.variants.story import Story


def note(story: Story, home: Path) -> None:
    """Give the runs of a comparison their variant and seed as params, and their held-out means as metrics.

    A run that the store has lost is made anew from its history.
    """
    for run in story.runs:
        named = {re.sub(r"\W+", "_", f"held_out_{name}"): value for name, value in story.own[run.name].items()}
        _note(run, home / run.name, named)


def _note(run: Run, checkout: Path, scores: dict[str, float]) -> None:
    wanted = params.load(checkout / "params.yaml").register_
    adapter = checkout / "models/tuned"
    training, inputs, history = (_read(adapter / f"{name}.json") for name in ("training", "inputs", "history"))
    tracked = tracking.ensure_run(wanted.experiment, training["fingerprint"], inputs["params"], history)
    known = tracked.client.get_run(tracked.id).data
    if not tracked.known:
        tracked.client.set_tag(tracked.id, tracking.VARIANT, run.name)
    told = {"variant": run.variant, "seed": run.seed, "left_out": run.left_out or "–"} | params.dotted(run.changes)
    # One training may be of two grids, where its params are told already: MLflow takes no second value.
    new = [Param(key, str(value)) for key, value in told.items() if key not in known.params]
    changed = [Metric(key, value, 0, 0) for key, value in scores.items() if known.metrics.get(key) != value]
    tracked.client.log_batch(tracked.id, metrics=changed, params=new)


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
