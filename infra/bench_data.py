"""python -m infra.bench_data: from source to token shards, beside the tokenizer alone and beside `datasets.map`.

The rows are real text (docstrings of installed packages) and go through the real stages, one process after the other,
with decontamination against the starter's benchmarks. Each stage's start-up (interpreter, imports, the base's
tokenizer) is measured on a handful of rows and taken off, as it is for the peers; the seconds with it are written too.
Writes build/bench/data.json.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import psutil
import typer
import yaml

from infra import bench_rows
from tasks import errors, outputs
from tasks.errors import UserError

ROOT = Path(__file__).resolve().parent.parent
STAGES = (["ingest", "run", "mine"], ["render", "run"], ["pack", "run"])
PEERS = ("tokenizer", "datasets", "datasets_batched")
CORES = 2
HANDFUL = 50


class Cost(NamedTuple):
    """What a stage took: seconds, and the most memory it held at once.

    Core seconds are those of its processes, machine seconds those of all processes of this machine meanwhile.
    """

    seconds: float
    core_seconds: float
    machine_seconds: float
    peak_gib: float


def main(
    base: Annotated[Path, typer.Option(help="The base model's folder, for its tokenizer.")] = Path("models/base"),
    sizes: Annotated[str, typer.Option(help="Rows of the runs, from small to large.")] = "10000,100000,1000000",
    compared: Annotated[int, typer.Option(help="Rows of each run beside the peers.", min=1)] = 100_000,
    repeats: Annotated[int, typer.Option(help="Runs beside the peers; medians count.", min=1)] = 3,
) -> None:
    """Measure the data path and write build/bench/data.json."""
    if not (base / "source.json").is_file():
        raise UserError(f"{base}: no base model here yet; run: dvc repro fetch")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    home = ROOT / "build" / "bench" / "data"
    shutil.rmtree(home, ignore_errors=True)
    start_up = statistics.median(
        data_path(home / "handful", base.resolve(), HANDFUL)["seconds"] for _ in range(repeats)
    )
    result: dict[str, Any] = {"cores": CORES, "start_up_seconds": start_up}
    result |= beside_peers(home / "compared", base.resolve(), compared, repeats, start_up)
    for rows in map(int, sizes.split(",")):
        result |= _named(data_path(home / "size", base.resolve(), rows), rows)
    near = _named(data_path(home / "size", base.resolve(), rows, {"near_duplicates": 0.8}), rows)
    result |= {f"near_{name}": value for name, value in near.items()}
    outputs.write_json(ROOT / "build" / "bench" / "data.json", result)
    shutil.rmtree(home)
    print(json.dumps(result, indent=2))


def beside_peers(folder: Path, base: Path, rows: int, repeats: int, start_up: float) -> dict[str, Any]:
    """The path and its peers in turn, `repeats` times, as medians and as the ratios that are promised."""
    runs: list[dict[str, float]] = []
    for _ in range(repeats):
        measured = data_path(folder, base, rows)
        found = {name: _peer(name, folder, base) for name in PEERS}
        if not all(peer.get("same_tokens", True) for peer in found.values()):
            raise UserError("datasets.map gave other tokens than the shards hold, so the two cannot be compared")
        runs.append({"path": measured["seconds"] - start_up} | {name: one["seconds"] for name, one in found.items()})
    middle = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    return {
        "compared_rows": rows,
        **{f"compared_seconds_{name}": seconds for name, seconds in middle.items()},
        "share_of_tokenizer": middle["tokenizer"] / middle["path"],
        "ratio_to_datasets": middle["datasets"] / middle["path"],
        "ratio_to_datasets_batched": middle["datasets_batched"] / middle["path"],
    }


def _named(measured: dict[str, Any], rows: int) -> dict[str, Any]:
    size = f"{rows // 1_000_000}m" if rows % 1_000_000 == 0 else f"{rows // 1_000}k"
    return {f"{name}_{size}": value for name, value in measured.items()}


def data_path(
    folder: Path, base: Path, rows: int, clean: dict[str, Any] | None = None, environment: dict[str, str] | None = None
) -> dict[str, Any]:
    """Every stage once on so many rows: seconds in all and of each, and the largest sum of memory of a stage.

    Core seconds are what all processes of a stage took of the processors, which other load hardly changes; on a
    cluster, which `environment` names, those of its own process alone.
    """
    _project(folder, base, rows, clean or {})
    subprocess.run(
        _command(["ingest", "run", "starter"]), cwd=folder, env=_environment(), check=True, stdout=sys.stderr
    )
    stages = {command[0]: _watched(_command(command), folder, environment or {}) for command in STAGES}
    index = json.loads((folder / "data/pack/index.json").read_text(encoding="utf-8"))
    return {
        "seconds": sum(stage.seconds for stage in stages.values()),
        "peak_gib": max(stage.peak_gib for stage in stages.values()),
        **{f"{figure}_of_{name}": value for name, stage in stages.items() for figure, value in stage._asdict().items()},
        "sequences": index["sequences"],
        "tokens": index["tokens"],
    }


def _project(folder: Path, base: Path, rows: int, clean: dict[str, Any]) -> None:
    """A folder in which the stages run on so many rows, made of the repository's params."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "models" / "base").symlink_to(base)
    bench_rows.write(folder / "rows.jsonl", rows)
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    starter = values["ingest"]["sources"]["starter"] | {"path": str(ROOT / "tasks/ingest/starter"), "train": False}
    mine = {"format": "alpaca", "path": "rows.jsonl", "licence": "Apache-2.0"}
    values["ingest"] |= {"clean": clean, "sources": {"mine": mine, "starter": starter}}
    values["render"] |= {"examples": rows}
    values["evaluate"] |= {"suites": values["render"]["held_out"], "include": {}}
    values["pack"] |= {"row_tokens": 1_024}
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def _watched(command: list[str], folder: Path, environment: dict[str, str]) -> Cost:
    """What a command took, with its children."""
    start, before, machine = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN), _busy()
    process = subprocess.Popen(command, cwd=folder, env=_environment() | environment, stdout=sys.stderr)
    peak = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, peak))
    watcher.start()
    status = process.wait()
    seconds, machine = time.perf_counter() - start, _busy() - machine
    watcher.join()
    if status:
        raise UserError(f"{' '.join(command)} ended with status {status}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    own = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(seconds, own, machine, peak[0])


def _busy() -> float:
    """Seconds that this machine's cores have computed."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system)


def _watch(process: subprocess.Popen[bytes], peak: list[float]) -> None:
    """Keep the largest sum of the processes' own share of memory (PSS: a page that n share counts 1/n for each)."""
    while process.poll() is None:
        held = 0
        for one in _family(process.pid):
            try:
                held += one.memory_full_info().pss
            except psutil.Error:
                continue
        peak[0] = max(peak[0], held / 1024**3)
        time.sleep(0.5)


def _family(number: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(number)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _peer(name: str, folder: Path, base: Path) -> dict[str, Any]:
    paths = [str(folder / "data/render/examples.parquet"), str(base), str(folder / "data/pack")]
    command = [sys.executable, "-m", "infra.bench_peers", name, *paths]
    done = subprocess.run(command, cwd=ROOT, env=_environment(), check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _command(stage: list[str]) -> list[str]:
    return [sys.executable, "-m", f"tasks.{stage[0]}", *stage[1:]]


def _environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "TOKENIZERS_PARALLELISM": "true", "HF_HUB_OFFLINE": "1"}


if __name__ == "__main__":
    errors.run(lambda: typer.run(main))
