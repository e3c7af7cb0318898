"""A checkout's deployments on a real Prefect server, with a real worker."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests import prefect_server
from tests.checkout import Checkout, outside

FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass(frozen=True)
class Deployed:
    """A server with deployments, where it keeps its own, and where its worker runs them."""

    made: Checkout
    home: Path
    address: str
    worker: subprocess.Popen[bytes]

    def post(self, path: str, **sent: Any) -> httpx.Response:
        """What the server says to a request, once its data base is not busy with another."""
        while (answer := httpx.post(f"{self.address}/{path}", json=sent, timeout=60)).status_code == 503:
            time.sleep(1)
        return answer

    def deployment(self, name: str) -> dict[str, Any]:
        """A deployment as the server has it."""
        return dict(httpx.get(f"{self.address}/deployments/name/{name}", timeout=60).raise_for_status().json())

    def ask(self, name: str, **parameters: Any) -> httpx.Response:
        """The answer to a wish for a run."""
        path = f"deployments/{self.deployment(name)['id']}/create_flow_run"
        return self.post(path, parameters=parameters, state={"type": "SCHEDULED"})

    def begin(self, name: str, **parameters: Any) -> str:
        """Let the server schedule a run now; its id."""
        return str(self.ask(name, **parameters).raise_for_status().json()["id"])

    def run(self, identity: str) -> dict[str, Any]:
        """A run as the server has it."""
        return dict(httpx.get(f"{self.address}/flow_runs/{identity}", timeout=60).raise_for_status().json())

    def ended(self, identity: str, seconds: float = 300) -> dict[str, Any]:
        """A run once it has ended."""
        end = time.monotonic() + seconds
        while (run := self.run(identity))["state"]["type"] not in FINAL:
            assert time.monotonic() < end, f"{run['name']} is {run['state']['name']} after {seconds:.0f} s"
            time.sleep(0.3)
        return run

    def newest(self, name: str) -> dict[str, Any] | None:
        """The run of a deployment that was asked for last."""
        own = {"id": {"any_": [self.deployment(name)["id"]]}}
        found = self.post("flow_runs/filter", deployments=own, sort="ID_DESC", limit=1).json()
        return dict(found[0]) if found else None

    def whole(self, name: str, seconds: float = 300, **parameters: Any) -> dict[str, Any]:
        """A run from its beginning to its end."""
        return self.ended(self.begin(name, **parameters), seconds)


@contextmanager
def deployed(made: Checkout, home: Path) -> Iterator[Deployed]:
    """Deploy what prefect.yaml of the checkout says, and run it for as long as the block runs."""
    with prefect_server.started(home) as address:
        made.run("bash", "infra/deploy.sh", PREFECT_API_URL=address)
        with working(made, PREFECT_API_URL=address) as worker:
            yield Deployed(made, home, address, worker)


@contextmanager
def working(made: Checkout, **addresses: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker in the checkout, which logs to worker.log in the folder above."""
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "instructflow", "--type", "process"]
    environment = {**outside(), **addresses, "PREFECT_WORKER_QUERY_SECONDS": "0.5"}
    with (made.root.parent / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=made.root, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait()
