"""python -m flows.retrain: the newest code and data through the pipeline and the gate, if anything is new.

Scheduled runs: the pipeline in a checkout of its own, the gate, and the result as a commit on a branch `runs/...`.

`retrain` takes the newest commit and data, and does nothing where neither brought anything new. `pipeline` of a
deployment is the same for a person: a run of the tree's commit with other values, begun by hand.
"""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import Cancelled, Completed
from prefect.tasks import exponential_backoff
from pydantic import Field

from flows import attempts, changes, pipeline, remotes
from flows.attempts import Attempt, Outcome
from flows.changes import NONE, Changes
from flows.checkouts import git
from tasks import errors, params, tracking
from tasks.errors import UserError
from tasks.promote import moves
from tasks.promote.gate import NOT_MET
from tasks.register import stored

NOTHING, DECIDED = "Nothing to do", ("Promoted", "Refused", "Unchanged")
"""The names of the states in which runs end well."""

EVENT = "instructflow.run"
"""What events of ended runs begin with; `promoted`, `refused` or `unchanged` follows. Automations listen to them."""


class Limits(NamedTuple):
    """The results that are kept, the GiB of disk without which no run begins, and the stages side by side."""

    keep: int
    free_gib: float
    side_by_side: int


@flow(name="retrain", description="The newest code and data through the pipeline and the gate, if anything is new.")
def retrain(
    values: Changes = NONE,
    again: bool = False,
    keep: Annotated[int, Field(ge=0)] = 10,
    free_gib: Annotated[float, Field(ge=0)] = 5.0,
    side_by_side: Annotated[int, Field(ge=1)] = 2,
) -> State[Any]:
    """Train again where code, data or values are new.

    Args:
        values: Other values than those of params.yaml, for this run alone.
        again: Run although nothing is new.
        keep: Results on branches runs/... that are kept, beside those of the champion and the one before.
        free_gib: Without so many GiB of free disk no run begins.
        side_by_side: Stages that may run at the same time.
    """
    limits = Limits(keep, free_gib, side_by_side)
    return attempt("retrain", attempts.newest_commit, changes.told(values), limits, again)


@flow(name="run", description="The commit of this tree through the pipeline and the gate, in a checkout of its own.")
def run(
    values: Changes = NONE,
    keep: Annotated[int, Field(ge=0)] = 10,
    free_gib: Annotated[float, Field(ge=0)] = 5.0,
    side_by_side: Annotated[int, Field(ge=1)] = 2,
) -> State[Any]:
    """Run the pipeline on the tree's commit.

    Args:
        values: Other values than those of params.yaml, for this run alone.
        keep: Results on branches runs/... that are kept, beside those of the champion and the one before.
        free_gib: Without so many GiB of free disk no run begins.
        side_by_side: Stages that may run at the same time.
    """
    limits = Limits(keep, free_gib, side_by_side)
    return attempt("run", lambda _: git("rev-parse", "HEAD"), changes.told(values), limits, again=True)


def attempt(
    kind: str,
    commit: Callable[[Callable[[str], None]], str],
    values: dict[str, Any],
    limits: Limits,
    again: bool,
) -> State[Any]:
    """A run of this kind, or the reason why there is none, as the flow's state."""
    logger = get_run_logger()
    pipeline.without_tracebacks()
    try:
        with attempts.alone(kind, logger.info) as folder:
            made = attempts.ready(folder, commit(logger.warning), values)
            logger.info(f"commit {git('log', '-1', '--format=%h (%s)', made.commit)}")
            if not again and (why := made.nothing_new()):
                logger.info(f"{NOTHING}: {why}")
                deliver.submit(folder).wait()
                return Completed(name=NOTHING, message=why)
            remotes.check_access(folder, logger.warning)
            attempts.check_disk(limits.free_gib)
            outcome = through(made, limits.side_by_side)
            tell(outcome)
            deliver.submit(folder).wait()
            if dropped := attempts.prune(limits.keep, kept()):
                logger.info(dropped)
    except attempts.Busy as busy:
        logger.warning(f"{busy}; this one ends")
        return Cancelled(message=str(busy))
    return Completed(name=outcome.what.capitalize(), message=f"version {outcome.version}: {outcome.why}")


def through(made: Attempt, side_by_side: int) -> Outcome:
    """Run the pipeline in the checkout, and keep what came of it."""
    (made.folder / attempts.DECISION).unlink(missing_ok=True)
    with attempts.inside(made.folder):
        pipeline.run(side_by_side)
    outcome = made.keep(datetime.now(UTC))
    made.remember(outcome)
    return outcome


def tell(outcome: Outcome) -> None:
    """Put the outcome on Prefect's page, and tell those who listen."""
    told = {name: value for name, value in vars(outcome).items() if name not in ("lock", "gate", "why")}
    table = "\n".join(f"| {name} | {value} |" for name, value in told.items())
    why = "- " + outcome.why.replace(f"; {NOT_MET}", f"\n- {NOT_MET}")
    with pipeline.shown():
        create_markdown_artifact(f"| run | |\n|---|---|\n{table}\n\n{why}\n", key="outcome", description=outcome.what)
    resource = {"prefect.resource.id": f"instructflow.{attempts.RUNS}", "prefect.resource.name": outcome.branch}
    emit_event(f"{EVENT}.{outcome.what}", resource, payload={"why": outcome.why, "version": outcome.version})


@task(cache_policy=NO_CACHE, persist_result=False, retries=3, retry_delay_seconds=exponential_backoff(10))
def deliver(folder: Path) -> None:
    """Push what is new to DVC's remote. Where that fails for good the run has ended well all the same: the next one
    pushes it."""
    if remotes.push(folder):
        get_run_logger().info("pushed to DVC's remote")


def kept() -> list[str]:
    """How the fingerprints of the champion and the one before begin, whose results are never dropped."""
    client, name = tracking.client(), params.load().register_.name
    found = []
    for alias in (moves.CHAMPION, moves.PREVIOUS):
        try:
            version = stored.resolve(client, f"models:/{name}@{alias}")
        except UserError:
            continue
        found.append(version.tags[tracking.FINGERPRINT][:8])
    return found


def main() -> None:
    """Retrain now, with Prefect's temporary server where no other is named."""
    pipeline.start_server()
    state = retrain(return_state=True)
    print(f"{state.name}: {state.message}")
    if not state.is_completed():
        sys.exit(1)


if __name__ == "__main__":
    errors.run(lambda: typer.run(main))
