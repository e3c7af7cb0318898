"""Tests that need a program which the lock file lacks: skipped with the reason where it is missing, failed where CI
asks."""

import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.data_fixtures import ROOT

OPTION = "--require-packages"


class Program(NamedTuple):
    """A program that a test starts, the command that brings it, and whether CI has it."""

    name: str
    install: str
    in_ci: bool = True


PROGRAMS = {
    "ssh": Program("sshd", "apt-get install openssh-server"),
    "postgres": Program("pg_ctl", "apt-get install postgresql"),
    "browser": Program("chromium", "apt-get install chromium"),
    "manifests": Program("kubernetes-validate", "make manifests"),
    "ray": Program("ray", "make ray"),
    "s3": Program("swift-proxy-server", "make .venv/swift/ready"),
    "vllm": Program("vllm", "pip install vllm", in_ci=False),  # it wants a torch of its own, and a GPU
}
"""By the marker of the tests that need them."""


def search_path() -> str:
    """Where the Makefile and Debian put programs: servers lie outside the PATH of a user who is not root."""
    own = [str(Path(sys.executable).parent), str(ROOT / ".venv/swift/bin")]
    postgres = sorted(str(path) for path in Path("/usr/lib/postgresql").glob("*/bin"))
    return os.pathsep.join([*own, os.environ["PATH"], "/usr/sbin", *postgres])


def find(marker: str) -> str | None:
    """The path of the program that tests with this marker start, or None where it is not installed."""
    return shutil.which(PROGRAMS[marker].name, path=search_path())


def check(marker: str, found: str | None, required: bool) -> None:
    """Skip the test where the program was not found; fail it where it is required and CI has it."""
    if found is None:
        stop = pytest.fail if required and PROGRAMS[marker].in_ci else pytest.skip
        stop(f"{PROGRAMS[marker].name} is not here: {PROGRAMS[marker].install}")
