"""python -m infra.bench_flow: what flows cost beside the work itself, by Prefect's own clock.

A retraining on a running server, in a checkout of its own at the size of `make quick`: of its pipeline, the share of
time in which no stage was at work. Then retrainings with nothing new and `dvc repro` with nothing to do, in turns.
Writes build/bench/flow.json.
"""

import re
import shutil
import statistics
import sys
import time
from datetime import datetime
from typing import Annotated, Any

import typer

from infra.turns import ROOT
from tasks import errors, outputs
from tasks.errors import UserError
from tests.checkout import Checkout, clone
from tests.deployment import Deployed, deployed

RESULT = ROOT / "build" / "bench" / "flow.json"
HOME = RESULT.with_suffix("")

BEGINS, ENDS = re.compile(r"Running stage '.*':"), re.compile(r"Updating lock file")
"""What DVC says before and behind a stage's own command."""


def main(rounds: Annotated[int, typer.Option(help="Turns of each with nothing new.", min=1)] = 5) -> None:
    """Measure the flows and write build/bench/flow.json."""
    shutil.rmtree(HOME, ignore_errors=True)
    made = quick()
    with deployed(made, HOME / "prefect") as server:
        print("the first retraining, of some minutes", flush=True)
        first = server.whole("retrain/retrain", seconds=3600)
        if first["state"]["type"] != "COMPLETED":
            raise UserError(f"the retraining ended {first['state']['name']}: {first['state']['message']}")
        whole, work = shares(server)
        nothing, by_dvc = turns(server, rounds)
    told = {
        "noop_s": statistics.median(nothing),
        "dvc_noop_s": statistics.median(by_dvc),
        "noop_ratio_to_dvc": statistics.median(nothing) / statistics.median(by_dvc),
        "pipeline_s": whole,
        "stages_s": work,
        "overhead_share": whole / work - 1,
    }
    outputs.write_json(RESULT, told)
    print(RESULT.read_text(encoding="utf-8"))


def quick() -> Checkout:
    """A clone of this tree's commit at the size of `make quick`."""
    made = clone(HOME / "tree")
    made.run(sys.executable, "-m", "tasks.params", "merge", "infra/quick.yaml")
    made.commit("quick")
    return made


def turns(server: Deployed, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of retrainings with nothing new, from start to end, and of `dvc repro` in the same checkout."""
    nothing, by_dvc = [], []
    there = Checkout(server.made.root / "build/runs/retrain")
    for _ in range(rounds):
        run = server.whole("retrain/retrain")
        if run["state"]["name"] != "Nothing to do":
            raise UserError(f"a retraining with nothing new ended {run['state']['name']}")
        nothing.append(seconds(run["start_time"], run["end_time"]))
        begin = time.perf_counter()
        there.run("dvc", "repro")
        by_dvc.append(time.perf_counter() - begin)
        print(f"nothing new: {nothing[-1]:.2f} s, dvc repro: {by_dvc[-1]:.2f} s", flush=True)
    return nothing, by_dvc


def shares(server: Deployed) -> tuple[float, float]:
    """Seconds of the pipeline's flow run, and those in which a stage or an effect behind the stages was at work."""
    [flow] = server.post("flow_runs/filter", flows={"name": {"any_": ["pipeline"]}}).json()
    own = {"any_": [flow["id"]]}
    runs = server.post("task_runs/filter", task_runs={"flow_run_id": own}).json()
    logs = server.post("logs/filter", logs={"flow_run_id": own}, sort="TIMESTAMP_ASC", limit=200).json()
    while len(logs) % 200 == 0:
        more = {"flow_run_id": own}
        logs += server.post("logs/filter", logs=more, sort="TIMESTAMP_ASC", limit=200, offset=len(logs)).json()
    worked = [
        interval
        for run in runs
        for interval in intervals(run, [log for log in logs if log["task_run_id"] == run["id"]])
    ]
    return seconds(flow["start_time"], flow["end_time"]), union(worked)


def intervals(run: dict[str, Any], logs: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """When a task run's command was at work: a stage's own between what DVC says, an effect's all the time."""
    begins, ends = (
        [instant(log["timestamp"]) for log in logs if pattern.match(log["message"])] for pattern in (BEGINS, ENDS)
    )
    if begins and ends:
        return [(begins[0], ends[-1])]
    is_effect = run["name"].startswith(("ensure", "gate"))
    return [(instant(run["start_time"]), instant(run["end_time"]))] if is_effect else []


def union(worked: list[tuple[float, float]]) -> float:
    """Seconds that lie in one of the intervals at least."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(worked):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def instant(text: str) -> float:
    """Prefect's time as seconds."""
    return datetime.fromisoformat(text).timestamp()


def seconds(begin: str, end: str) -> float:
    """Seconds between two of Prefect's times."""
    return instant(end) - instant(begin)


if __name__ == "__main__":
    errors.run(lambda: typer.run(main))
