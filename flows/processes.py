"""The pipeline in a checkout, as a process of its own that outlives the one that started it."""

import fcntl
import itertools
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.checkouts import Checkout
from tasks import settings
from tasks.errors import UserError

_RUNNING: dict[str, subprocess.Popen[bytes]] = {}
_STOPPED = threading.Event()


@contextmanager
def alone(checkout: Checkout, say: Callable[[str], None]) -> Iterator[int]:
    """The descriptor of a lock on the checkout, once no run of an earlier, killed comparison goes on there.

    The run inherits it, so that it holds for as long as the run lives.
    """
    checkout.folder.parent.mkdir(parents=True, exist_ok=True)
    with checkout.folder.with_name(f"{checkout.folder.name}.lock").open("w") as file:
        waited = False
        while not _locked(file.fileno()):
            if not waited:
                say("an earlier comparison still computes it; waiting for that")
            waited = True
            if _STOPPED.wait(0.5):
                raise UserError("stopped")
        yield file.fileno()


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run_pipeline(checkout: Checkout, api: str, lock: int) -> Iterator[str]:
    """The lines that the pipeline logs in the checkout, as they come. Raises UserError where it fails.

    It logs to a file, so that it outlives this process, and is in a session of its own: it gets Ctrl-C from `stop`.
    As in `dvc exp run`, stages know of the experiment that they run for: its training belongs to MLflow's store of the
    user's repository, and its model is not registered.
    """
    environment = {
        **os.environ,
        "PREFECT_API_URL": api,
        "DVC_EXP_NAME": checkout.run.name,
        "DVC_ROOT": str(settings.ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "flows.pipeline"]
    with checkout.log.open("wb") as log:
        if _STOPPED.is_set():
            raise UserError("stopped")
        process = subprocess.Popen(
            command, cwd=checkout.folder, env=environment, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True, pass_fds=(lock,),
        )  # fmt: skip
    _RUNNING[checkout.run.name] = process
    try:
        yield from following(process, checkout.log)
    finally:
        process.wait()
        del _RUNNING[checkout.run.name]
    if process.returncode:
        raise UserError(f"{fault(checkout.log)}; all it said is in {checkout.log}")


def following(process: subprocess.Popen[bytes], log: Path) -> Iterator[str]:
    """The lines of a file that a process writes, until it ends."""
    with log.open(encoding="utf-8", errors="replace") as file:
        line = ""
        while True:
            ended = process.poll() is not None
            while part := file.readline():
                line += part
                if line.endswith("\n"):
                    yield line.rstrip()
                    line = ""
            if ended:
                return
            time.sleep(0.3)


def fault(log: Path) -> str:
    """What a failed run's log says went wrong: its first error with what is indented under it, else its last line."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    errors = (place for place, line in enumerate(lines) if re.search(r"(?<!\w)error: ", line))
    if (first := next(errors, None)) is None:
        return lines[-1]
    below = itertools.takewhile(lambda line: line.startswith("  "), lines[first + 1 :])
    return " ".join([re.sub(r".*?(?<!\w)error: ", "", lines[first], count=1), *map(str.strip, below)])


@contextmanager
def ended_by_ctrl_c() -> Iterator[None]:
    """While the block runs, Ctrl-C ends all runs first.

    Python's asyncio, in which Prefect runs flows, would otherwise hold it back until the flow's own code has returned.
    """

    def heard(number: int, frame: object) -> None:
        stop()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def stop() -> None:
    """End all runs as Ctrl-C ends one, and start none any more."""
    _STOPPED.set()
    for process in list(_RUNNING.values()):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
