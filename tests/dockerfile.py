"""infra/Dockerfile as its steps."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.data_fixtures import ROOT

PATH = ROOT / "infra/Dockerfile"


class Step(NamedTuple):
    """An instruction and what stands behind it."""

    instruction: str
    rest: str


def steps(text: str) -> list[Step]:
    """The steps in their order; lines that end with a backslash go on in the next one."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ").splitlines()
    return [Step(*line.split(maxsplit=1)) for line in joined]


def copied(step: Step) -> tuple[list[str], str]:
    """What a COPY takes, and where it puts it."""
    *sources, target = step.rest.split()
    return sources, target


def context() -> set[str]:
    """The files that .dockerignore lets into the build: all are left out but those behind a `!`."""
    first, *others = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert first == "*"
    return {line.removeprefix("!") for line in others if line.startswith("!")}


def locked(path: Path) -> dict[str, str]:
    """The packages of a lock file, by their names in the form in which they are compared."""
    pairs = (line.split("==") for line in path.read_text(encoding="utf-8").split())
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pairs}
