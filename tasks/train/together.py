"""Several processes that train one adapter together: what is summed over them, and what only the first of them does.

Each process holds the whole adapter and computes some rows of every optimiser step. Gradients are summed as they are:
the loss is divided by the supervised tokens of the whole step before. With one process all of this does nothing.
"""

import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import PartialState
from torch import distributed

from tasks import model
from tasks.errors import UserError

_BROKEN = re.compile(r"closed by peer|reset by peer|broken pipe|timed out|nccl|heartbeat", re.IGNORECASE)
"""What gloo and nccl say where the other end is gone; they have no exception class for it."""


class LostError(UserError):
    """Another process of the training has ended early; it says why."""

    WORDS = "another process of the training ended early"

    def __init__(self) -> None:
        super().__init__(self.WORDS)


@contextmanager
def joined(wanted: int, threads: int) -> Iterator[None]:
    """Compute the block with the other processes that params ask for.

    Raises UserError where there are more or fewer, LostError where one of them ends early.
    """
    torch.set_num_threads(threads)
    here = int(os.environ.get("LOCAL_WORLD_SIZE", wanted))
    if torch.cuda.is_available() and torch.cuda.device_count() < here:
        raise UserError(f"train.launch.processes: {here} need a GPU each, and there is {torch.cuda.device_count()}")
    found = PartialState(cpu=model.device().type == "cpu").num_processes
    if found != wanted:
        raise UserError(f"train.launch.processes: {wanted} are asked for, and {found} were started")
    try:
        yield
    except RuntimeError as error:
        if found > 1 and _BROKEN.search(str(error)):
            raise LostError from error
        raise
    if found > 1:
        distributed.destroy_process_group()


def count() -> int:
    """How many processes train."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_first() -> bool:
    """Whether this is the process that writes checkpoints, the result, MLflow's run and the progress."""
    return rank() == 0


def sum_gradients(weights: Iterable[torch.nn.Parameter]) -> None:
    """Replace the gradients by their sums over the processes, in one message."""
    if count() == 1:
        return
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    sizes = [gradient.numel() for gradient in gradients]
    for gradient, summed in zip(gradients, torch.split(flat, sizes), strict=True):
        gradient.copy_(summed.view_as(gradient))


def total(value: float) -> float:
    """The sum of a number over the processes."""
    if count() == 1:
        return value
    summed = torch.tensor(value, dtype=torch.float64, device=PartialState().device)
    distributed.all_reduce(summed)
    return float(summed)


def any_of(flags: list[bool]) -> list[bool]:
    """Each flag, set where it is set in any process."""
    if count() == 1:
        return flags
    found = torch.tensor(flags, dtype=torch.int32, device=PartialState().device)
    distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return [bool(flag) for flag in found]


def all_of(items: list[Any]) -> list[Any]:
    """The items of all processes, those of the first one first."""
    if count() == 1:
        return items
    found: list[Any] = [None] * count()
    distributed.all_gather_object(found, items)
    return [item for one in found for item in one]
