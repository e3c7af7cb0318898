"""A PostgreSQL server of its own in a folder: on loopback alone, by password alone, with a role for each data base."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra import servers
from tasks import outputs
from tasks.errors import UserError

ACCOUNT = "postgres"
"""Debian's user for PostgreSQL, which refuses to run as root; and the name of the role that may do everything."""

SETTINGS = f"""
listen_addresses = '{servers.HOST}'
unix_socket_directories = ''
logging_collector = off
"""


@dataclass(frozen=True)
class Postgres:
    """A cluster in `folder`; `password` is that of the role that may do everything."""

    folder: Path
    port: int
    password: str = field(repr=False)

    @property
    def data(self) -> Path:
        """The cluster's files."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.folder / "server.log"

    def create(self, owners: Mapping[str, str]) -> None:
        """Make the cluster, whole or not at all, with a data base and a role for each name, of this password."""
        with outputs.whole_folder(self.folder) as folder:
            scratch = Postgres(folder, self.port, self.password)
            scratch._initialise()
            scratch.start()
            try:
                for name, password in owners.items():
                    scratch.run(f"CREATE ROLE {name} LOGIN PASSWORD {literal(password)}")
                    scratch.create_database(name, name)
            finally:
                scratch.stop()

    def _initialise(self) -> None:
        account = _account()
        given = self.folder / "password"
        given.touch(mode=0o600)
        if account:
            shutil.chown(self.folder, ACCOUNT, ACCOUNT)
            shutil.chown(given, ACCOUNT, ACCOUNT)
        self.folder.chmod(0o700)
        _may_enter(self.folder, account)
        given.write_text(self.password)
        try:
            _call(
                "initdb", "--pgdata", self.data, "--username", ACCOUNT, "--pwfile", given, "--auth", "scram-sha-256",
                "--encoding", "UTF8", "--locale", "C.UTF-8", **account,
            )  # fmt: skip
        finally:
            given.unlink()
        with (self.data / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(SETTINGS)

    def start(self) -> None:
        """Start the server and return as soon as it answers."""
        if self.runs():
            return
        servers.free(ACCOUNT, self.port)
        options = f"-p {self.port}"
        _call("pg_ctl", "start", "-w", "-s", "-D", self.data, "-l", self.log, "-o", options, quiet=True, **_account())

    def stop(self) -> None:
        """End the server and every connection to it."""
        if self.runs():
            _call("pg_ctl", "stop", "-w", "-s", "-m", "fast", "-D", self.data, **_account())

    def runs(self) -> bool:
        """Whether the server runs."""
        status = [_program("pg_ctl"), "status", "-D", str(self.data)]
        return self.data.exists() and not subprocess.run(status, cwd="/", capture_output=True, **_account()).returncode

    def run(self, *statements: str, database: str = "postgres") -> str:
        """Run SQL as the role that may do everything; several statements in one transaction. Returns what it gave.

        Neither the command line nor the server's log holds a statement, which may have a password in it.
        """
        together = ["--single-transaction"] if len(statements) > 1 else []
        return _call(
            "psql", *self._connection(database), "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set",
            "ON_ERROR_STOP=1", *together, "--file", "-", text="".join(f"{statement};\n" for statement in statements),
            env=self._environment(),
        )  # fmt: skip

    def create_database(self, name: str, owner: str) -> None:
        """Make an empty data base that its owner alone may enter."""
        self.run(f"CREATE DATABASE {name} OWNER {owner}")
        self.run(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC")

    def dump(self, name: str, path: Path) -> None:
        """Write a data base, as it is at one moment, to a file."""
        _call(
            "pg_dump", *self._connection(name), "--format", "custom", "--no-owner", "--file", path,
            env=self._environment(),
        )  # fmt: skip

    def load(self, path: Path, name: str, owner: str) -> None:
        """Fill an empty data base from a file, all of it or nothing, as its owner's."""
        _call(
            "pg_restore", *self._connection(name), "--no-owner", "--role", owner, "--single-transaction",
            "--exit-on-error", path, env=self._environment(),
        )  # fmt: skip

    def _connection(self, name: str) -> list[str]:
        address = ["--host", servers.HOST, "--port", str(self.port), "--username", ACCOUNT, "--dbname", name]
        return [*address, "--no-password"]

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "PGPASSWORD": self.password, "PGOPTIONS": "-c log_min_error_statement=panic"}


def literal(text: str) -> str:
    """A text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def _account() -> dict[str, Any]:
    """As whom PostgreSQL runs: as Debian's user where this is root, else as whoever this is."""
    if os.geteuid():
        return {}
    try:
        group = pwd.getpwnam(ACCOUNT).pw_gid
    except KeyError as error:
        raise UserError(f"PostgreSQL refuses to run as root, and there is no user {ACCOUNT}") from error
    return {"user": ACCOUNT, "group": group, "extra_groups": []}


def _may_enter(folder: Path, account: Mapping[str, Any]) -> None:
    if subprocess.run(["test", "-x", str(folder)], cwd="/", **account).returncode:
        raise UserError(
            f"{folder.parent}: the user {ACCOUNT}, as whom PostgreSQL runs where this is root, may not enter it;"
            " name a folder below ones that all may enter, or run this as an ordinary user"
        )


def _program(name: str) -> str:
    """The path of a program of PostgreSQL: Debian keeps them outside the PATH, by version; the newest is taken."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    found = shutil.which(name, path=os.pathsep.join([*map(str, reversed(folders)), os.environ["PATH"]]))
    if found is None:
        raise UserError(f"{name} is not here: apt-get install postgresql")
    return found


def _call(name: str, *arguments: object, text: str = "", quiet: bool = False, **how: Any) -> str:
    """Run a program of PostgreSQL; UserError with what it said where it fails.

    `quiet` is for a program that leaves a server behind, which would hold a pipe open.
    """
    output = subprocess.DEVNULL if quiet else subprocess.PIPE
    command = [_program(name), *map(str, arguments)]
    done = subprocess.run(command, cwd="/", input=text, text=True, stdout=output, stderr=output, **how)
    if done.returncode:
        said = (done.stderr or "").strip().splitlines() or ["see server.log in its folder"]
        raise UserError(f"{name} failed: {' '.join(said)}")
    return done.stdout or ""
