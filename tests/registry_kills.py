"""Register and promote in a process of their own that is killed at a call to the registry."""

import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import peft  # noqa: F401  # what a killed process needs is there before it begins
import torch
import transformers  # noqa: F401
from mlflow import MlflowClient

from tests.kills import before

CALLS = (
    "create_experiment", "create_run", "update_run", "set_terminated", "log_batch", "log_artifacts", "log_inputs",
    "log_outputs", "create_logged_model", "log_model_artifacts", "finalize_logged_model", "create_registered_model",
    "create_model_version", "set_registered_model_alias", "delete_registered_model_alias", "set_registered_model_tag",
    "set_model_version_tag", "update_model_version",
)  # fmt: skip
"""The client's calls that change the registry; between two of them it stays as it is."""


@dataclass
class Calls:
    """Counts calls that change the registry, and tells of the one at which the process is to be killed.

    There it waits for its end, or goes on, so that the kill comes at any place behind it.
    """

    told: int
    at: int | None
    waits: bool
    made: int = 0

    def come(self, name: str) -> None:
        """A call begins."""
        self.made += 1
        if self.at is None:
            os.write(self.told, f"{name}\n".encode())
        elif self.made == self.at:
            os.write(self.told, f"{name}\n".encode())
            if self.waits:
                time.sleep(600)


def watch(calls: Calls) -> None:
    """Let the client's calls be counted."""
    for name in CALLS:
        before(MlflowClient, name, lambda *_, own=name, **__: calls.come(own))


def started(work: Callable[[], Any], folder: Path, database: Path, at: int | None, waits: bool) -> tuple[int, int]:
    """A process that does the work on a registry; its id, and where it tells of calls: all of them, or the one."""
    readable, writable = os.pipe()
    process = os.fork()
    if process:
        os.close(writable)
        return process, readable
    status = 1
    try:
        os.close(readable)
        os.chdir(folder)
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{database}"
        torch.set_num_threads(2)
        watch(Calls(writable, at, waits))
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def run(work: Callable[[], Any], folder: Path, database: Path) -> list[str]:
    """Do the work in a process of its own, to its end; the calls that it made."""
    process, readable = started(work, folder, database, None, waits=False)
    with os.fdopen(readable) as told:
        calls = told.read().split()
    if os.waitpid(process, 0)[1]:
        raise SystemExit("the work failed; its traceback stands above")
    return calls


def kill(work: Callable[[], Any], folder: Path, database: Path, at: int, delay: float | None) -> str:
    """Do the work up to its `at`-th call and kill it there, or so many seconds behind it; the call's name."""
    process, readable = started(work, folder, database, at, waits=delay is None)
    with os.fdopen(readable) as told:
        name = told.readline().strip()
        time.sleep(delay or 0)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return name
