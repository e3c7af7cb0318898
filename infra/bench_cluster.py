"""python -m infra.bench_cluster: the data path on one machine, and on a Ray cluster of one worker and of two.

The same rows of real text as in infra.bench_data, through ingest, render and pack. A worker is a node of its own with
one CPU; the machine's cores are shared by the workers, by the stage that hands out their parts and collects them, and
by Ray itself, so what all of them took of the processors tells where the time went. Writes build/bench/cluster.json.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from infra import bench_data
from tasks import errors, outputs, settings
from tasks.errors import UserError
from tests import ray_cluster

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "build" / "bench" / "cluster.json"

STORE = 1024**3
"""Bytes of each node's object store; Ray itself would take 30 % of the machine's memory."""


def main(
    base: Annotated[Path, typer.Option(help="The base model's folder, for its tokenizer.")] = Path("models/base"),
    rows: Annotated[int, typer.Option(help="Rows of the source.", min=1)] = 1_000_000,
) -> None:
    """Measure, and write build/bench/cluster.json."""
    if not (base / "source.json").is_file():
        raise UserError(f"{base}: no base model here yet; run: dvc repro fetch")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: bench_data.CORES])
    home = ROOT / "build" / "bench" / "cluster"
    found: dict[str, Any] = {"rows": rows, "cores": bench_data.CORES}
    digests = set()
    for workers in (0, 1, 2):
        measured, digest = spread(home, base.resolve(), rows, workers)
        name = f"{workers}_workers" if workers else "local"
        found |= {f"{figure}_{name}": value for figure, value in measured.items()}
        digests.add(digest)
    if len(digests) > 1:
        raise UserError("the runs wrote different bytes")
    shutil.rmtree(home)
    found |= explained(found)
    outputs.write_json(RESULT, found)
    print(json.dumps(found, indent=2))


def spread(home: Path, base: Path, rows: int, workers: int) -> tuple[dict[str, float], str]:
    """The path on so many workers, or with none of them on this machine's cores; its figures, and the bytes' digest.

    `busy` are the core-seconds of all processes of the machine, `own` those of the stages' own processes.
    """
    if not workers:
        return _measured(home, base, rows, {})
    with ray_cluster.started(nodes=workers, cpus=1, store=STORE) as made:
        return _measured(home, base, rows, {settings.CLUSTER: made.address})


def _measured(home: Path, base: Path, rows: int, environment: dict[str, str]) -> tuple[dict[str, float], str]:
    told = bench_data.data_path(home, base, rows, environment=environment)
    stages = [command[0] for command in bench_data.STAGES]
    figures = {
        "seconds": told["seconds"],
        **{f"seconds_of_{stage}": told[f"seconds_of_{stage}"] for stage in stages},
        "busy": sum(told[f"machine_seconds_of_{stage}"] for stage in stages),
        "own": sum(told[f"core_seconds_of_{stage}"] for stage in stages),
    }
    return figures, outputs.digest_path(home / "data")


def explained(found: dict[str, Any]) -> dict[str, float]:
    """The speed-up of the second worker, and what bounds it: the cores that there are, and the stages' own part.

    `most_on_these_cores` is the speed-up if two workers kept all cores busy all the time. `most_on_other_machines` is
    the one if the stage, each worker and Ray had cores to themselves: a worker's half, or the stage's own part.
    """
    one, two = found["seconds_1_workers"], found["seconds_2_workers"]
    share = (found["busy_2_workers"] - found["own_2_workers"]) / 2
    return {
        "speed_up": one / two,
        "most_on_these_cores": one / (found["busy_2_workers"] / found["cores"]),
        "most_on_other_machines": one / max(share, found["own_2_workers"]),
        "ratio_to_local": found["seconds_local"] / two,
    }


if __name__ == "__main__":
    errors.run(lambda: typer.run(main))
