"""Stages on a Ray cluster: each asks for what its `meta` says, and Ray finds the node.

A stage stays a Prefect task of the flow, which hands its command to Ray and follows it. Prefect's RayTaskRunner would
run the task itself on the node: every node would need the way and the credentials to Prefect's server, though the
temporary one listens on the flow's machine alone, and dvc.lock, pages and retries would have to come back here anyway.
So the nodes need no Prefect, a lost node is one failed call, and nothing else of the flow differs.
"""

import fcntl
import io
import logging
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import (
    NodeDiedError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    TaskCancelledError,
    WorkerCrashedError,
)

from flows import away, graph, processes
from tasks import settings
from tasks.errors import UserError
from tasks.records import digest

LOST = (NodeDiedError, WorkerCrashedError, ObjectLostError, OutOfMemoryError)
"""What Ray says where a stage came to no end of its own."""

LOSSES = 3
"""A stage under which so many nodes were lost has failed."""

RESOURCES = {"cpus": "CPU", "gpus": "GPU", "memory": "memory"}
"""What a stage may ask for in its `meta`, and Ray's name for it; memory is in GiB there, and in bytes here."""

_RUNNING: set[Any] = set()


@contextmanager
def joined(stages: list[graph.Stage], threads: int) -> Iterator[Callable[[graph.Stage, float], Iterator[str]]]:
    """Computes these stages on the cluster while the block runs; what still runs there at its end is ended.

    Raises UserError where there is no cluster, or one of them could not run there.
    """
    away.check()
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # nodes have no code of this project of their own
    try:
        _reach(os.environ.get("RAY_ADDRESS", ""))
        ray.init("auto", log_to_driver=False, logging_level=logging.WARNING, configure_logging=False)
    except (OSError, RuntimeError, RayError) as error:
        raise UserError(
            f"compute.engine is ray, and no cluster answers: start one on this machine (ray start --head), join one, or"
            f" name its head as HOST:PORT in RAY_ADDRESS: {error}"
        ) from error
    try:
        check(stages, threads)
        away.offer()
        with processes.ctrl_c_first(_cancel):
            yield partial(repro, threads)
    finally:
        _cancel()
        ray.shutdown()


def _reach(address: str) -> None:
    """Raise OSError where nobody listens there: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _cancel() -> None:
    """End what runs on the nodes, and wait until the threads that follow it have heard of it."""
    for running in list(_RUNNING):
        ray.cancel(running)
    for _ in range(600):
        if not _RUNNING:
            break
        time.sleep(0.1)


def check(stages: list[graph.Stage], threads: int) -> None:
    """Raise UserError where a stage asks for more than any node has."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for stage in stages:
        needs = wanted(stage, threads)
        if not any(_fits(needs, node) for node in nodes):
            asked = ", ".join(f"{name} {needs[name]:g}" for name in RESOURCES)
            has = "; ".join(sorted({_told(node) for node in nodes}))
            raise UserError(
                f"dvc.yaml: {stage.address}: its meta asks for {asked}, and no node has it; they have {has}"
            )


def wanted(stage: graph.Stage, threads: int) -> dict[str, float]:
    """What a stage asks for: a CPU for each thread, no GPU and no memory to itself, unless its meta says otherwise."""
    needs = {"cpus": threads, "gpus": 0, "memory": 0} | {key: stage.meta[key] for key in RESOURCES if key in stage.meta}
    for key, value in needs.items():
        if not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise UserError(f"dvc.yaml: {stage.address}: meta.{key}: {value!r}: must be a number from 0")
    return needs


def _told(node: dict[str, float]) -> str:
    """What a node has, in the words of `meta`."""
    has = {key: node.get(name, 0) / (1024**3 if key == "memory" else 1) for key, name in RESOURCES.items()}
    return ", ".join(f"{key} {value:.4g}" for key, value in has.items())


def _fits(needs: dict[str, float], node: dict[str, float]) -> bool:
    return all(needs[key] * (1024**3 if key == "memory" else 1) <= node.get(name, 0) for key, name in RESOURCES.items())


def repro(threads: int, stage: graph.Stage, minutes: float) -> Iterator[str]:
    """The lines of `dvc repro` of a stage on some node, whose outs are here at their end.

    Raises UserError where it fails there, or its node is lost again and again.
    """
    needs = wanted(stage, threads)
    there = ray.remote(num_returns="streaming", max_retries=0)(_there).options(
        name=stage.address,
        num_cpus=needs["cpus"],
        num_gpus=needs["gpus"] if needs["cpus"] else 0,  # else its parts have them
        memory=needs["memory"] * 1024**3 or None,
        scheduling_strategy="SPREAD",
    )
    own = _environment() | ({} if needs["cpus"] else {settings.PART_GPUS: str(needs["gpus"])})
    place = away.HOME / "runs" / digest([socket.gethostname(), str(Path.cwd())], 16) / stage.address
    for left in reversed(range(LOSSES)):
        try:
            yield from _followed(stage, there.remote(away.pack(), place, [stage.address, str(minutes)], own))
            return
        except LOST as error:
            if not left:
                raise UserError(f"{stage.address}: {LOSSES} nodes were lost under it: {error}") from error
            yield f"{stage.address}: its node was lost ({type(error).__name__}); it begins again where there is room"


def _followed(stage: graph.Stage, running: Any) -> Iterator[str]:
    """The lines of a stage that was handed to Ray; what it came to is brought here."""
    _RUNNING.add(running)
    try:
        for item in running:
            match ray.get(item):
                case str(line):
                    yield line
                case (0, answer):
                    away.merge(stage.address, answer)
                case (status, _):
                    raise UserError(f"{stage.address} ended on its node with exit status {status}")
    except TaskCancelledError as error:
        raise UserError("stopped") from error
    finally:
        _RUNNING.remove(running)


def _environment() -> dict[str, str]:
    """What stages know of their run; MLflow's address only where a server is there for other machines too."""
    address = settings.tracking_uri()
    told = {"MLFLOW_TRACKING_URI": address if address.startswith("http") else "", "DVC_EXP_NAME": settings.experiment()}
    return {name: value for name, value in told.items() if value}


def _there(parcel: bytes, place: Path, arguments: list[str], environment: dict[str, str]) -> Iterator[Any]:
    """On a node: unpack the parcel, compute the stage in it, and yield its lines, then its exit status and answer.

    The folder is the stage's own; in build/ it keeps the checkpoints of an attempt that was broken off.
    """
    folder = Path.home() / place
    folder.mkdir(parents=True, exist_ok=True)
    yield f"on {socket.gethostname()}, node {ray.get_runtime_context().get_node_id()[:8]}, in {folder}"
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # what an earlier attempt left running there has ended
        _unpack(parcel, folder)
        # Ray sets a number of threads that is not the run's.
        own = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        if settings.PART_GPUS in environment:
            own[settings.CLUSTER] = ray.get_runtime_context().gcs_address
        if lacks := [name for name in ("dvc", "torch") if find_spec(name) is None]:
            yield f"error: {sys.executable} here has no {' and no '.join(lacks)}; start Ray from a .venv of `make ray`"
            yield 1, b""
            return
        command = [sys.executable, "-m", "flows.away", *arguments]
        with subprocess.Popen(
            command, cwd=folder, env={**own, **environment, "PYTHONUNBUFFERED": "1"}, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True, pass_fds=(lock.fileno(),),
        ) as process:  # fmt: skip
            try:
                yield from (line.rstrip() for line in process.stdout or ())
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)
                raise
        if process.returncode:
            yield process.returncode, b""
        else:
            yield 0, (folder / "build" / "answer.tar").read_bytes()
            shutil.rmtree(folder)


def _unpack(parcel: bytes, folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name != "build":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    with tarfile.open(fileobj=io.BytesIO(parcel)) as archive:
        archive.extractall(folder, filter="data")
