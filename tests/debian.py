"""Tests that need more than requirements.lock: a Debian package's program, or the packages of further lock files.

They are skipped with the reason where that is missing, and failed where CI asks for it.
"""

import os
import shutil
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pytest

OPTION = "--require-packages"


class Package(NamedTuple):
    """A Debian package and the program of it that a test starts."""

    name: str
    program: str


PACKAGES = {
    "ssh": Package("openssh-server", "sshd"),
    "postgres": Package("postgresql", "pg_ctl"),
    "browser": Package("chromium", "chromium"),
}
"""By the marker of the tests that need them."""

LOCKS = {"manifests": ("infra/image.lock", "infra/validate.lock")}
"""Lock files whose packages are needed, by marker."""


def search_path() -> str:
    """Where Debian puts programs: servers lie outside the PATH of a user who is not root."""
    postgres = sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin"))
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", *postgres])


def program(marker: str) -> str | None:
    """The path of the program that tests with this marker start, or None where its package is not installed."""
    return shutil.which(PACKAGES[marker].program, path=search_path())


def check(marker: str, found: str | None, required: bool) -> None:
    """Skip the test where the program was not found; fail it where it is required."""
    if found is None:
        stop = pytest.fail if required else pytest.skip
        stop(f"{PACKAGES[marker].program} is not here: apt-get install {PACKAGES[marker].name}")


def check_locked(marker: str, required: bool) -> None:
    """Skip the test where a package of its lock files is missing; fail it where they are required."""
    locked = (line.split("==") for path in LOCKS[marker] for line in Path(path).read_text(encoding="utf-8").split())
    if missing := [name for name, version in locked if installed(name) != version]:
        stop = pytest.fail if required else pytest.skip
        command = " ".join(f"--requirement {path}" for path in LOCKS[marker])
        stop(f"{', '.join(missing)} not here in the locked version: pip install --no-deps {command}")


def installed(name: str) -> str | None:
    """The version of an installed package."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
