"""Register and promote that are killed at a call to the registry are finished by the next call."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.data_fixtures import ROOT
from tests.project import Project


@pytest.mark.long
def test_register_and_promote_end_as_if_they_had_not_been_killed(project: Project, tmp_path: Path) -> None:
    (tmp_path / "soak").mkdir()
    (tmp_path / "soak/project").symlink_to(project.root)
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak_register", "--few", str(tmp_path / "soak.json")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "kills: sound" in done.stdout
