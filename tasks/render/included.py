"""Suites that the stage include brought, among those of held-out clusters."""

import json
import shutil
from pathlib import Path
from typing import Any

from tasks.errors import UserError
from tasks.params import Evaluate
from tasks.render.index import Asked


def suites(include: Path, wanted: Evaluate, benchmarks: Path) -> list[Asked]:
    """Copy the included suites into `benchmarks`; returns what their documents say.

    Raises UserError where one is not there yet.
    """
    benchmarks.mkdir(exist_ok=True)
    asked = []
    for name in wanted.include:
        if not (include / name / "suite.json").is_file():
            raise UserError(f"{include / name}: this suite is not included yet; run: dvc repro include@{name}")
        shutil.copytree(include / name, benchmarks / name, ignore=shutil.ignore_patterns("asked.jsonl"))
        with (include / name / "asked.jsonl").open(encoding="utf-8") as lines:
            asked += [Asked(**json.loads(line)) for line in lines]
    return asked


def clusters(include: Path, wanted: Evaluate) -> dict[str, str]:
    """The benchmarks of this run's included suites that name their cluster, and the cluster."""
    found: dict[str, str] = {}
    for name in (name for name in wanted.include if name in wanted.suites):
        described: dict[str, Any] = json.loads((include / name / "suite.json").read_text(encoding="utf-8"))
        found |= {f"{name} / {task}": told["cluster"] for task, told in described.items() if "cluster" in told}
    return found
