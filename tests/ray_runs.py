"""Runs of the pipeline on a cluster, from clean clones, with a node killed at a chosen moment."""

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.checkout import Checkout, outside, ran
from tests.ray_cluster import Cluster, Node


def trains(node: Node) -> bool:
    """Whether a training is at work on the node, and behind its first checkpoint."""
    return node.computes("tasks.train run") and node.checkpoints() > 0


def evaluates(node: Node) -> bool:
    """Whether the tuned model is scored on the node."""
    return node.computes("tasks.evaluate run tuned")


@dataclass(frozen=True)
class Kill:
    """A node is killed so many seconds after it does this."""

    does: Callable[[Node], bool]
    seconds: float = 0


@dataclass
class Told:
    """What a run on the cluster printed, and which node was killed in it."""

    output: str
    killed: list[str] = field(default_factory=list)

    @property
    def nodes(self) -> dict[str, list[str]]:
        """The nodes on which each stage was begun, in order."""
        found: dict[str, list[str]] = {}
        for address, home in re.findall(r"'([^']+)' - on \S+, node \w+, in (\S+)/\.cache/", self.output):
            found.setdefault(address, []).append(Path(home).name)
        return found

    @property
    def ran(self) -> set[str]:
        """The stages that were computed."""
        return ran(self.output)


def ready(made: Checkout, store: Path) -> Checkout:
    """The checkout with everything in git, and a DVC remote for the nodes: a folder stands for a store of a network."""
    made.change("compute", "engine", "ray")
    made.run("dvc", "remote", "add", "--default", "store", str(store))
    made.commit("as it is run")
    return made


@contextmanager
def begun(made: Checkout, cluster: Cluster) -> Iterator[subprocess.Popen[bytes]]:
    """The flow on the cluster, while it runs; what it prints is in build/flow.log."""
    path = made.root / "build" / "flow.log"
    path.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "flows.pipeline"]
    environment = {**outside(), **cluster.environment()}
    with (
        path.open("wb") as log,
        subprocess.Popen(command, cwd=made.root, env=environment, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            yield process
        finally:
            process.kill()


def run(made: Checkout, cluster: Cluster, *kills: Kill) -> Told:
    """The flow on the cluster, with a node killed at each of these moments and another one started instead of it."""
    killed = []
    with begun(made, cluster) as process:
        for kill in kills:
            node = cluster.where(kill.does, process)
            time.sleep(kill.seconds)
            assert kill.does(node), f"{node.home.name} was done already"
            node.kill()
            killed.append(node.home.name)
            cluster.add(f"node{len(cluster.nodes) + 1}")
        process.wait()
    told = Told((made.root / "build/flow.log").read_text(encoding="utf-8", errors="replace"), killed)
    assert process.returncode == 0, told.output[-4000:]
    return told


def lock(made: Checkout) -> dict[str, Any]:
    """Its dvc.lock, parsed."""
    parsed: dict[str, Any] = yaml.safe_load((made.root / "dvc.lock").read_text(encoding="utf-8"))
    return parsed
