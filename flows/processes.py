"""The pipeline in a checkout, as a process of its own that outlives the one that started it."""

import fcntl
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


def run_pipeline(checkout: Checkout, role: str, api: str, lock: int) -> Iterator[str]:
    """The lines that the pipeline logs in the checkout, up to the stage of `role`. Raises UserError where it fails.

    It logs to a file, so that it outlives this process, and is in a session of its own: it gets Ctrl-C from `stop`.
    Its training belongs to MLflow's store of the user's repository, under the experiment's name, as in `dvc exp run`.
    """
    environment = {
        **os.environ,
        "PREFECT_API_URL": api,
        "DVC_EXP_NAME": checkout.run.name,
        "DVC_ROOT": str(settings.ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    command = [sys.executable, "-m", "flows.pipeline", "--until", role]
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
    """What a failed run's log says went wrong: its first error, else its last line."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["it said nothing"]
    found = (told[0] for line in lines if (told := re.search(r"(?<!\w)error: .*", line)))
    return next(found, lines[-1]).removeprefix("error: ")


def stop() -> None:
    """End all runs as Ctrl-C ends one, and start none any more."""
    _STOPPED.set()
    for process in list(_RUNNING.values()):
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
