"""A small training with all that makes resuming hard: several epochs, dropout, accumulation, validation."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tasks import outputs
from tasks.train import __main__ as train
from tasks.train.control import ControlledTrainer
from tests import project
from tests.checkout import outside
from tests.data_fixtures import ROOT
from tests.project import Project

TRAIN: dict[str, Any] = {
    "epochs": 2,
    "rows_per_step": 2,
    "validate_steps": 3,
    "checkpoint_minutes": 0,
    "learning_rate": 0.05,
    "lora": {"r": 4, "dropout": 0.1},
}
"""Eight rows in steps of two, the last of each epoch shorter; a checkpoint after every step."""


@dataclass(frozen=True)
class Course(Project):
    """A project up to its shards, in which trainings run."""

    def change(self, **values: Any) -> None:
        """Other values of the section `train`."""
        path = self.root / "params.yaml"
        everything = yaml.safe_load(path.read_text(encoding="utf-8"))
        everything["train"] |= values
        path.write_text(yaml.safe_dump(everything, sort_keys=False), encoding="utf-8")

    def train(self) -> str:
        """Train in this process; returns the digest of all that the stage declares."""
        with pytest.MonkeyPatch.context() as patch:
            self.enter(patch)
            train.run()
        return self.result()

    def result(self) -> str:
        """The digest of all that the stage declares."""
        return outputs.digest_path(self.root / "models/tuned")

    def checkpoints(self) -> list[int]:
        """The steps of the checkpoints that lie there."""
        return sorted(int(path.name.rpartition("-")[2]) for path in self.root.glob("build/checkpoints/*/checkpoint-*"))

    def copy(self, root: Path) -> "Course":
        """The same project elsewhere."""
        shutil.copytree(self.root, root, dirs_exist_ok=True)
        return Course(root)

    @contextmanager
    def started(self, *moment: str) -> Iterator[subprocess.Popen[str]]:
        """The stage in a process group of its own, which announces or holds at a moment (see tests.kills)."""
        command = [sys.executable, "-m", "tests.kills", *moment]
        address = f"sqlite:///{self.root / 'mlflow.db'}"
        environment = {**outside(), "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": address, "PYTHONUNBUFFERED": "1"}
        with subprocess.Popen(
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


def interrupted(made: Course, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """The training, broken off within this step."""
    sound = ControlledTrainer.training_step

    def breaking(self: Any, *values: Any, **named: Any) -> Any:
        if self.state.global_step == step - 1:
            raise ZeroDivisionError
        return sound(self, *values, **named)

    with monkeypatch.context() as patch:
        patch.setattr(ControlledTrainer, "training_step", breaking)
        with pytest.raises(ZeroDivisionError):
            made.train()


def make(root: Path, base: Path | None = None) -> Course:
    """A course in `root` on the base model in this folder, or on a tiny one."""
    made = Course(project.make(root, "with_bos").root)
    path = root / "params.yaml"
    everything = yaml.safe_load(path.read_text(encoding="utf-8"))
    if base is not None:
        everything["model"] |= {"name": str(base.resolve()), "revision": outputs.digest_path(base)}
        everything["compute"]["dtype"] = "auto"
    everything["render"] |= {"validation": 0.2}
    everything["pack"]["row_tokens"] = 400
    path.write_text(yaml.safe_dump(everything, sort_keys=False), encoding="utf-8")
    made.change(**TRAIN)
    with pytest.MonkeyPatch.context() as patch:
        made.enter(patch)
        project.fetch.run()
        project.ingest.run("starter")
        project.render.run()
        project.pack.run()
    return made
