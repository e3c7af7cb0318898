"""A stage's work spread over the nodes of a Ray cluster, of which the stage's own machine is one.

Nodes share no disk and have no code of this project of their own: the code of `tasks`, and the files that the work
reads, travel once to each node as the working folder of Ray's job, which Ray removes when the job has ended; large
files, of which that may not have many, follow through Ray's object store. An item is a task, tried again by Ray where
its node is lost.
"""

import fcntl
import functools
import logging
import shutil
import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from tasks import outputs, parallel, settings
from tasks.errors import UserError

Result = TypeVar("Result")

FILES = Path("files")
"""Where the files lie in the working folder."""

LARGE = 16 * 1024**2
"""Bytes beyond which a file is large, and of the pieces in which it travels."""

Large = Mapping[Path, list[Any]]
"""Large files by their paths in the working folder, each as references to its pieces in Ray's object store."""


class Needs(NamedTuple):
    """What an item's node must have free for it."""

    cpus: int = 1
    gpus: float = 0


def ordered(
    address: str,
    function: Callable[..., Result],
    items: Iterator[Any],
    files: Mapping[str, Path],
    needs: Needs = Needs(),  # noqa: B008, a tuple
) -> Iterator[Result]:
    """`function(item, **files)` of each item on the cluster, in the order of the items.

    Raises what `function` raises, and UserError where the cluster is lost, or has no node for an item.
    """
    here = functools.partial(function, **{name: FILES / name for name in files})
    large = _large(files)
    with _joined(address, files, large, needs) as cpus:
        work = ray.put((here, {path: _pieces(file) for path, file in large.items()}))
        compute = ray.remote(num_cpus=needs.cpus, num_gpus=needs.gpus)(_compute)
        under_way: deque[Any] = deque()
        for item in items:
            under_way.append(compute.remote(work, item))
            # Else Ray brings a result here when it is asked for, one after the other, while the nodes wait.
            ray.wait(list(under_way), num_returns=len(under_way), timeout=0)
            if len(under_way) >= parallel.UNDER_WAY * cpus / needs.cpus:
                yield _result(under_way.popleft())
        while under_way:
            yield _result(under_way.popleft())


@contextmanager
def _joined(address: str, files: Mapping[str, Path], large: Mapping[Path, Path], needs: Needs) -> Iterator[int]:
    """The cluster's CPUs; what still runs there when the block ends is ended with the job."""
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder), files, large)
        threads = dict.fromkeys(("POLARS_MAX_THREADS", "RAYON_NUM_THREADS"), str(needs.cpus))
        environment = {"working_dir": folder, "env_vars": threads}
        try:
            ray.init(
                address,
                runtime_env=environment,
                log_to_driver=False,
                logging_level=logging.WARNING,
                configure_logging=False,
            )
        except (OSError, RuntimeError, RayError) as error:
            raise UserError(f"the cluster at {address} does not answer: {error}") from error
        try:
            _check(needs)
            yield int(ray.cluster_resources()["CPU"])
        finally:
            ray.shutdown()


def _check(needs: Needs) -> None:
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(node.get("CPU", 0) >= needs.cpus and node.get("GPU", 0) >= needs.gpus for node in nodes):
        raise UserError(f"each part needs a node with {needs.cpus} CPUs and {needs.gpus:g} GPUs, and there is none")


def _fill(folder: Path, files: Mapping[str, Path], large: Mapping[Path, Path]) -> None:
    """What every node needs: the code, and the files by their names, but for large ones."""
    shutil.copytree(settings.ROOT / "tasks", folder / "tasks", ignore=shutil.ignore_patterns("__pycache__"))
    for place, file in _places(files).items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        if place not in large:
            shutil.copy(file, folder / place)
    # Ray gives jobs whose working folders are alike the same one, and their large files may differ.
    (folder / "job").write_text(uuid.uuid4().hex, encoding="utf-8")


def _places(files: Mapping[str, Path]) -> dict[Path, Path]:
    """All files, each by its path in the working folder."""
    return {
        FILES / name / file.relative_to(path): file
        for name, path in files.items()
        for file in (path.rglob("*") if path.is_dir() else [path])
        if file.is_file()
    }


def _large(files: Mapping[str, Path]) -> dict[Path, Path]:
    """The large ones of them."""
    return {place: file for place, file in _places(files).items() if file.stat().st_size > LARGE}


def _pieces(path: Path) -> list[Any]:
    with path.open("rb") as file:
        return [ray.put(piece) for piece in iter(lambda: file.read(LARGE), b"")]


def _compute(work: tuple[Callable[[Any], Result], Large], item: Any) -> Result:
    function, large = work
    _settle()
    for path, pieces in large.items():
        if not path.exists():
            _bring(path, pieces)
    return function(item)


def _bring(path: Path, pieces: list[Any]) -> None:
    """Write a large file, once for all that computes on this node for the job."""
    with path.with_name(f"{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            with outputs.whole(path) as scratch, scratch.open("wb") as file:
                for piece in pieces:
                    file.write(ray.get(piece))


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
