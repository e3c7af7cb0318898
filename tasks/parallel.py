"""Work spread over the cores, or over a cluster, its results in order: the same bytes, whatever their number."""

import functools
import gc
import itertools
import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from tasks import settings

Item = TypeVar("Item")
Result = TypeVar("Result")

UNDER_WAY = 3
"""Items a core that are computed, or wait for it: memory stays bounded, and few cores wait where one item is slow."""

NO_FILES: Mapping[str, Path] = MappingProxyType({})


def itself(item: Any) -> Any:
    """The item, of which nothing needs to be read."""
    return item


def ordered(
    function: Callable[..., Result],
    items: Iterable[Item],
    processes: int | None = None,
    *,
    read: Callable[[Item], Any] = itself,
    files: Mapping[str, Path] = NO_FILES,
) -> Iterator[Result]:
    """`function(read(item), **files)` of each item, in the order of the items, on all cores or on the cluster.

    What an item names on this machine's disk is for `read`; `files` are the files and folders that `function` itself
    reads, wherever it runs. All must be picklable. One item alone is computed in this process, since starting others
    takes longer.
    """
    waiting = iter(items)
    first = list(itertools.islice(waiting, 2))
    every = itertools.chain(first, waiting)
    work = functools.partial(_compute, function, read, dict(files))
    if processes == 1 or len(first) < 2:
        yield from map(work, every)
    elif settings.cluster():
        from tasks import nodes  # needs an extra

        yield from nodes.ordered(settings.cluster(), function, map(read, every), files)
    else:
        yield from _on_cores(work, every, processes or len(os.sched_getaffinity(0)))


def _compute(
    function: Callable[..., Result], read: Callable[[Item], Any], files: dict[str, Path], item: Item
) -> Result:
    return function(read(item), **files)


def _on_cores(work: Callable[[Item], Result], items: Iterable[Item], processes: int) -> Iterator[Result]:
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), settle) as pool:
        under_way: deque[Future[Result]] = deque()
        try:
            for item in items:
                under_way.append(pool.submit(work, item))
                if len(under_way) >= UNDER_WAY * processes:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            for future in under_way:
                future.cancel()


def settle() -> None:
    """Let Python look for cycles seldom: rows make none, and looking at all of them takes a fifth of the time."""
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)
