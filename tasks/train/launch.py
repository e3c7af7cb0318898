"""The processes of a training on this machine: torchrun's agent starts the stage's command in each, and watches them.

The agent ends all of them where one fails. It is used without torchrun, which answers a failure with tracebacks of its
own and begins again after any: here all begin again only where one was lost, since what is wrong stays wrong. Whoever
starts the stage's command with `torchrun` itself, for instance on several machines, starts no others.
"""

import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import multiprocessing
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from tasks import settings
from tasks.errors import UserError
from tasks.params import Launch
from tasks.train.together import LostError

PATIENCE = 60
"""Seconds in which a process that is told to end may end its step."""

NOTICED = 5
"""Seconds in which the agent notices that a process has ended."""


def run(wanted: Launch, threads: int, command: list[str]) -> None:
    """Run `command`, arguments of this Python, in all processes to their end; what the first one prints is shown.

    Raises UserError with the message of the one that failed, SystemExit where the first one has told it itself.
    """
    path = os.pathsep.join(filter(None, [str(settings.ROOT), os.environ.get("PYTHONPATH")]))
    # The working folder need not be the repository's.
    os.environ |= {"PYTHONPATH": path, "OMP_NUM_THREADS": str(threads)}
    for left in reversed(range(wanted.restarts + 1)):
        try:
            _attempt(wanted.processes, command)
        except _WorkerLostError as error:
            if not left:
                raise
            print(f"{error}; all begin again from the last checkpoint", flush=True)
        else:
            return


class _WorkerLostError(UserError):
    """A process was ended by a signal, as the kernel does it where memory runs out."""


def _attempt(processes: int, command: list[str]) -> None:
    """Run all processes once."""
    agent = logging.getLogger("torch.distributed.elastic")
    agent.propagate, agent.handlers = False, [logging.NullHandler()]
    with tempfile.TemporaryDirectory() as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            run_id="train",
            logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=dict.fromkeys(range(1, processes), Std.ALL)),
            max_restarts=0,
            signals_to_handle="SIGTERM,SIGINT",
            shutdown_timeout=PATIENCE,
        )
        try:
            with _own_signals():
                elastic_launch(config, sys.executable)(*command)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise _fault(f"process {rank + 1} of {processes} failed", rank, failure, Path(logs)) from error
        except SignalException:
            sys.exit(1)  # the first process has got the signal too, and told of it


@contextmanager
def _own_signals() -> Iterator[None]:
    """The agent leaves its handlers behind; after the block those of before are there."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fault(where: str, rank: int, failure: ProcessFailure, logs: Path) -> BaseException:
    """What a process said before it failed, or what ended it."""
    if failure.exitcode < 0:
        return _WorkerLostError(f"{where}: it was ended by {signal.Signals(-failure.exitcode).name}")
    if rank == 0:
        return SystemExit(failure.exitcode)
    [said] = (path.read_text(errors="replace") for path in logs.glob(f"*/attempt_0/{rank}/stderr.log"))
    return UserError(f"{where}: {said.strip().rpartition('error: ')[2]}")


def is_part() -> bool:
    """Whether an agent has started this process as one of several."""
    return "RANK" in os.environ


@contextmanager
def part() -> Iterator[None]:
    """Within the block this process ends with the agent that started it, where one did.

    Where it finds that another one has ended it waits a little, so that the agent sees that one's fault first.
    """
    if is_part():
        multiprocessing._prctl_pr_set_pdeathsig(signal.SIGKILL)  # type: ignore[attr-defined]
    try:
        yield
    except LostError:
        time.sleep(NOTICED)
        raise
