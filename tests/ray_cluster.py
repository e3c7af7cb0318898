"""A Ray cluster of real processes on loopback: a head that computes nothing, and nodes with nothing in common.

Each node is `ray start` in a session, a working folder and a home folder of its own. What they share is what machines
share: the head's address, and the place that DVC's remote names. Ray itself listens at all addresses of a machine while
a test runs.
"""

import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.checkout import outside
from tests.loopback import free_port

QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}


@dataclass(frozen=True)
class Node:
    """A node's process, and the home folder of all that runs on it."""

    process: subprocess.Popen[bytes]
    home: Path

    def wait(self) -> None:
        """Return as soon as it is a part of the cluster; AssertionError with its log after a minute."""
        for _ in range(600):
            if self.process.poll() is not None:
                break
            if "Ray runtime started" in (told := (self.home / "log").read_text()):
                return
            time.sleep(0.1)
        raise AssertionError(told)

    def computes(self, words: str) -> bool:
        """Whether a command with these words is at work here."""
        found = []
        for one in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                found.append(" ".join(one.cmdline()))
        return any(words in command for command in found)

    def checkpoints(self) -> int:
        """Checkpoints of trainings that are at work here, or were."""
        return len(list(self.home.glob(".cache/instructflow/away/runs/*/*/build/checkpoints/*/checkpoint-*")))

    def kill(self) -> None:
        """SIGKILL to all that runs on it, at once, as when a machine loses its power."""
        whole = psutil.Process(self.process.pid)
        for one in [whole, *whole.children(recursive=True)]:
            one.send_signal(signal.SIGSTOP)  # so that nothing is started, and nobody is told, meanwhile
        for one in [*whole.children(recursive=True), whole]:
            one.kill()
        self.process.wait()


@dataclass
class Cluster:
    """The head's address, the bytes that each node's object store holds, and the nodes."""

    folder: Path
    address: str
    store: int
    nodes: list[Node] = field(default_factory=list)

    def start(self, name: str, *options: str) -> Node:
        """Start a node of this name."""
        home = self.folder / name
        home.mkdir()
        common = [
            "--block", "--node-ip-address=127.0.0.1", f"--object-store-memory={self.store}", "--log-color=false",
            f"--temp-dir={home / 't'}",
        ]  # fmt: skip
        with (home / "log").open("wb") as log:
            process = subprocess.Popen(
                [Path(sys.executable).with_name("ray"), "start", *common, *options],
                cwd=home,
                env={**outside(), **QUIET, "HOME": str(home)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return Node(process, home)

    def add(self, name: str, cpus: int = 2) -> None:
        """Start a node that computes, and that is a part of the cluster some seconds later."""
        self.nodes.append(self.start(name, f"--address={self.address}", f"--num-cpus={cpus}"))

    def environment(self) -> dict[str, str]:
        """By which a flow finds the cluster."""
        return {**QUIET, "RAY_ADDRESS": self.address}

    def where(self, is_it: Callable[[Node], bool], flow: subprocess.Popen[bytes]) -> Node:
        """The first node of which it is so, once there is one. AssertionError where the flow ends first."""
        while flow.poll() is None:
            for node in self.nodes:
                if node.process.poll() is None and is_it(node):
                    return node
            time.sleep(0.1)
        raise AssertionError("the flow ended first")


@contextmanager
def started(nodes: int = 2, cpus: int = 2, store: int = 100_000_000) -> Iterator[Cluster]:
    """A cluster of so many nodes, while the block runs."""
    port = free_port()
    folder = Path(tempfile.mkdtemp(prefix="ray-"))  # Ray's sockets lie there, and their paths must be short
    made = Cluster(folder, f"127.0.0.1:{port}", store)
    # Too little memory for a stage that loads a model, so that those are on nodes, which a test may end.
    room = ("--num-cpus=0", f"--memory={1024**3}")
    head = made.start("head", "--head", f"--port={port}", "--include-dashboard=false", *room)
    try:
        head.wait()
        for number in range(nodes):
            made.add(f"node{number + 1}", cpus)
            made.nodes[-1].wait()
        yield made
    finally:
        for node in [*made.nodes, head]:
            if node.process.poll() is None:
                node.kill()
        shutil.rmtree(folder, ignore_errors=True)
