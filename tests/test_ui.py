"""`make ui` opens both pages on this machine alone."""

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What the script prints, while its servers run: the page's name and its address."""
    folder = tmp_path_factory.mktemp("ui")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PREFECT_HOME": str(folder / "prefect"),
        "MLFLOW_PORT": free_port(),
        "PREFECT_PORT": free_port(),
    }
    script = Path("infra/ui.sh").resolve()
    with subprocess.Popen(
        ["bash", str(script)], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            lines = [process.stdout.readline() for _ in range(2)] if process.stdout else []
            yield {name: address.strip() for name, address in (line.split(":", 1) for line in lines)}
        finally:
            os.killpg(process.pid, signal.SIGTERM)


@pytest.mark.parametrize("page", ["MLflow", "Prefect"])
def test_a_page_answers_at_the_printed_address(addresses: dict[str, str], page: str) -> None:
    with urllib.request.urlopen(addresses[page]) as answer:  # noqa: S310
        assert page.lower() in answer.read().decode().lower()


@pytest.mark.parametrize("page", ["MLflow", "Prefect"])
def test_a_page_is_on_loopback_alone(addresses: dict[str, str], page: str) -> None:
    assert addresses[page].startswith("http://127.0.0.1:")
    port = int(addresses[page].rsplit(":", 1)[1])
    listening = Path("/proc/net/tcp").read_text().splitlines()
    owners = {line.split()[1].split(":")[0] for line in listening if line.split()[1].endswith(f":{port:04X}")}
    assert owners == {"0100007F"}
