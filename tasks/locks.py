"""One process at a time changes the registry: versions are made, and aliases moved, under this lock."""

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
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another process that changes the registry", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def lock_file() -> Path:
    """Beside an SQLite file, else in the user's cache by the hash of the server's address."""
    address = settings.tracking_uri()
    if address.startswith(_SQLITE):
        return Path(f"{address.removeprefix(_SQLITE)}.lock")
    return Path.home() / ".cache" / "instructflow" / f"{digest(address, 16)}.lock"
