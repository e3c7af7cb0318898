"""A stage's work spread over the nodes of a Ray cluster, of which the stage's own machine is one.

Nodes share no disk and have no code of this project of their own: the code of `tasks`, and the files that the work
reads, travel once to each node as the working folder of Ray's job, which Ray removes when the job has ended. An item is
a task of one CPU, tried again by Ray where its node is lost.
"""

import functools
import logging
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from tasks import parallel, settings
from tasks.errors import UserError

Result = TypeVar("Result")

FILES = Path("files")
"""Where the files lie in the working folder."""

ONE_THREAD = dict.fromkeys(("POLARS_MAX_THREADS", "RAYON_NUM_THREADS"), "1")
"""A task has one CPU."""


def ordered(
    address: str, function: Callable[..., Result], items: Iterator[Any], files: Mapping[str, Path]
) -> Iterator[Result]:
    """`function(item, **files)` of each item on the cluster, in the order of the items.

    Raises what `function` raises, and UserError where the cluster is lost.
    """
    here = functools.partial(function, **{name: FILES / name for name in files})
    with _joined(address, files) as cpus:
        work, compute = ray.put(here), ray.remote(_compute)
        under_way: deque[Any] = deque()
        for item in items:
            under_way.append(compute.remote(work, item))
            if len(under_way) >= parallel.UNDER_WAY * cpus:
                yield _result(under_way.popleft())
        while under_way:
            yield _result(under_way.popleft())


@contextmanager
def _joined(address: str, files: Mapping[str, Path]) -> Iterator[int]:
    """The cluster's CPUs; what still runs there when the block ends is ended with the job."""
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder), files)
        needs = {"working_dir": folder, "env_vars": ONE_THREAD}
        try:
            ray.init(
                address, runtime_env=needs, log_to_driver=False, logging_level=logging.WARNING, configure_logging=False
            )
        except (OSError, RuntimeError, RayError) as error:
            raise UserError(f"the cluster at {address} does not answer: {error}") from error
        try:
            yield int(ray.cluster_resources().get("CPU", 1))
        finally:
            ray.shutdown()


def _fill(folder: Path, files: Mapping[str, Path]) -> None:
    """What every node needs: the code, and the files by their names."""
    shutil.copytree(settings.ROOT / "tasks", folder / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    for name, path in files.items():
        (folder / FILES).mkdir(exist_ok=True)
        (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / FILES / name)


def _compute(work: Callable[[Any], Result], item: Any) -> Result:
    _settle()
    return work(item)


@functools.cache
def _settle() -> None:
    parallel.settle()


def _result(reference: Any) -> Any:
    try:
        return ray.get(reference)
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        raise UserError(f"the cluster lost a part of the work for good: {error}") from error
