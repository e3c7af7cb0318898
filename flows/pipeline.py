"""python -m flows.pipeline: every stage of dvc.yaml once, in graph order, side by side where the graph allows.

Works with no Prefect server started; with PREFECT_API_URL set it uses that server.
"""

import json
import logging
import math
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture, as_completed
from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL
from prefect.states import Completed
from prefect.task_runners import ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff
from rich.console import Console

from flows import graph, processes
from tasks import errors, params, preflight, tracking
from tasks.errors import UserError

DVC_HINT = re.compile(
    r"\s*(To track the changes with git, run:|git add .*|To enable auto staging, run:|dvc config core\.autostage true"
    r"|Use `dvc push` to send your updates to remote storage\.)"
)
"""Lines that DVC prints after every stage; in the log of a flow of many stages they hide what the stages say."""

RAN, UNCHANGED, RESTORED = "Ran", "Unchanged", "Restored from cache"

HANDED_OVER = 100
"""Stages that go on side by side on a cluster, which holds back those that it has no room for."""

Repro = Callable[[graph.Stage, float], Iterator[str]]
"""Computes a stage in so many minutes at most, and gives the lines of `dvc repro`."""


def run(side_by_side: int) -> dict[str, str]:
    """The pipeline in the working folder, so many stages at a time; on a cluster, as many as it has room for."""
    places = side_by_side if params.load().compute.engine == "local" else HANDED_OVER
    runner: Any = ThreadPoolTaskRunner(max_workers=places)
    return dict(pipeline.with_options(task_runner=runner)(places))


@flow(name="pipeline", description="Every stage of dvc.yaml once; unchanged ones are passed over.")
def pipeline(side_by_side: int = 2) -> dict[str, str]:
    """Bring every stage up to date and make sure that effects outside the graph are there.

    Returns what became of each stage. Raises UserError that names the stages that failed.
    """
    wanted = preflight.load()
    tracking.check_access(wanted.register_.experiment)
    plan = graph.plan()
    with processes.cache_in_use(), engine(wanted.compute, plan) as repro:
        states = run_in_order(plan, side_by_side, repro)
    failed = [stage.address for stage in plan.stages if not _succeeded(states, stage.address)]
    if failed:
        raise UserError(f"stages failed or were not reached: {', '.join(failed)}; their output is above")
    for stage in plan.stages:
        if "ensure" in stage.meta:
            name = f"ensure {stage.address}"
            effect.with_options(name=name, task_run_name=name)(stage.meta["ensure"])
    for stage in plan.stages:
        if "gate" in stage.meta:
            name = f"gate behind {stage.address}"
            effect.with_options(name=name, task_run_name=name)(**stage.meta["gate"])
    return {address: str(state.name) for address, state in states.items()}


@contextmanager
def engine(wanted: params.Compute, plan: graph.Plan) -> Iterator[Repro]:
    """How stages are computed: each in this checkout, or on a node of the Ray cluster."""
    # What has an effect outside the graph has it from here: its locks are this machine's.
    going = [stage for stage in plan.stages if stage.address in plan.reasons and "ensure" not in stage.meta]
    if wanted.engine == "local" or not going:
        yield here
        return
    from flows import cluster  # an extra, and nobody else waits for its import

    with cluster.joined(going, wanted.threads) as there:
        yield lambda stage, minutes: (there if stage in going else here)(stage, minutes)


def here(stage: graph.Stage, minutes: float) -> Iterator[str]:
    """The lines of `dvc repro` of this one stage, in this checkout."""
    return processes.lines([*processes.REPRO, stage.address], minutes)


def run_in_order(plan: graph.Plan, side_by_side: int, repro: Repro) -> dict[str, State[Any]]:
    """Run each stage as soon as those before it have succeeded; returns the states of the stages that were reached.

    A stage is submitted only when it can start at once, so that whenever a place is free the one with the longest way
    to the end takes it.
    """
    states: dict[str, State[Any]] = {}
    futures: dict[str, PrefectFuture[Any]] = {}
    while True:
        ready = [
            stage
            for stage in plan.stages
            if stage.address not in futures and all(_succeeded(states, name) for name in stage.upstream)
        ]
        for stage in ready[: side_by_side - (len(futures) - len(states))]:
            futures[stage.address] = submit(stage, repro if stage.address in plan.reasons else None, futures)
        running = {address: future for address, future in futures.items() if address not in states}
        if not running:
            return states
        next(iter(as_completed(list(running.values()))))
        states |= {address: future.state for address, future in running.items() if future.state.is_final()}


def submit(stage: graph.Stage, repro: Repro | None, futures: dict[str, PrefectFuture[Any]]) -> PrefectFuture[Any]:
    """Hand a stage to Prefect under its own name, with what its `meta` asks for."""
    named: Any = run_stage.with_options(
        name=stage.address,
        task_run_name=stage.address,
        description=stage.description,
        tags=stage.meta.get("tags", []),
        retries=stage.meta.get("retries", 0),
        retry_delay_seconds=exponential_backoff(10),
    )
    future: PrefectFuture[Any] = named.submit(stage, repro, wait_for=[futures[name] for name in sorted(stage.upstream)])
    return future


def _succeeded(states: dict[str, State[Any]], address: str) -> bool:
    return address in states and states[address].is_completed()


@task(cache_policy=NO_CACHE, persist_result=False)
def run_stage(stage: graph.Stage, repro: Repro | None) -> State[Any]:
    """Run one stage through DVC, unless DVC's status says that nothing before it or in it has changed: None."""
    became = UNCHANGED
    if repro is not None:
        lines = _told(repro(stage, stage.meta.get("limit_minutes", math.inf)))
        became = _became(stage.address, lines)
    _publish(stage)
    return Completed(name=became, message=f"{stage.address}: {became.lower()}")


@task(cache_policy=NO_CACHE, persist_result=False)
def effect(command: str, artifact: str = "") -> None:
    """Bring about an effect outside the graph, and put what it says of it on Prefect's page."""
    _told(processes.lines(command.split()))
    if (page := Path(artifact)).is_file():
        with shown():
            create_markdown_artifact(page.read_text(encoding="utf-8"), key=page.stem, description=command)


def _became(address: str, lines: list[str]) -> str:
    """Whether `dvc repro` ran the stage, restored it from DVC's cache, or found it unchanged, by what it printed."""
    if any(line.startswith(f"Running stage '{address}'") for line in lines):
        return RAN
    return RESTORED if any("checking out outputs" in line for line in lines) else UNCHANGED


def _told(lines: Iterator[str]) -> list[str]:
    """The lines of a command, each in Prefect's log as it comes."""
    logger, told = get_run_logger(), []
    for line in lines:
        told.append(line)
        if not DVC_HINT.fullmatch(line):
            logger.info(line)
    return told


def _publish(stage: graph.Stage) -> None:
    """Put what the stage offers to readers on Prefect's page: a Markdown file, and links."""
    key = re.sub(r"[^a-z0-9]+", "-", stage.address.lower())
    if (page := Path(stage.meta.get("artifact", ""))).is_file():
        with shown():
            create_markdown_artifact(page.read_text(encoding="utf-8"), key=key, description=stage.description)
    for name, address in _links(stage).items():
        slug = re.sub(r"[^a-z0-9]+", "-", name.lower())
        with shown():
            create_link_artifact(address, link_text=name, key=f"{key}-{slug}", description=name)


@contextmanager
def shown() -> Iterator[None]:
    """Put something on Prefect's page: a server that stays away costs the page that, and not the stage its success."""
    try:
        yield
    except httpx.HTTPError as error:
        get_run_logger().warning(f"Prefect's server did not take what belongs on its page: {error}")


def start_server() -> str:
    """Start Prefect's temporary server, where no other is named, out of reach of Ctrl-C; returns the address.

    A terminal sends that to all processes, and a flow whose server is gone asks for it for a minute. A signal that is
    blocked when a process starts stays blocked in it; Prefect ends this server by another one.
    """
    if named := PREFECT_API_URL.value():
        check_access(str(named))
        return str(named)
    server = SubprocessASGIServer()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        server.start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return server.api_url


def check_access(address: str) -> None:
    """Raise UserError where the Prefect server refuses these credentials, or none is there."""
    secret = PREFECT_API_AUTH_STRING.value()
    login = tuple(secret.get_secret_value().split(":", 1)) if secret else None
    try:
        answer = httpx.get(f"{address}/admin/version", auth=login, timeout=30)
    except httpx.TransportError as error:
        raise UserError(
            f"{address}: no Prefect server answers there; leave PREFECT_API_URL unset, or start it"
        ) from error
    if answer.status_code in (401, 403):
        raise UserError(f"{address}: refuses these credentials; set PREFECT_API_AUTH_STRING to USER:PASSWORD")


class _WithoutTraceback(logging.Filter):
    """What a user can mend is told in one line; Prefect would add where in the code it was raised."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Take the traceback from a record about a UserError; let every record pass."""
        if record.exc_info and record.exc_info[0] and issubclass(record.exc_info[0], UserError):
            record.exc_info = None
        return True


def without_tracebacks() -> None:
    """Let Prefect's loggers tell a user's mistake in one line."""
    for name in ("prefect.task_runs", "prefect.flow_runs"):
        logging.getLogger(name).addFilter(_WithoutTraceback())


def _links(stage: graph.Stage) -> dict[str, str]:
    path = Path(stage.meta.get("links", ""))
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)


@app.command()
def main(
    side_by_side: Annotated[
        int, typer.Option(help="Stages that may run at the same time here; a cluster decides itself.", min=1)
    ] = 2,
) -> None:
    """Bring every stage of dvc.yaml up to date, in graph order."""
    preflight.load()  # here too, so that a wrong file is refused before a server starts
    without_tracebacks()
    start_server()
    try:
        became = run(side_by_side)
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; the same command again goes on from there", file=sys.stderr, flush=True)
        raise
    console = Console()
    links: dict[str, str] = {}
    for stage in graph.plan().stages:
        if (page := Path(stage.meta.get("artifact", ""))).is_file():
            console.print(page.read_text(encoding="utf-8"), markup=False, soft_wrap=True)
        links |= _links(stage)
    for name, address in links.items():
        console.print(f"{name}: {address}  (make ui starts the page)", soft_wrap=True)
    ran = [address for address, what in became.items() if what == RAN]
    unchanged = len(became) - len(ran)
    console.print(f"Ran {len(ran)} stages: {', '.join(ran)}." if ran else "No stage was executed.", soft_wrap=True)
    console.print(f"{unchanged} of {len(became)} stages were up to date.")


if __name__ == "__main__":
    errors.run(app)
