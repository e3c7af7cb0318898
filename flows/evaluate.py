"""Any registered version on any suite, beside what it showed when it was registered.

Fresh data come in by the values of the run: a held-out cluster of another source, or an included folder. Where the
scores have fallen the event begins a retraining (flows/automations.py).
"""

import json
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Cancelled, Completed

from flows import attempts, changes, graph, pipeline
from flows.changes import NONE, Changes
from flows.checkouts import git
from tasks import guards, params, settings

FALLEN = "instructflow.scores.fallen"
"""The event of an evaluation in which a version scored worse than when it was registered."""

FALLEN_STATE = "Fallen"
"""The name of the state in which such an evaluation ends."""

VERSION = settings.BUILD / "version"
"""Where the version's models and results lie in the checkout."""

BENCHMARKS = "benchmarks"
"""The role, in a stage's `meta`, of the one that writes the suites."""


@flow(name="evaluation", description="A registered version on a suite of this tree's commit.")
def evaluation(suite: str, version: str = "models:/instructflow@champion", values: Changes = NONE) -> State[Any]:
    """Evaluate a version.

    Args:
        suite: A held-out cluster, or an included suite.
        version: The version's address in MLflow.
        values: Other values than those of params.yaml: other data, other documents.
    """
    logger = get_run_logger()
    pipeline.without_tracebacks()
    try:
        with attempts.alone("evaluation", logger.info) as folder:
            made = attempts.ready(folder, git("rev-parse", "HEAD"), changes.told(values))
            wanted = params.check(made.values, Path("params.yaml"))
            guards.known("suite", [suite], [*wanted.render.held_out, *wanted.evaluate.include])
            with attempts.inside(made.folder):
                score(suite, version)
                told = json.loads((VERSION / "beside.json").read_text(encoding="utf-8"))
    except attempts.Busy as busy:
        return Cancelled(message=str(busy))
    if told["fallen"]:
        resource = {"prefect.resource.id": f"instructflow.{suite}", "prefect.resource.name": version}
        emit_event(FALLEN, resource, payload=told)
    return Completed(name=FALLEN_STATE if told["fallen"] else "Completed", message=told["told"])


def score(suite: str, version: str) -> None:
    """Bring the suites up to date, and score the version on one of them, all in the working folder."""
    for stage in before(graph.plan().stages):
        run(f"dvc --wait-for-lock repro --single-item {stage.address}", stage.address)
    run(f"python -m tasks.register get {version} {VERSION}", "get the version")
    results = VERSION / "results" / suite
    run(f"python -m tasks.evaluate run tuned {suite} --models {VERSION} --out {results}", f"score it on {suite}")
    run(f"python -m tasks.promote beside {version} {suite} {results}", "beside before", VERSION / "beside.md")


def before(stages: list[graph.Stage]) -> list[graph.Stage]:
    """The stage that writes the suites and all that it needs, in the order in which they can run."""
    known = {stage.address: stage for stage in stages}
    waiting, needed = [stage.address for stage in stages if stage.meta.get("role") == BENCHMARKS], set[str]()
    while waiting:
        needed.add(address := waiting.pop())
        waiting += known[address].upstream
    return [stage for stage in stages if stage.address in needed]


def run(command: str, name: str, page: Path = Path()) -> None:
    """A command as a task of this name, with the page that it writes."""
    pipeline.effect.with_options(name=name, task_run_name=name)(command, str(page))
