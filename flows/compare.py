"""python -m flows.compare [GRID]: train and evaluate the variants of a grid file, each once, and write the answer.

Each run has a checkout of its own in build/compare and ends as a DVC experiment. What was interrupted goes on with the
same command; what is kept is not computed again; a run that fails is told at the end and costs no other one.
"""

import os
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import PrefectFuture
from prefect.states import Cancelled, Completed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import attempts, experiments, pipeline, processes
from flows.checkouts import git
from flows.experiments import Experiment
from tasks import errors, preflight, settings
from tasks.errors import UserError
from tasks.variants import answer, story, track
from tasks.variants import grid as grids

SMALL = Path("infra/compare/small.yaml")

PROGRESS = re.compile(r"(Running stage '.+'|Stage '.+' is cached|step \d+ of \d+: .*|error: .*)")
"""What of a run's log is told while it runs."""


@flow(name="compare", description="The variants of a grid, each computed by the pipeline in its own checkout.")
def compare(missing: list[Experiment], api: str) -> dict[str, str]:
    """Compute the runs that are missing; returns why each one that failed did so.

    The first run under each hold-out goes before the others, since it computes what all of them share.
    """
    leading = {experiment.run.left_out: experiment for experiment in reversed(missing)}
    firsts = [experiment for experiment in missing if leading[experiment.run.left_out] is experiment]
    failed: dict[str, str] = {}
    order = [*firsts, *(experiment for experiment in missing if experiment not in firsts)]
    places = {one.run.name: f"run {number} of {len(order)}" for number, one in enumerate(order, start=1)}
    for wave in (firsts, order[len(firsts) :]):
        failed |= run_side_by_side(wave, places, api)
    return failed


def run_side_by_side(wave: list[Experiment], places: dict[str, str], api: str) -> dict[str, str]:
    """Run these, as many at a time as the flow has places; returns why each one that failed did so."""
    futures: dict[str, PrefectFuture[Any]] = {}
    for experiment in wave:
        name = experiment.run.name
        named: Any = compute.with_options(name=name, task_run_name=name)
        futures[name] = named.submit(experiment, places[name], api)
    for future in futures.values():
        future.wait()
    states = {name: future.state for name, future in futures.items()}
    # Prefect says beforehand that there was an exception, and of which kind.
    told = {name: str(state.message).split("UserError: ")[-1] for name, state in states.items()}
    return {name: told[name] for name, state in states.items() if not state.is_completed()}


@task(cache_policy=NO_CACHE, persist_result=False)
def compute(experiment: Experiment, place: str, api: str) -> None:
    """Run the pipeline in the checkout, and keep the result as an experiment.

    `place` tells how many runs there are, and which one this is.

    Raises UserError where the pipeline failed.
    """
    logger, started = get_run_logger(), time.monotonic()
    logger.info(f"{place}: begins, in {experiment.folder}")
    with processes.alone(experiment.folder, logger.info) as lock:
        experiment.prepare()
        for line in processes.run_pipeline(experiment, api, lock):
            if told := PROGRESS.search(line):
                logger.info(told[1])
        experiment.keep()
    logger.info(f"kept as the experiment {experiment.run.name} after {time.monotonic() - started:.0f} s")


@flow(name="grid", description="The variants of a grid of this tree's commit, in a checkout of its own.")
def of_commit(grid: str = str(SMALL)) -> State[Any]:
    """Compare the variants of a grid.

    Args:
        grid: A grid file of the commit.
    """
    logger = get_run_logger()
    try:
        with attempts.alone("compare", logger.info) as folder:
            made = attempts.ready(folder, git("rev-parse", "HEAD"), {})
            page = Path("reports/compare") / Path(grid).stem / "answer.md"
            with attempts.inside(made.folder):
                pipeline.effect.with_options(name=grid, task_run_name=grid)(
                    f"python -m flows.compare {grid}", str(page)
                )
    except attempts.Busy as busy:
        return Cancelled(message=str(busy))
    return Completed(message=f"{made.folder / page}")


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
    commit = experiments.committed(file)
    made = [experiments.make(home, each, commit) for each in grids.runs(grid, file.stem)]
    missing = [experiment for experiment in made if not experiment.is_kept()]
    places = side_by_side or max(1, (os.cpu_count() or 1) // own.compute.threads)
    print(f"{len(made)} runs: {len(made) - len(missing)} are kept already, {len(missing)} to compute", flush=True)
    failed = compute_missing(missing, places) if missing else {}
    done = [experiment for experiment in made if experiment.run.name not in failed]
    if not missing:
        print("Nothing was computed.")
    if any(experiment.run.variant == grid.reference for experiment in done):
        tell(grid, file.stem, home, [experiment.run for experiment in done], len(made))
    if failed:
        told = "".join(f"\n  {name}: {why}" for name, why in failed.items())
        raise UserError(f"{len(failed)} of {len(made)} runs failed, the others are kept:{told}")


def compute_missing(missing: list[Experiment], places: int) -> dict[str, str]:
    """Compute these runs, `places` at a time; returns why each one that failed did so."""
    pipeline.without_tracebacks()
    runner: Any = ThreadPoolTaskRunner(max_workers=places)
    api = pipeline.start_server()
    try:
        with processes.ctrl_c_first(processes.stop):
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
