"""What a version needs to be loaded: packages and all that they need, in the versions of the lock file."""

from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

NEEDED = ("mlflow", "torch", "transformers", "peft", "accelerate", "safetensors")
"""What the served code imports, and the readers of its files."""


def pinned(lock: Path, names: Iterable[str] = NEEDED) -> list[str]:
    """The lines of the lock file that these packages need, in its order."""
    locked = {canonicalize_name(line.partition("==")[0]): line for line in lock.read_text("utf-8").splitlines()}
    waiting, found = [canonicalize_name(name) for name in names], set[str]()
    while waiting:
        name = waiting.pop()
        if name in locked and name not in found:
            found.add(name)
            waiting += _needs(name)
    return [line for name, line in locked.items() if name in found]


def _needs(name: str) -> Iterator[NormalizedName]:
    """The packages that an installed one needs here, without its extras."""
    for text in metadata.requires(name) or ():
        wanted = Requirement(text)
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            yield canonicalize_name(wanted.name)
