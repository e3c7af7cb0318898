"""python -m flows.status: the champion, the last runs, the next ones, and the disk."""

import logging
import shutil
import textwrap
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import typer
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.sorting import FlowRunSort
from prefect.settings import PREFECT_API_URL

from flows.attempts import RUNS
from flows.checkouts import git, run
from tasks import console, errors, params, settings, tracking
from tasks.errors import UserError
from tasks.promote import moves
from tasks.promote.__main__ import DECISION, REASON
from tasks.register.registry import CANDIDATE

LAST = 5
"""Runs that are told, and results."""

UNDER_WAY, OVER = ["RUNNING", "PENDING", "CANCELLING"], ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]
"""Kinds of states."""


def main() -> None:
    """Tell how things stand. A server that is not there is told, and the rest all the same."""
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # of each new try
    console.summary("versions", dict(versions()))
    console.summary("runs", dict(runs()) or {"none": "python -m flows.retrain, or a deployment, makes one"})
    console.summary("results", dict(results()) or {"none": f"no branch {RUNS}/... yet"})
    console.summary("disk", dict(disk()))


def versions() -> Iterator[tuple[str, str]]:
    """The registered model's aliases, each with its version's newest decision."""
    client, name = tracking.client(), params.load().register_.name
    try:
        with tracking.within_reach():
            found = client.search_registered_models(f"name = '{name}'")
    except UserError as error:
        yield "server", str(error)
        return
    if not found:
        yield name, "no version is registered; run: make run"
        return
    for alias in (moves.CHAMPION, moves.PREVIOUS, CANDIDATE):
        number = found[0].aliases.get(alias)
        tags = client.get_model_version(name, number).tags if number else {}
        decision = ": ".join(filter(None, map(tags.get, (DECISION, REASON))))
        yield alias, f"version {number}  {decision}".rstrip() if number else "none"


def runs() -> Iterator[tuple[str, str]]:
    """The last runs of the deployments and the next ones, as the Prefect server tells them."""
    if not PREFECT_API_URL.value():
        yield "server", "PREFECT_API_URL is not set; `make server` starts one"
        return
    try:
        with get_client(sync_client=True) as client:
            for kinds, limit in ((UNDER_WAY, None), (OVER, LAST)):
                for told in client.read_flow_runs(
                    flow_run_filter=deployed(kinds), sort=FlowRunSort.START_TIME_DESC, limit=limit
                ):
                    # One that was cancelled before it began has no beginning.
                    began = told.start_time or told.expected_start_time
                    yield f"{began:%Y-%m-%d %H:%M}  {told.name}", state(told)
            for told in client.read_flow_runs(
                flow_run_filter=deployed(["SCHEDULED"]), sort=FlowRunSort.EXPECTED_START_TIME_ASC, limit=2
            ):
                yield f"{told.next_scheduled_start_time:%Y-%m-%d %H:%M}  {told.name}", "next"
    except httpx.HTTPError as error:
        yield "server", f"{PREFECT_API_URL.value()} does not answer: {error}"


def deployed(kinds: list[str]) -> FlowRunFilter:
    """Runs of deployments in states of these kinds."""
    return FlowRunFilter.model_validate({"state": {"type": {"any_": kinds}}, "deployment_id": {"is_null_": False}})


def state(told: Any) -> str:
    """A run's state in words, and how long it took."""
    took = timedelta(seconds=round(told.estimated_run_time.total_seconds()))
    message = textwrap.shorten(told.state.message or "", 200, placeholder=" ...")
    return f"{told.state.name} after {took}" + (f"; {message}" if message else "")


def results() -> Iterator[tuple[str, str]]:
    """The newest branches of results, each with its outcome."""
    shape = "--format=%(refname:short)%09%(subject)"
    for line in git("for-each-ref", "--sort=-refname", f"--count={LAST}", shape, f"refs/heads/{RUNS}").splitlines():
        name, _, subject = line.partition("\t")
        yield name, subject


def disk() -> Iterator[tuple[str, str]]:
    """What is free, and what DVC's cache and the checkouts of runs take."""
    yield "free", f"{shutil.disk_usage(settings.ROOT).free / 1024**3:.1f} GiB"
    yield "DVC's cache", f"{size(Path(run(['dvc', 'cache', 'dir'])), 1 << 30) / 1024**3:.2f} GiB"
    yield "checkouts of runs, beside it", f"{size(settings.BUILD / RUNS, 1) / 1024**3:.2f} GiB"
    yield "now", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def size(folder: Path, names: int) -> int:
    """The bytes of a folder's files that have at most so many names; with more, they lie in the cache too."""
    found = (path.lstat() for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return sum(one.st_size for one in found if one.st_nlink <= names)


if __name__ == "__main__":
    errors.run(lambda: typer.run(main))
