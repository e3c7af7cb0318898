"""Tests that need a program beside the lock's: skipped with the reason where it is missing, failed where CI asks."""

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

OPTION = "--require-packages"


class Package(NamedTuple):
    """How a package is installed, most often Debian's, and the program of it that a test starts."""

    install: str
    program: str


PACKAGES = {
    "ssh": Package("apt-get install openssh-server", "sshd"),
    "postgres": Package("apt-get install postgresql", "pg_ctl"),
    "browser": Package("apt-get install chromium", "chromium"),
    "ray": Package("make ray", "ray"),
}
"""By the marker of the tests that need them."""


def search_path() -> str:
    """Beside this Python, and where Debian puts programs: servers lie outside the PATH of a user who is not root."""
    postgres = sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin"))
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin", *postgres])


def program(marker: str) -> str | None:
    """The path of the program that tests with this marker start, or None where its package is not installed."""
    return shutil.which(PACKAGES[marker].program, path=search_path())


def check(marker: str, found: str | None, required: bool) -> None:
    """Skip the test where the program was not found; fail it where it is required."""
    if found is None:
        stop = pytest.fail if required else pytest.skip
        stop(f"{PACKAGES[marker].program} is not here: {PACKAGES[marker].install}")
