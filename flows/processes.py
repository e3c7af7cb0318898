"""Processes that outlive the flow that started them: a checkout's lock, and the pipeline of a run in it."""

import fcntl
import itertools
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from flows.experiments import Experiment
from tasks import locks, settings
from tasks.errors import UserError

_RUNNING: dict[str, subprocess.Popen[bytes]] = {}
_STOPPED = threading.Event()


REPRO = ["dvc", "--wait-for-lock", "repro", "--single-item"]
"""The command that computes one stage, here and on any other machine."""

HELD: set[int] = set()
"""Descriptors of locks that the commands of this process inherit, so that they hold for as long as one lives."""


@contextmanager
def alone(folder: Path, say: Callable[[str], None]) -> Iterator[int]:
    """The descriptor of a lock on a checkout, once nothing that an earlier, killed flow started goes on there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        waited = False
        while not locks.take(file.fileno()):
            if not waited:
                say("an earlier flow's stage is still at work here; waiting for it")
            waited = True
            if _STOPPED.wait(0.5):
                raise UserError("stopped")
        HELD.add(file.fileno())
        try:
            yield file.fileno()
        finally:
            HELD.remove(file.fileno())


@contextmanager
def cache_in_use() -> Iterator[None]:
    """While the block runs, nobody prunes DVC's cache; so many flows as like may use it at once."""
    with _cache_lock().open("w") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH)
        HELD.add(file.fileno())
        try:
            yield
        finally:
            HELD.remove(file.fileno())


@contextmanager
def cache_for_itself() -> Iterator[bool]:
    """Whether no flow uses DVC's cache; while the block runs, none begins to."""
    with _cache_lock().open("w") as file:
        yield locks.take(file.fileno())


def _cache_lock() -> Path:
    path = settings.home() / settings.BUILD / "cache.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def limited(process: int, seconds: float) -> Iterator[threading.Event]:
    """While the block runs, end a process and all that it started once so many seconds are over; tells whether it did.

    They get SIGTERM, at which a training writes a checkpoint, and a minute for it.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(psutil.NoSuchProcess):
            whole = psutil.Process(process)
            family = [*whole.children(recursive=True), whole]
            for one in family:
                with suppress(psutil.NoSuchProcess):
                    one.terminate()
            for one in psutil.wait_procs(family, timeout=60)[1]:
                one.kill()

    timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


def lines(command: list[str], minutes: float = math.inf) -> Iterator[str]:
    """What a command prints, line by line as it comes, with this Python's tools first on the path.

    It writes to a file: a pipe would break with this process, and end what goes on behind a flow that was killed.
    Raises UserError where it fails, or takes longer than so many minutes.
    """
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONUNBUFFERED": "1",
        "COLUMNS": "150",
    }
    with tempfile.NamedTemporaryFile() as log, subprocess.Popen(
        command, stdout=log, stderr=subprocess.STDOUT, env=environment, pass_fds=tuple(HELD)
    ) as process, limited(process.pid, 60 * minutes) as late:  # fmt: skip
        yield from filter(str.strip, following(process, Path(log.name)))
    if late.is_set():
        raise UserError(f"`{' '.join(command)}` took longer than {minutes:g} minutes (limit_minutes in dvc.yaml)")
    if process.returncode:
        raise UserError(f"`{' '.join(command)}` ended with exit status {process.returncode}")


def run_pipeline(checkout: Experiment, api: str, lock: int) -> Iterator[str]:
    """The lines that the pipeline logs in the checkout, as they come. Raises UserError where it fails.

    It logs to a file, so that it outlives this process, and is in a session of its own: it gets Ctrl-C from `stop`.
    As in `dvc exp run`, stages know of the experiment that they run for: its training belongs to MLflow's store of the
    user's repository, and its model is not registered.
    """
    environment = {
        **os.environ,
        "PREFECT_API_URL": api,
        "DVC_EXP_NAME": checkout.run.name,
        "DVC_ROOT": str(settings.home()),
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
                if line:
                    yield line.rstrip()
                return
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.3)


def fault(log: Path) -> str:
    """What a failed run's log says went wrong: its first error with what is indented under it, else its last line."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    errors = (place for place, line in enumerate(lines) if re.search(r"(?<!\w)error: ", line))
    if (first := next(errors, None)) is None:
        return lines[-1]
    below = itertools.takewhile(lambda line: line.startswith("  "), lines[first + 1 :])
    return " ".join([re.sub(r".*?(?<!\w)error: ", "", lines[first], count=1), *map(str.strip, below)])


@contextmanager
def ctrl_c_first(act: Callable[[], None]) -> Iterator[None]:
    """While the block runs, Ctrl-C does this first, for instance ends all runs.

    Python's asyncio, in which Prefect runs flows, would otherwise hold it back until the flow's own code has returned.
    """

    def heard(number: int, frame: object) -> None:
        act()
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
