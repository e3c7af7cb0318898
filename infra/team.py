"""What a team's servers are made of, in one folder: PostgreSQL, Prefect, MLflow and a worker, all on loopback."""

import base64
import importlib.util
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from infra import credentials, servers
from infra.postgres import Postgres
from infra.servers import HOST, Server
from tasks.errors import UserError

DATABASES = ("prefect", "mlflow")
"""The data bases, each its own role's, which may not enter the other one."""

PORTS = {"POSTGRES_PORT": 5432, "PREFECT_PORT": 4200, "MLFLOW_PORT": 5000, "WORKER_PORT": 4201}
ADMIN = "admin"
POOL = "instructflow"

# Its address holds no password: that comes from PGPASSWORD, and where an address is logged nothing is lost.
AUTH = """[mlflow]
default_permission = READ
database_uri = {address}
admin_username = {admin}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
"""


@dataclass(frozen=True)
class Team:
    """The servers of one folder, with their secrets and ports."""

    folder: Path
    secrets: dict[str, str] = field(repr=False)
    ports: dict[str, int]

    @classmethod
    def of(cls, folder: Path) -> "Team":
        """The team of a folder that `up` has made; UserError where there is none."""
        folder = folder.resolve()
        path = folder / "secrets.env"
        if not path.exists():
            raise UserError(f"{path} is not there; make it, and the servers, with: python -m infra.local up {folder}")
        return cls(folder, credentials.kept(path), ports(folder))

    @classmethod
    def make(cls, folder: Path) -> "Team":
        """The team of a folder, with secrets, ports and an empty PostgreSQL where it had none yet."""
        folder = folder.resolve()
        if not folder.exists():
            folder.mkdir(parents=True)
            folder.chmod(0o700 if os.geteuid() else 0o711)  # PostgreSQL, as another user than root, passes through it
        team = cls(folder, credentials.made(folder / "secrets.env"), ports(folder))
        credentials.write(folder / "ports.env", team.ports)
        for path in (team.artifacts, folder / "logs", folder / "prefect"):
            path.mkdir(mode=0o700, exist_ok=True)
        if not team.postgres.folder.exists():
            passwords = {name: team.secrets[f"{name.upper()}_DATABASE_PASSWORD"] for name in DATABASES}
            team.postgres.create(passwords)
        return team

    @property
    def artifacts(self) -> Path:
        """Where MLflow keeps files of runs and versions."""
        return self.folder / "artifacts"

    @property
    def postgres(self) -> Postgres:
        """Both data bases."""
        return Postgres(self.folder / "postgres", self.ports["POSTGRES_PORT"], self.secrets["POSTGRES_PASSWORD"])

    @property
    def prefect(self) -> Server:
        """The Prefect server, which lets in who knows its one login."""
        environment = {
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self._database("postgresql+asyncpg", "prefect"),
            "PREFECT_SERVER_API_AUTH_STRING": self.secrets["PREFECT_SERVER_API_AUTH_STRING"],
            "PGPASSWORD": self.secrets["PREFECT_DATABASE_PASSWORD"],
        }
        return servers.prefect(self.ports["PREFECT_PORT"], self._log("prefect"), environment)

    @property
    def mlflow(self) -> Server:
        """The MLflow server, which lets in its users; the first one is the admin."""
        environment = {
            "MLFLOW_BACKEND_STORE_URI": self._database("postgresql+psycopg2", "mlflow"),
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "mlflow-auth.ini"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": self.secrets["MLFLOW_AUTH_ADMIN_PASSWORD"],
            "MLFLOW_FLASK_SERVER_SECRET_KEY": self.secrets["MLFLOW_FLASK_SERVER_SECRET_KEY"],
            "PGPASSWORD": self.secrets["MLFLOW_DATABASE_PASSWORD"],
        }
        options = ("--app-name", "basic-auth", "--workers", "2")
        return servers.mlflow(self.ports["MLFLOW_PORT"], self._log("mlflow"), self.artifacts, environment, *options)

    @property
    def worker(self) -> Server:
        """The worker that runs what is asked of the pool, each flow run as a process here."""
        port = self.ports["WORKER_PORT"]
        environment = {
            **self.client,
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PREFECT_WORKER_WEBSERVER_HOST": HOST,
            "PREFECT_WORKER_WEBSERVER_PORT": str(port),
        }
        command = [sys.executable, "-m", "flows.worker", "--type", "process", "--pool", POOL]
        return Server("worker", [*command, "--with-healthcheck"], port, "/health", self._log("worker"), environment)

    @property
    def servers(self) -> list[Server]:
        """All that answer by HTTP, in the order in which they are started."""
        return [self.prefect, self.mlflow, self.worker]

    @property
    def client(self) -> dict[str, str]:
        """What a client needs to know."""
        return {
            "PREFECT_API_URL": f"{self.prefect.address}/api",
            "PREFECT_API_AUTH_STRING": self.secrets["PREFECT_SERVER_API_AUTH_STRING"],
            "MLFLOW_TRACKING_URI": self.mlflow.address,
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": self.secrets["MLFLOW_AUTH_ADMIN_PASSWORD"],
        }

    def up(self) -> None:
        """Start what does not run, and return as soon as all is well and asks for a login."""
        _installed("psycopg2", "flask_wtf")
        address = self._database("postgresql+psycopg2", "mlflow")
        (self.folder / "mlflow-auth.ini").write_text(AUTH.format(address=address, admin=ADMIN), encoding="utf-8")
        before = self.running()
        self.postgres.start()
        try:
            servers.start(server for server in (self.prefect, self.mlflow) if not server.runs())
            self._check_logins()
            servers.start(server for server in [self.worker] if not server.runs())
        except BaseException:
            self.down(but=before)
            raise
        credentials.write(self.folder / "client.env", self.client, before="export ")

    def down(self, but: Collection[str] = ()) -> None:
        """End all that runs, the data bases last; not what is named."""
        servers.stop([server for server in self.servers if server.name not in but])
        if "postgres" not in but:
            self.postgres.stop()

    def states(self) -> dict[str, str]:
        """How each is: up, down, or running without an answer."""
        known = {server.name: state(server) for server in self.servers}
        return {"postgres": "up" if self.postgres.runs() else "down", **known}

    def running(self) -> list[str]:
        """The names of what runs."""
        return [name for name, state in self.states().items() if state != "down"]

    def _check_logins(self) -> None:
        login = f"{ADMIN}:{self.secrets['MLFLOW_AUTH_ADMIN_PASSWORD']}"
        pages = {
            f"{self.prefect.address}/api/admin/version": self.secrets["PREFECT_SERVER_API_AUTH_STRING"],
            f"{self.mlflow.address}/api/2.0/mlflow/users/current": login,
        }
        for page, known in pages.items():
            if answered(page) != 401:
                raise UserError(f"{page} answers without a login")
            if answered(page, known) != 200:
                raise UserError(f"{page} refuses the login in {self.folder / 'secrets.env'}; was it changed since?")

    def _database(self, scheme: str, name: str) -> str:
        return f"{scheme}://{name}@{HOST}:{self.ports['POSTGRES_PORT']}/{name}"

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"


def state(server: Server) -> str:
    """How a server is."""
    if not server.runs():
        return "down"
    return "up" if server.answers() else "does not answer"


def ports(folder: Path) -> dict[str, int]:
    """The ports: from the environment, else as they were at the last `up`, else the usual ones."""
    known = {name: int(value) for name, value in credentials.read(folder / "ports.env").items()}
    return {name: servers.integer(name, known.get(name, usual)) for name, usual in PORTS.items()}


def answered(page: str, login: str | None = None) -> int:
    """The HTTP status that a page answers with, to a login `user:password` or to none."""
    request = urllib.request.Request(page)  # noqa: S310
    if login is not None:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _installed(*modules: str) -> None:
    if missing := [module for module in modules if importlib.util.find_spec(module) is None]:
        raise UserError(
            f"MLflow on PostgreSQL with a login needs {' and '.join(missing)}:"
            " .venv/bin/python -m pip install --no-deps --requirement requirements.lock"
        )
