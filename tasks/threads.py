"""Threads that compute side by side on a CPU, each with all its operations to itself.

Most operations of a small model are too small for two threads to share: they wait for each other longer than they
compute, the more so beside other work.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

Given = TypeVar("Given")
Made = TypeVar("Made")


class Threads:
    """So many threads; one computes in the caller's own, with all the threads that torch has there."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._pool = ThreadPoolExecutor(number, initializer=lambda: torch.set_num_threads(1)) if number > 1 else None

    def map(self, compute: Callable[[Given], Made], items: Iterable[Given]) -> Iterator[Made]:
        """What `compute` gives for each item, in their order; items are taken as threads get free."""
        if self._pool is None:
            yield from map(compute, items)
            return
        waiting: deque[Future[Made]] = deque()
        try:
            for item in items:
                waiting.append(self._pool.submit(compute, item))
                if len(waiting) > self.number:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            # What failed is told when nothing computes any more.
            wait(waiting)
