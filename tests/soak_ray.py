"""python -m tests.soak_ray: the real model at the size of `make quick` on a Ray cluster of two nodes, which are lost.

The same commit is computed by `dvc repro` alone, then on a cluster, and twice more with a node killed: in the middle of
training, and of an evaluation. Each has a clone, nodes and a DVC remote of its own, so that nothing is restored from
another's; each dvc.lock must equal the first one, parsed. What is done stands in build/soak/ray.json, from which a soak
that was broken off goes on.
"""

import json
import shutil
import signal
import sys
import time
from collections import Counter
from typing import Any

from tasks import outputs
from tests import ray_cluster, ray_runs
from tests.checkout import Checkout, clone
from tests.data_fixtures import ROOT
from tests.ray_runs import Kill

RESULT = ROOT / "build/soak/ray.json"
FOLDER = RESULT.with_suffix("")
RUNS: dict[str, list[Kill]] = {
    "undisturbed": [],
    "killed in training": [Kill(ray_runs.trains, 5)],
    "killed in evaluation": [Kill(ray_runs.evaluates, 8)],
}
"""Runs on the cluster; a node is killed so many seconds after it is seen behind a checkpoint, or at an evaluation."""


def quick(name: str) -> Checkout:
    """A clone at the quick size, with a checkpoint after every step."""
    folder = FOLDER / name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)
    made = clone(folder / "run")
    made.run(sys.executable, "-m", "tasks.params", "merge", "infra/quick.yaml")
    made.change("train", "checkpoint_minutes", 0)
    return made


def alone() -> dict[str, Any]:
    """What one machine makes of it."""
    made, start = quick("alone"), time.monotonic()
    made.run("dvc", "repro")
    return {"seconds": round(time.monotonic() - start), "lock": ray_runs.lock(made)}


def on_nodes(name: str, expected: dict[str, Any]) -> dict[str, Any]:
    """What the cluster makes of it, with these kills."""
    made = quick(name)
    ray_runs.ready(made, made.root.with_name("store"))
    with ray_cluster.started() as cluster:
        start = time.monotonic()
        told = ray_runs.run(made, cluster, *RUNS[name])
        seconds = round(time.monotonic() - start)
    ran_on = Counter(node for nodes in told.nodes.values() for node in nodes)
    begun_again = {address: nodes for address, nodes in told.nodes.items() if len(nodes) > 1}
    equal = ray_runs.lock(made) == expected
    shutil.rmtree(made.root.parent)
    return {
        "seconds": seconds,
        "stages on nodes": dict(sorted(ran_on.items())),
        "killed": told.killed,
        "begun again": begun_again,
        "equal": equal,
    }


def main() -> None:
    """What is missing of the soak, and its result."""
    told: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    commit = Checkout(ROOT).run("git", "rev-parse", "HEAD").strip()
    if told.get("commit") != commit or told.get("runs", {}).keys() == RUNS.keys():
        told = {"commit": commit, "runs": {}}
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    if "alone" not in told:
        told["alone"] = alone()
        outputs.write_json(RESULT, told)
    for name in [name for name in RUNS if name not in told["runs"]]:
        told["runs"][name] = on_nodes(name, told["alone"]["lock"])
        outputs.write_json(RESULT, told)
        print(f"{name}: {told['runs'][name]}", flush=True)
    right = all(
        run["equal"] and len(run["killed"]) == len(RUNS[name]) == bool(run["begun again"])
        for name, run in told["runs"].items()
    )
    print("equal" if right else "NOT EQUAL")
    sys.exit(not right)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # the nodes are ended too
    main()
