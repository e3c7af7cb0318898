"""Tests that need a program of a Debian package: skipped with the reason where it is missing, failed where CI asks."""

import os
import shutil
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
