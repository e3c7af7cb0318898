"""python -m tests.kills MOMENT COUNT: run the train stage up to the COUNT-th MOMENT, say so, and wait to be killed.

In a `step` it says so and goes on, so that the kill comes at any place of it.
"""

import functools
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mlflow import MlflowClient

from tasks import errors
from tasks.train import __main__ as train
from tasks.train.checkpoints import Checkpoints
from tasks.train.control import ControlledTrainer

HERE = "this is the moment"

MOMENTS = {
    "step": "a step is computed",
    "adapter": "a checkpoint has its adapter and not yet its optimiser",
    "optimiser": "half of a checkpoint's optimiser is written",
    "before-rename": "a checkpoint is written and has not its name yet",
    "after-rename": "a checkpoint has its name and the older ones are still there",
    "saving": "the last step is done and the result is being written",
    "closing": "the result is there and the MLflow run is not closed",
    "clearing": "the MLflow run is closed and the checkpoints are still there",
}


def before(owner: Any, name: str, act: Callable[..., None]) -> None:
    """Do something at each call of a function, before it."""
    sound = getattr(owner, name)

    @functools.wraps(sound)
    def wrapped(*values: Any, **named: Any) -> Any:
        act(*values, **named)
        return sound(*values, **named)

    setattr(owner, name, wrapped)


class Moment:
    """The COUNT-th time that a moment comes."""

    def __init__(self, name: str, count: int) -> None:
        self.name, self.left = name, count

    def come(self, *_: Any, **__: Any) -> None:
        """It has come once more."""
        self.left -= 1
        if self.left == 0:
            print(HERE, self.name, flush=True)
            if self.name != "step":
                time.sleep(600)

    def half_written(self, value: Any, path: Any, *_: Any, **__: Any) -> None:
        """An optimiser is about to be saved: at the moment only half of it is."""
        if Path(path).name == "optimizer.pt" and self.left == 1:
            SAVE(value, path)
            os.truncate(path, Path(path).stat().st_size // 2)
        if Path(path).name == "optimizer.pt":
            self.come()

    def renaming(self, path: Path, target: Path) -> None:
        """A file or folder is about to get another name."""
        if Path(target).name.startswith("checkpoint-"):
            self.come()


SAVE = torch.save


def arrange(moment: Moment) -> None:
    """Put the moment at its place in the code."""
    places: dict[str, tuple[Any, str, Callable[..., None]]] = {
        "step": (ControlledTrainer, "compute_loss", moment.come),
        "adapter": (ControlledTrainer, "_save_optimizer_and_scheduler", moment.come),
        "optimiser": (torch, "save", moment.half_written),
        "before-rename": (Path, "replace", moment.renaming),
        "after-rename": (Checkpoints, "keep", moment.come),
        "saving": (train, "save_adapter", moment.come),
        "closing": (MlflowClient, "set_terminated", moment.come),
        "clearing": (Checkpoints, "clear", moment.come),
    }
    before(*places[moment.name])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        arrange(Moment(sys.argv[1], int(sys.argv[2])))
    errors.run(train.run)
