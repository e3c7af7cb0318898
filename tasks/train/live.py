"""A training's numbers in MLflow while it runs, and its progress in the log."""

import math
import resource
import time
from typing import Any

import torch
from transformers import TrainerCallback

from tasks import tracking
from tasks.train import history, operations, together


class Live(TrainerCallback):
    """Sends each step's numbers to MLflow, and shows progress. `tokens_per_step` is the mean."""

    def __init__(self, tracked: tracking.TrainingRun, trainer: Any, tokens_per_step: float) -> None:
        self.tracked, self.trainer, self.tokens_per_step = tracked, trainer, tokens_per_step
        self.limit = math.inf
        """Tokens/s that the matrix products of all processes' devices would allow if there were nothing else to do."""
        self.start = self.shown = time.monotonic()
        self.first = self.supervised = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The first step of this process is about to begin; a resumed run counts its speed from here."""
        adapted, packed = self.trainer.adapted, self.trainer.packed
        rate = operations.rate(adapted, packed.index["tokens"] // len(packed)) * together.count()
        self.limit = rate / operations.per_token(adapted, packed)
        self.start = self.shown = time.monotonic()
        self.first = state.global_step

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """A step has ended, or a validation."""
        if not logs:
            return
        if "eval_loss" in logs:
            self.tracked.log(state.global_step, {"validation_loss": logs["eval_loss"]})
            print(f"step {state.global_step}: validation loss {logs['eval_loss']:.4f}", flush=True)
        if "loss" in logs:
            self._step(state, logs)

    def _step(self, state: Any, logs: dict[str, float]) -> None:
        now, done = time.monotonic(), state.global_step - self.first
        self.supervised += self.trainer.supervised
        seconds = now - self.start
        speed = done * self.tokens_per_step / seconds
        costs = {
            "tokens_per_second": speed,
            "share_of_limit": speed / self.limit,
            "supervised_tokens_per_second": self.supervised / seconds,
            "peak_memory_gib": peak_memory(),
        }
        self.tracked.log(state.global_step, history.named(logs) | costs)
        if now - self.shown > 5 or state.global_step == state.max_steps:
            self.shown = now
            left = seconds / done * (state.max_steps - state.global_step)
            place = f"step {state.global_step} of {state.max_steps}"
            print(f"{place}: loss {logs['loss']:.3f}, {speed:.0f} tokens/s, {left:.0f} s left", flush=True)


def peak_memory() -> float:
    """The most memory that the process held so far, in GiB: the GPU's where one computes, else the machine's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1024**3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
