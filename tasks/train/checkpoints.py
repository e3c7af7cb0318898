"""Checkpoints of a training, outside what DVC deletes: each is whole or not there, and of one fingerprint.

The fingerprint is that of the training whatever processes compute it, since they take the same steps on the same rows:
it may go on in another number of them. Only its last digits then are those of neither, so each checkpoint tells in
which processes each of its steps was computed.
"""

import json
import os
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from tasks import outputs, settings
from tasks.errors import UserError
from tasks.train import history

SEAL = "whole.json"
"""The file of a checkpoint that is written last: its fingerprint, and the digest of each other file."""


LAUNCHES = "launches.json"
"""The file of a checkpoint that tells from which step on which processes computed it."""


class Checkpoints:
    """Those of the training with this fingerprint: folders `checkpoint-STEP` as transformers' Trainer writes them.

    `launch` is what of the params tells how many processes compute the steps that come now.
    """

    def __init__(self, fingerprint: str, launch: dict[str, Any]) -> None:
        self.fingerprint = fingerprint
        self.folder = settings.BUILD / "checkpoints" / fingerprint
        self.scratch = self.folder / "partial"
        """Where a checkpoint is written before it takes its place."""
        self.launches = self._launches(launch)
        """From which step on which processes compute this training, in order; most often the same ones all of it."""

    def path(self, step: int) -> Path:
        """The place of the checkpoint of this step."""
        return self.folder / f"checkpoint-{step}"

    def steps(self) -> list[int]:
        """The steps whose checkpoints are whole and of this fingerprint, in order."""
        found = (int(path.name.rpartition("-")[2]) for path in self.folder.glob("checkpoint-*"))
        return sorted(step for step in found if self._is_whole(self.path(step)))

    def newest(self) -> Path | None:
        """The checkpoint to go on from: the newest one whose best adapter so far is there too."""
        whole = self.steps()
        for step in reversed(whole):
            if history.best_step(state_of(self.path(step))["log_history"]) in (None, *whole):
                return self.path(step)
        return None

    @contextmanager
    def storing(self, step: int) -> Iterator[None]:
        """What the block writes to `scratch/checkpoint-STEP` becomes the checkpoint of this step.

        Raises UserError where it cannot be written, with the earlier ones as they were.
        """
        made = self.scratch / self.path(step).name
        shutil.rmtree(self.scratch, ignore_errors=True)
        try:
            yield
            outputs.write_json(made / LAUNCHES, self.launches)
            outputs.write_json(made / SEAL, {"fingerprint": self.fingerprint, "files": _digests(made)})
            _to_disk(made)
            shutil.rmtree(self.path(step), ignore_errors=True)
            made.replace(self.path(step))
            _to_disk(self.folder)
        except (OSError, RuntimeError, SafetensorError) as error:
            shutil.rmtree(self.scratch, ignore_errors=True)
            raise UserError(self._refusal(step, error)) from error

    def keep(self, steps: Collection[int | None]) -> None:
        """Remove all checkpoints but those of these steps."""
        for path in self.folder.glob("checkpoint-*"):
            if path not in [self.path(step) for step in steps if step is not None]:
                shutil.rmtree(path)

    def clear(self) -> None:
        """Remove all of this training."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _launches(self, launch: dict[str, Any]) -> list[dict[str, Any]]:
        newest = self.newest()
        if newest is None:
            return [{"step": 1, **launch}]
        before: list[dict[str, Any]] = json.loads((newest / LAUNCHES).read_text(encoding="utf-8"))
        same = before[-1] == {"step": before[-1]["step"], **launch}
        return before if same else [*before, {"step": state_of(newest)["global_step"] + 1, **launch}]

    def _is_whole(self, path: Path) -> bool:
        try:
            sealed = json.loads((path / SEAL).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return bool(sealed == {"fingerprint": self.fingerprint, "files": _digests(path)})

    def _refusal(self, step: int, error: Exception) -> str:
        whole = self.steps()
        free = shutil.disk_usage(self.folder if self.folder.exists() else settings.BUILD).free / 1024**2
        remedy = f"the one of step {whole[-1]} is whole" if whole else "there is none before it"
        return (
            f"{self.folder}: the checkpoint of step {step} cannot be written ({free:.0f} MiB free): {error};"
            f" {remedy}; make room, and run the same command again"
        )


def state_of(checkpoint: Path) -> dict[str, Any]:
    """The Trainer's state in a checkpoint: `global_step`, `log_history` and more."""
    state: dict[str, Any] = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return state


def _digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != SEAL)
    return {path.relative_to(folder).as_posix(): outputs.digest_path(path) for path in files}


def _to_disk(folder: Path) -> None:
    """Make sure that a folder and what it holds would outlive a loss of power."""
    for path in (*folder.rglob("*"), folder):
        if path.is_file() or path.is_dir():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
