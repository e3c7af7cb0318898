"""A checkout's deployments on a real Prefect server, with a real worker."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests import prefect_server
from tests.checkout import Checkout, outside

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}

PATIENCE = 180
"""Seconds in which a server that is gone has to come back."""


@dataclass(frozen=True)
class Deployed:
    """A server with deployments, where it keeps its own, what it asks for as a login, and where a worker runs them."""

    made: Checkout
    home: Path
    address: str
    login: tuple[str, str] | None = None

    def _said(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """What the server says, once it is there and its data base is not busy with another request."""
        end = time.monotonic() + PATIENCE
        while True:
            with suppress(httpx.TransportError):
                answer = httpx.request(method, f"{self.address}/{path}", auth=self.login, timeout=60, **sent)
                if answer.status_code < 500:
                    return answer
            assert time.monotonic() < end, f"{self.address} does not answer"
            time.sleep(1)

    def post(self, path: str, **sent: Any) -> httpx.Response:
        """What the server says to a request."""
        return self._said("POST", path, json=sent)

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment as the server has it."""
        return dict(self._said("GET", f"deployments/name/{name}").raise_for_status().json())

    def ask(self, name: str, **parameters: Any) -> httpx.Response:
        """The answer to a wish for a run."""
        path = f"deployments/{self.deployment(name)['id']}/create_flow_run"
        return self.post(path, parameters=parameters, state={"type": "SCHEDULED"})

    def begin(self, name: str, **parameters: Any) -> str:
        """Let the server schedule a run now; its id."""
        return str(self.ask(name, **parameters).raise_for_status().json()["id"])

    def run(self, identity: str) -> dict[str, Any]:
        """A run as the server has it."""
        return dict(self._said("GET", f"flow_runs/{identity}").raise_for_status().json())

    def ended(self, identity: str, seconds: float = 300) -> dict[str, Any]:
        """A run once it has ended."""
        end = time.monotonic() + seconds
        while (run := self.run(identity))["state"]["type"] not in FINAL:
            assert time.monotonic() < end, f"{run['name']} is {run['state']['name']} after {seconds:.0f} s"
            time.sleep(0.3)
        return run

    def asked_for(self, name: str) -> set[str]:
        """The runs of a deployment that its schedule did not ask for."""
        own = {"id": {"any_": [self.deployment(name)["id"]]}}
        return {run["id"] for run in self.post("flow_runs/filter", deployments=own).json() if not run["auto_scheduled"]}

    def whole(self, name: str, seconds: float = 300, **parameters: Any) -> dict[str, Any]:
        """A run from its beginning to its end."""
        return self.ended(self.begin(name, **parameters), seconds)


@contextmanager
def deployed(made: Checkout, home: Path) -> Iterator[Deployed]:
    """Deploy what prefect.yaml of the checkout says, and run it for as long as the block runs."""
    with prefect_server.started(home) as address:
        made.run("bash", "infra/deploy.sh", PREFECT_API_URL=address)
        with working(made, PREFECT_API_URL=address):
            yield Deployed(made, home, address)


@contextmanager
def working(made: Checkout, **addresses: str) -> Iterator[None]:
    """A worker in the checkout, which logs to worker.log in the folder above."""
    command = [sys.executable, "-m", "flows.worker", "--pool", "instructflow", "--type", "process"]
    environment = {**outside(), **addresses, "PREFECT_WORKER_QUERY_SECONDS": "0.5"}
    with (made.root.parent / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=made.root, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait()
