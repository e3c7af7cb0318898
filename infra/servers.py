"""Servers of this machine: commands that answer on loopback, started, waited for and ended in one way."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tasks import locks
from tasks.errors import UserError

HOST = "127.0.0.1"

PATIENCE = 240
"""Seconds in which a server has to answer; its first start, on an empty data base and a loaded machine, takes long."""

CLIENT = {
    "PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
}  # fmt: skip
"""What tells a client where servers are. A server that is started must not take itself for a client of another."""

# Nothing here asks MLflow for jobs, and their four workers would take half a minute to start.
QUIET = {
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

# A run has a lease of the one place of its deployment, and is ended where it cannot renew it. Prefect keeps leases in
# memory, for five minutes; so a restart of the server would end each run that is under way.
LEASES = {
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_CONCURRENCY_INITIAL_DEPLOYMENT_LEASE_DURATION": "3600",
}

_STARTED: list[subprocess.Popen[bytes]] = []
"""Kept, since Python takes a process that nobody holds any more, and that still runs, for a mistake."""


@dataclass(frozen=True)
class Server:
    """A command that answers at a port. Secrets belong to `environment`: any user of the machine can read a command."""

    name: str
    command: Sequence[str]
    port: int
    health: str
    log: Path
    environment: Mapping[str, str] = field(repr=False)

    @property
    def address(self) -> str:
        """Where it answers."""
        return f"http://{HOST}:{self.port}"

    @property
    def pid_file(self) -> Path:
        """The file with the number of its process, which that process holds a lock on for as long as it lives."""
        return self.log.with_suffix(".pid")

    def answers(self) -> bool:
        """Whether its health page says that all is well."""
        try:
            with urllib.request.urlopen(self.address + self.health, timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except OSError:
            return False

    def runs(self) -> bool:
        """Whether its process lives; a pid file alone may be left from before the machine was switched off."""
        if not self.pid_file.exists():
            return False
        with self.pid_file.open() as file:
            return not locks.take(file.fileno())

    def start(self) -> None:
        """Start its process, in a session of its own, so that it outlives this one and ends with all it started."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if name not in CLIENT}
        with self.pid_file.open("a") as pid, self.log.open("ab") as log:
            if not locks.take(pid.fileno()):
                raise UserError(f"{self.name} runs already; {self.pid_file} has its process")
            free(self.name, self.port)
            process = subprocess.Popen(
                self.command, env={**environment, **QUIET, **self.environment}, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, pass_fds=(pid.fileno(),),
            )  # fmt: skip
            _STARTED.append(process)
            pid.truncate(0)
            pid.write(f"{process.pid}\n")

    def stop(self) -> None:
        """End its process and what that started; by force where it does not end within half a minute."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.runs():
                os.killpg(int(self.pid_file.read_text()), number)
            for _ in range(300):
                if not self.runs():
                    self.pid_file.unlink(missing_ok=True)
                    return
                time.sleep(0.1)


def free(name: str, port: int) -> None:
    """Raise UserError where something listens at the port already."""
    with socket.socket() as asked:
        asked.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            asked.bind((HOST, port))
        except OSError as error:
            raise UserError(
                f"port {port} of {HOST}, which {name} is to answer at, is taken; another one: {name.upper()}_PORT=..."
            ) from error


def start(servers: Iterable[Server]) -> None:
    """Start all of them and return as soon as each is well; where one is not, end all and raise UserError."""
    started: list[Server] = []
    try:
        for server in servers:
            server.start()
            started.append(server)
        for server in started:
            wait_for(server)
    except BaseException:
        stop(started)
        raise


def wait_for(server: Server) -> None:
    """Return as soon as the server is well; raise UserError where it ends before, or takes too long."""
    until = time.monotonic() + PATIENCE
    while not server.answers():
        if not server.runs():
            raise UserError(f"{server.name} ended before it answered; see {server.log}")
        if time.monotonic() > until:
            raise UserError(f"{server.name} does not answer after {PATIENCE} seconds; see {server.log}")
        time.sleep(0.5)


def stop(servers: Sequence[Server]) -> None:
    """End all of them, the last one first."""
    for server in reversed(servers):
        server.stop()
    for process in _STARTED:
        process.poll()


def integer(name: str, default: int) -> int:
    """A port from the environment."""
    value = os.environ.get(name) or str(default)
    if not value.isdecimal() or not 0 < int(value) < 65536:
        raise UserError(f"{name}={value}: a port is a number from 1 to 65535")
    return int(value)


def prefect(port: int, log: Path, environment: Mapping[str, str]) -> Server:
    """A Prefect server that still knows after a restart which runs are under way."""
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)]
    page = {"PREFECT_UI_API_URL": f"http://{HOST}:{port}/api"}  # else its page asks at the usual port
    return Server("prefect", command, port, "/api/health", log, {**page, **LEASES, **environment})


def mlflow(port: int, log: Path, artifacts: Path | str, environment: Mapping[str, str], *options: str) -> Server:
    """An MLflow server that gives and takes artifacts itself, so that a client needs no path of this machine."""
    command = [
        sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--serve-artifacts",
        "--artifacts-destination", str(artifacts), *options,
    ]  # fmt: skip
    return Server("mlflow", command, port, "/health", log, environment)
