"""python -m tests.soak_parallel [CHECKOUT]: twenty steps on a real model by one process, by two, and by two in parts.

CHECKOUT is where base model and examples are, this one by default. All train the same adapter on the same rows, of 256
tokens so that it takes minutes, with the same two cores: one process has two threads, two processes have one each.
One process of one thread shows what rounding alone does. Writes build/soak/parallel.json and prints the losses; the
exit status tells whether the curves are alike.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from tasks import outputs
from tests.checkout import outside
from tests.data_fixtures import ROOT

RESULT = ROOT / "build/soak/parallel.json"
STEPS = 20
TOLERANCE = 1e-4
"""How far two losses of a step may lie apart, as a share of one: who computes a row changes no number.

Threads that share a step's rows cut them otherwise, which in bfloat16 moves last digits; that is told and not judged.
"""

LAUNCHES: dict[str, dict[str, Any]] = {
    "one process": {"threads": 1, "launch": {"processes": 1}},
    "two processes": {"threads": 1, "launch": {"processes": 2}},
    "two processes, base sharded": {"threads": 1, "launch": {"processes": 2, "base": "sharded"}},
    "one process, two threads": {"threads": 2, "launch": {"processes": 1}},
}


def params(folder: Path, threads: int, launch: dict[str, Any]) -> Path:
    """A folder with this repository's params but for the sizes and who computes."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["compute"]["threads"] = threads
    values["pack"]["row_tokens"] = 256
    values["train"] |= {"max_steps": STEPS, "rows_per_step": 2, "launch": launch}
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return folder


def run(folder: Path, stage: str, **places: Path) -> None:
    """Run a stage there."""
    named = [word for name, place in places.items() for word in (f"--{name}", str(place))]
    own = {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": f"sqlite:///{folder / 'mlflow.db'}"}
    subprocess.run([sys.executable, "-m", f"tasks.{stage}", "run", *named], cwd=folder, env=outside() | own, check=True)


def train(folder: Path, base: Path, shards: Path) -> dict[str, Any]:
    """Train there; returns losses, speed, seconds from start to end and the adapter's digest."""
    start = time.monotonic()
    run(folder, "train", shards=shards, base=base, out=folder / "tuned")
    seconds = time.monotonic() - start
    [tracked] = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_runs(["1"])
    losses = [point["loss"] for point in json.loads((folder / "tuned/history.json").read_text())]
    return {
        "losses": losses,
        "tokens_per_second": tracked.data.metrics["tokens_per_second"],
        "seconds": seconds,
        "adapter": outputs.digest_path(folder / "tuned/adapter_model.safetensors"),
    }


def apart(one: list[float], other: list[float]) -> float:
    """The largest difference of two curves, of the loss."""
    return max(abs(a - b) / a for a, b in zip(one, other, strict=True))


def main(checkout: Path = ROOT) -> None:
    """Train under each launch and compare."""
    checkout = checkout.resolve()
    home, base, rendered = RESULT.with_suffix(""), checkout / "models/base", checkout / "data/render"
    folders = [params(home / str(number), **own) for number, own in enumerate(LAUNCHES.values())]
    shards = home / "shards"
    parts = {name: rendered / f"{name}.parquet" for name in ("examples", "validation")}
    run(folders[0], "pack", **parts, base=base, out=shards)
    made = dict(zip(LAUNCHES, (train(folder, base, shards) for folder in folders), strict=True))
    alone, *others = (one["losses"] for one in made.values())
    differences = dict(zip(list(made)[1:], (apart(alone, losses) for losses in others), strict=True))
    judged = [value for name, value in differences.items() if "processes" in name]
    told = {"launches": made, "largest_difference": differences, "alike": max(judged) < TOLERANCE}
    outputs.write_json(RESULT, told)
    print("step", *made, sep=" | ")
    for number, row in enumerate(zip(alone, *others, strict=True), start=1):
        print(number, *(f"{loss:.4f}" for loss in row), sep=" | ")
    print(json.dumps(differences), "alike" if told["alike"] else "NOT ALIKE")
    sys.exit(not told["alike"])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
