"""A real Prefect server, with a data base of its own."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.checkout import outside
from tests.loopback import free_port


@contextmanager
def started(home: Path) -> Iterator[str]:
    """The address of a server that keeps its files in `home`, while the block runs."""
    port = free_port()
    settings = {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        command, env={**outside(), **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        address = f"http://127.0.0.1:{port}/api"
        try:
            wait_for(f"{address}/health")
            yield address
        finally:
            process.terminate()


def wait_for(page: str) -> None:
    """Return as soon as a page answers."""
    for _ in range(180):
        with suppress(OSError), urllib.request.urlopen(page):  # noqa: S310
            return
        time.sleep(1)
    raise AssertionError(f"{page} does not answer")
