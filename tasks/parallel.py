"""Work spread over the cores, its results in order: the same bytes, whatever the number of processes."""

import gc
import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ordered(
    function: Callable[[Item], Result], items: Iterable[Item], processes: int | None = None
) -> Iterator[Result]:
    """`function(item)` of each item, in the order of the items, on all cores.

    At most three items a process are under way, so memory stays bounded. `function` must be picklable. One item alone
    is computed in this process, since starting others takes longer.
    """
    processes = processes or len(os.sched_getaffinity(0))
    waiting = iter(items)
    first = list(itertools.islice(waiting, 2))
    if processes == 1 or len(first) < 2:
        yield from map(function, itertools.chain(first, waiting))
        return
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), _settle) as pool:
        under_way: deque[Future[Result]] = deque()
        try:
            for item in itertools.chain(first, waiting):
                under_way.append(pool.submit(function, item))
                if len(under_way) >= 3 * processes:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def _settle() -> None:
    """Let Python look for cycles seldom: rows make none, and looking at all of them takes a fifth of the time."""
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)
