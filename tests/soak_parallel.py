"""python -m tests.soak_parallel [CHECKOUT]: twenty steps on a real model by one process, by two, and by two in parts.

CHECKOUT is where base model and shards are, this one by default. All train the same adapter on the same rows with the
same two cores: one process has two threads, two processes have one each. Writes build/soak/parallel.json and prints
the losses; the exit status tells whether the curves are alike.
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
TOLERANCE = 0.01
"""How far two losses may lie apart, of each other: bfloat16 has three digits, and sums in another order move the last.

A row that is left out or learnt twice, or a gradient that is not summed, moves the losses by tenths.
"""

LAUNCHES: dict[str, dict[str, Any]] = {
    "one process": {"processes": 1},
    "two processes": {"processes": 2},
    "two processes, base sharded": {"processes": 2, "base": "sharded"},
}


def train(folder: Path, checkout: Path, launch: dict[str, Any]) -> dict[str, Any]:
    """Train in a folder of its own; returns losses, speed, seconds and the adapter's digest."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["compute"]["threads"] = 2 // launch["processes"]
    values["train"] |= {"max_steps": STEPS, "rows_per_step": 2, "launch": launch}
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    address = f"sqlite:///{folder / 'mlflow.db'}"
    places = ["--shards", str(checkout / "data/pack"), "--base", str(checkout / "models/base"), "--out", "tuned"]
    start = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "tasks.train", "run", *places],
        cwd=folder,
        env=outside() | {"PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": address},
        check=True,
    )
    seconds = time.monotonic() - start
    [run] = MlflowClient(address).search_runs(["1"])
    losses = [point["loss"] for point in json.loads((folder / "tuned/history.json").read_text())]
    return {
        "losses": losses,
        "tokens_per_second": run.data.metrics["tokens_per_second"],
        "seconds": seconds,
        "adapter": outputs.digest_path(folder / "tuned/adapter_model.safetensors"),
    }


def apart(one: list[float], other: list[float]) -> float:
    """The largest difference of two curves, of the loss."""
    return max(abs(a - b) / a for a, b in zip(one, other, strict=True))


def main(checkout: Path = ROOT) -> None:
    """Train under each launch and compare."""
    made = {name: train(RESULT.with_suffix("") / str(number), checkout, launch)
            for number, (name, launch) in enumerate(LAUNCHES.items())}  # fmt: skip
    alone, *others = (one["losses"] for one in made.values())
    differences = dict(zip(list(made)[1:], (apart(alone, losses) for losses in others), strict=True))
    told = {"launches": made, "largest_difference": differences, "alike": max(differences.values()) < TOLERANCE}
    outputs.write_json(RESULT, told)
    print("step", *made, sep=" | ")
    for number, row in enumerate(zip(alone, *others, strict=True), start=1):
        print(number, *(f"{loss:.4f}" for loss in row), sep=" | ")
    print(json.dumps(differences), "alike" if told["alike"] else "NOT ALIKE")
    sys.exit(not told["alike"])


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
