"""python -m flows.compare [GRID]: train and evaluate the variants of a grid file, each once, and write the answer.

Each run has a checkout of its own in build/compare and ends as a DVC experiment. What was interrupted goes on with the
same command; what is kept is not computed again; a run that fails is told at the end and costs no other one.
"""

import fcntl
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import ThreadPoolTaskRunner

from flows import checkouts, graph, pipeline
from flows.checkouts import Checkout
from tasks import errors, preflight, settings
from tasks.errors import UserError
from tasks.variants import answer, story, track
from tasks.variants import grid as grids

SMALL = Path("infra/compare/small.yaml")

ROLE = "variant"
"""The role in dvc.yaml of the stage that a variant runs up to."""

PROGRESS = re.compile(r"(Running stage '.+'|Stage '.+' is cached|step \d+ of \d+: .*|error: .*)")
"""What of a run's log is told while it runs."""

_RUNNING: dict[str, subprocess.Popen[bytes]] = {}
_STOPPED = threading.Event()


@flow(name="compare", description="The variants of a grid, each computed by the pipeline in its own checkout.")
def compare(missing: list[Checkout], api: str) -> dict[str, str]:
    """Compute the runs that are missing; returns why each one that failed did so.

    The first run under each hold-out goes before the others, since it computes what all of them share.
    """
    last = graph.of_role(graph.plan(), ROLE).address
    leading = {checkout.run.left_out: checkout for checkout in reversed(missing)}
    firsts = [checkout for checkout in missing if leading[checkout.run.left_out] is checkout]
    failed: dict[str, str] = {}
    for wave in (firsts, [checkout for checkout in missing if checkout not in firsts]):
        failed |= run_side_by_side(wave, last, api)
    return failed


def run_side_by_side(wave: list[Checkout], last: str, api: str) -> dict[str, str]:
    """Run these, as many at a time as the flow has places; returns why each one that failed did so."""
    futures: dict[str, PrefectFuture[Any]] = {}
    for checkout in wave:
        name = checkout.run.name
        named: Any = compute.with_options(name=name, task_run_name=name)
        futures[name] = named.submit(checkout, last, api)
    try:
        for future in futures.values():
            future.wait()
    except KeyboardInterrupt:
        stop()  # here, since the flow waits for its tasks before anything outside of it hears of this
        raise
    states = {name: future.state for name, future in futures.items()}
    return {name: str(state.message) for name, state in states.items() if not state.is_completed()}


@task(cache_policy=NO_CACHE, persist_result=False)
def compute(checkout: Checkout, last: str, api: str) -> None:
    """Run the pipeline in the checkout up to the stage `last`, and keep the result as an experiment.

    Raises UserError where the pipeline failed.
    """
    logger = get_run_logger()
    started = time.monotonic()
    with alone(checkout) as lock:
        checkout.prepare()
        for line in run_pipeline(checkout, api, lock):
            if told := PROGRESS.search(line):
                logger.info(told[1])
        checkout.keep(last)
    logger.info(f"kept as the experiment {checkout.run.name} after {time.monotonic() - started:.0f} s")


@contextmanager
def alone(checkout: Checkout) -> Iterator[int]:
    """The descriptor of a lock on the checkout, once no run of an earlier, killed comparison goes on there.

    The run inherits it, so that it holds for as long as the run lives.
    """
    checkout.folder.parent.mkdir(parents=True, exist_ok=True)
    with checkout.folder.with_name(f"{checkout.folder.name}.lock").open("w") as file:
        waited = False
        while not _locked(file.fileno()):
            if not waited:
                get_run_logger().info("an earlier comparison still computes it; waiting for that")
            waited = True
            if _STOPPED.wait(0.5):
                raise UserError("stopped")
        yield file.fileno()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run_pipeline(checkout: Checkout, api: str, lock: int) -> Iterator[str]:
    """The lines that the pipeline logs in the checkout, as they come. Raises UserError where it fails.

    It logs to a file, so that it outlives this process, and is in a session of its own: it gets Ctrl-C from `stop`.
    Its training belongs to MLflow's store of the user's repository, under the experiment's name, as in `dvc exp run`.
    """
    environment = {
        **os.environ,
        "PREFECT_API_URL": api,
        "DVC_EXP_NAME": checkout.run.name,
        "DVC_ROOT": str(settings.ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "flows.pipeline", "--until", ROLE]
    with checkout.log.open("wb") as log:
        if _STOPPED.is_set():
            raise UserError("stopped")
        process = subprocess.Popen(
            command, cwd=checkout.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True, pass_fds=(lock,),
        )  # fmt: skip
    _RUNNING[checkout.run.name] = process
    try:
        yield from following(process, checkout.log)
    finally:
        process.wait()
        del _RUNNING[checkout.run.name]
    if process.returncode:
        raise UserError(f"{fault(checkout.log)}; all it said is in {checkout.log}")


def following(process: subprocess.Popen[bytes], log: Path) -> Iterator[str]:
    """The lines of a file that a process writes, until it ends."""
    with log.open(encoding="utf-8", errors="replace") as file:
        line = ""
        while True:
            ended = process.poll() is not None
            while part := file.readline():
                line += part
                if line.endswith("\n"):
                    yield line.rstrip()
                    line = ""
            if ended:
                return
            time.sleep(0.3)


def fault(log: Path) -> str:
    """What a failed run's log says went wrong: its first error, else its last line."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    found = (told[0] for line in lines if (told := re.search(r"(?<!\w)error: .*", line)))
    return next(found, lines[-1]).removeprefix("error: ")


def stop() -> None:
    """End all runs as Ctrl-C ends one, and start none any more."""
    _STOPPED.set()
    for process in list(_RUNNING.values()):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)


app = typer.Typer(help=__doc__, pretty_exceptions_enable=False)


@app.command()
def main(
    file: Annotated[Path, typer.Argument(help="The grid.", metavar="[GRID]")] = SMALL,
    side_by_side: Annotated[
        int | None, typer.Option(help="Runs at the same time; by default as many as have threads of their own.", min=1)
    ] = None,
) -> None:
    """Compute the runs of a grid that are not kept yet, and write reports/compare."""
    own, grid = preflight.load(), grids.read(file)
    home = settings.BUILD / "compare" / file.stem
    commit = checkouts.committed()
    made = [checkouts.make(home, each, commit) for each in grids.runs(grid, file.stem)]
    missing = [checkout for checkout in made if not checkout.is_kept()]
    places = side_by_side or max(1, (os.cpu_count() or 1) // own.compute.threads)
    print(f"{len(made)} runs: {len(made) - len(missing)} are kept already, {len(missing)} to compute", flush=True)
    failed = compute_missing(missing, places) if missing else {}
    done = [checkout for checkout in made if checkout.run.name not in failed]
    if not missing:
        print("Nothing was computed.")
    tell(grid, file.stem, home, [checkout.run for checkout in done], len(made))
    if failed:
        told = "".join(f"\n  {name}: {why}" for name, why in failed.items())
        raise UserError(f"{len(failed)} of {len(made)} runs failed, the others are kept:{told}")


def compute_missing(missing: list[Checkout], places: int) -> dict[str, str]:
    """Compute these runs, `places` at a time; returns why each one that failed did so."""
    pipeline.without_tracebacks()
    runner: Any = ThreadPoolTaskRunner(max_workers=places)
    api = pipeline.start_server()
    try:
        return dict(compare.with_options(task_runner=runner)(missing, api))
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; the same command again goes on from there", file=sys.stderr, flush=True)
        raise


def tell(grid: grids.Grid, name: str, home: Path, done: list[grids.Run], planned: int) -> None:
    """Write the answer that these runs give, note it with their MLflow runs, and print it."""
    out = Path("reports/compare") / name
    told = story.gather(grid, done, home, planned)
    answer.write(out, told)
    track.note(told, home)
    print((out / "answer.md").read_text(encoding="utf-8"))
    print(f"The page: {out / 'answer.html'}")


if __name__ == "__main__":
    errors.run(app)
