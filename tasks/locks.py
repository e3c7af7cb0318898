"""Locks of files. One process at a time changes the registry: versions are made, and aliases moved, under its lock."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks import settings
from tasks.records import digest

_SQLITE = "sqlite:///"


@contextmanager
def registry() -> Iterator[None]:
    """Hold the registry's lock; waits for it. A process that is killed lets go of it.

    It holds among all checkouts of one machine. A server that several machines register at has no such lock: let one
    of them run the flow.
    """
    path = lock_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        if not take(file.fileno()):
            print("waiting for another process that changes the registry", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def take(descriptor: int) -> bool:
    """Take the lock of an open file without waiting; whether it was free."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lock_file() -> Path:
    """Beside an SQLite file, else in the user's cache by the hash of the server's address."""
    address = settings.tracking_uri()
    if address.startswith(_SQLITE):
        return Path(f"{address.removeprefix(_SQLITE)}.lock")
    return Path.home() / ".cache" / "instructflow" / f"{digest(address, 16)}.lock"
