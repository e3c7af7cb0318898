"""Passwords that a team's servers ask for: made once, at random, and kept in files that their owner alone can read."""

import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path

from tasks import outputs
from tasks.errors import UserError

LOGIN = "instructflow"
"""The user of Prefect's one login."""

NAMES = (
    "POSTGRES_PASSWORD", "PREFECT_DATABASE_PASSWORD", "MLFLOW_DATABASE_PASSWORD", "PREFECT_SERVER_API_AUTH_STRING",
    "MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY",
)  # fmt: skip
"""What the file holds; those that a server reads itself are called as it calls them."""


def made(path: Path) -> dict[str, str]:
    """The secrets in this file, which is made with new ones where it is not there yet. None has a default."""
    if not path.exists():
        values = {name: secrets.token_urlsafe(32) for name in NAMES}
        values["PREFECT_SERVER_API_AUTH_STRING"] = f"{LOGIN}:{secrets.token_urlsafe(32)}"
        write(path, values)
    return kept(path)


def kept(path: Path) -> dict[str, str]:
    """The secrets in this file; UserError where others can read it or one is missing."""
    if path.stat().st_mode & 0o077:
        raise UserError(f"{path}: others can read it; chmod 600 {path}")
    values = read(path)
    if missing := [name for name in NAMES if not values.get(name)]:
        raise UserError(f"{path}: {', '.join(missing)} missing; a line is NAME=VALUE")
    return values


def read(path: Path) -> dict[str, str]:
    """The values of a file of NAME=VALUE lines as a shell reads them; none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    words = [word for line in lines for word in shlex.split(line, comments=True)]
    return dict(word.split("=", 1) for word in words if "=" in word)


def write(path: Path, values: Mapping[str, object], before: str = "") -> None:
    """Write NAME=VALUE lines, each behind `before`, to a file that never was readable for others."""
    with outputs.whole(path) as scratch:
        file = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(file, "w", encoding="utf-8") as lines:
            lines.writelines(f"{before}{name}={shlex.quote(str(value))}\n" for name, value in values.items())
