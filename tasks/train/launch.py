"""The other processes of a training: each runs the stage's own command, in the environment that torchrun gives.

The process that a person or DVC starts is the first of them. accelerate reads that environment (RANK, WORLD_SIZE,
MASTER_ADDR and so on), so `torchrun` may start all of them as well. It does not here, nor does `accelerate launch`: the
latter starts several processes on a CPU only through MPI (accelerate 1.15), and torchrun answers a failure with
tracebacks of its own.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tasks import settings
from tasks.errors import UserError
from tasks.train.together import LostError

PATIENCE = 30.0
"""Seconds in which a process ends, or notices that another one has failed."""


class Other:
    """Another process, ended with the block; what it prints is dropped, but for its errors."""

    def __init__(self, rank: int, command: list[str], environment: dict[str, str]) -> None:
        self.name = f"process {rank + 1} of {environment['WORLD_SIZE']}"
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the block
        path = os.pathsep.join(filter(None, [str(settings.ROOT), os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(
            [sys.executable, *command],
            # The working folder need not be the repository's.
            env=os.environ | environment | {"RANK": str(rank), "LOCAL_RANK": str(rank), "PYTHONPATH": path},
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
        )

    def __enter__(self) -> "Other":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        self._errors.close()

    def fault(self) -> str:
        """Why it failed; empty while it runs, where it ended well, and where it only lost another one."""
        status = self.process.poll()
        if not status:
            return ""
        if status < 0:
            return f"{self.name} failed: it was ended by {signal.Signals(-status).name}"
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip().rpartition("error: ")[2]
        return "" if said == LostError.WORDS else f"{self.name} failed: {said}"


@contextmanager
def others(processes: int, threads: int, command: list[str]) -> Iterator[None]:
    """Within the block this process is the first of several; the others run `command`, arguments of this Python.

    Raises UserError with the message of another one where that failed.
    """
    if processes == 1 or "RANK" in os.environ:
        yield
        return
    environment = {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1"}
    environment |= {"MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": str(threads)}
    with ExitStack() as kept:
        started = [kept.enter_context(Other(rank, command, environment)) for rank in range(1, processes)]
        kept.enter_context(_watched(started))
        os.environ |= environment | {"RANK": "0", "LOCAL_RANK": "0"}
        try:
            yield
        except LostError as error:
            raise UserError(_fault_of(started) or str(error)) from error
        if fault := _fault_of(started):
            raise UserError(fault)


def _fault_of(started: list[Other]) -> str:
    """Wait for the end of all, or for a failure, and tell it; empty where there is none."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        ended = all(other.process.poll() is not None for other in started)
        if (fault := _fault_now(started)) or ended:
            return fault
        time.sleep(0.02)
    return ""


def _fault_now(started: list[Other]) -> str:
    return next(filter(None, (other.fault() for other in started)), "")


@contextmanager
def _watched(started: list[Other]) -> Iterator[None]:
    """End this process where another one has failed and the block does not notice, as under nccl it may not."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.5):
            if (fault := _fault_now(started)) and not done.wait(PATIENCE):
                print(f"error: {fault}", file=sys.stderr, flush=True)
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
