"""The Trainer under control: validation on packed rows, whole checkpoints, an early end, and a watch on the numbers.

What is decided is decided from the Trainer's own log and step count, which its checkpoints hold: a run that goes on
from a checkpoint takes the same steps, on the same rows, with the same random numbers.
"""

import math
import statistics
import time
from contextlib import nullcontext
from typing import Any

import torch
from transformers import TrainerCallback

from tasks import guards, outputs, settings
from tasks.guards import GuardError
from tasks.params import Train
from tasks.shards import Shards
from tasks.train import history, processes, step, together
from tasks.train.checkpoints import Checkpoints
from tasks.train.step import Batch, Rows
from tasks.train.stopping import Stop


class ControlledTrainer(processes.SharedTrainer):
    """The packed Trainer that validates on `eval_dataset`, and whose checkpoints are whole."""

    def __init__(self, checkpoints: Checkpoints, packed: Shards, threads: int, **arguments: Any) -> None:
        super().__init__(packed, threads, **arguments)
        self.checkpoints = checkpoints
        self.adapted: Any = self.model
        self.taken: list[int] = []
        """The numbers of the rows of this step so far."""
        self.supervised = 0
        """The supervised tokens of this step."""
        self.add_callback(Watch(self))

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """As the step's; the rows are noted."""
        self.taken += inputs.pop("numbers")
        self.supervised = int(num_items_in_batch)
        return super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The mean loss over the supervised tokens of the validation rows, without dropout."""
        rows: Any = eval_dataset or self.eval_dataset
        metrics = {f"{metric_key_prefix}_loss": self.mean_loss(rows)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def mean_loss(self, rows: Rows) -> float:
        """The mean loss over all supervised tokens of `rows`, which the processes share."""
        supervised: int = rows.shards.index["supervised_tokens"]
        total = 0.0
        self.adapted.eval()  # each step of training sets it back
        with torch.no_grad():
            for first in range(0, len(rows), together.count()):
                number = first + together.rank()
                # Where a block is gathered for a row, every process must compute one.
                batch = self._prepare_inputs(step.collate([rows[min(number, len(rows) - 1)]]))
                loss = step.summed_loss(self.adapted, batch, self.head)
                total += float(loss) if number < len(rows) else 0.0
        return together.total(total) / supervised

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint as the Trainer does, whole or not at all; the first process writes, the others count."""
        first = together.is_first()
        with self.checkpoints.storing(self.state.global_step) if first else nullcontext():
            super()._save_checkpoint(model, trial)

    def _save_rng_state(self, output_dir: str) -> None:
        """As the Trainer's, for the first process alone: what is drawn for a row depends on nothing before it."""
        if together.is_first():
            super()._save_rng_state(output_dir)


class Keeper(TrainerCallback):
    """Says when a checkpoint is due and when training ends before its last step.

    The last step writes none, since the adapter itself follows: no run begins at its end.
    """

    def __init__(self, checkpoints: Checkpoints, wanted: Train, stop: Stop) -> None:
        self.checkpoints, self.wanted, self.stop = checkpoints, wanted, stop
        self.stopped = False
        """Whether training ended because someone asked for it."""
        self.written = time.monotonic()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The first step is about to begin."""
        self.written = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """The optimiser's step is done; the Trainer then logs, validates and writes a checkpoint, in this order."""
        if control.should_training_stop:
            return
        due = together.is_first() and time.monotonic() - self.written >= self.wanted.checkpoint_minutes * 60
        asked, due = together.any_of([bool(self.stop.asked), due])
        control.should_save |= asked or due
        if asked:
            self.stopped = control.should_training_stop = True

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A lowest validation loss is kept; too many others in a row end the training."""
        logs = state.log_history
        if self.wanted.patience is not None and history.since_best(logs) >= self.wanted.patience:
            control.should_training_stop, self.stopped = True, False
        control.should_save |= history.best_step(logs) == state.global_step
        control.should_save &= not control.should_training_stop or self.stopped

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """A checkpoint is there; of the others only the best one is still needed."""
        self.written = time.monotonic()
        if together.is_first():
            self.checkpoints.keep([state.global_step, history.best_step(state.log_history)])


class Watch(TrainerCallback):
    """Stops the run at the first step whose numbers are unsound, and says which records were in it."""

    USUAL = 10
    """Steps from which on a gradient is compared with those before it."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer
        self.guessing = math.log(trainer.adapted.config.vocab_size)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """No row of the step has been taken yet."""
        self.trainer.taken = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """A step or a validation has its numbers; no checkpoint holds them yet. Raises GuardError."""
        if "eval_loss" in logs:
            guards.loss_is_sound(f"validation after step {state.global_step}", logs["eval_loss"], self.guessing)
        if "loss" not in logs:
            return
        before = [log["grad_norm"] for log in state.log_history[:-1] if "loss" in log]
        usual = statistics.median(before) if len(before) >= self.USUAL else math.inf
        try:
            guards.loss_is_sound(f"step {state.global_step}", logs["loss"], self.guessing)
            guards.gradient_is_sound(f"step {state.global_step}", logs["grad_norm"], usual)
        except GuardError as error:
            raise GuardError(f"{error}; {self._records(state.global_step, logs)}") from error

    def _records(self, number: int, logs: dict[str, float]) -> str:
        """Write what was in the step to a file, and tell it in short."""
        rows = [row for row in together.all_of(self.trainer.taken) if row != processes.FILL]
        # An example's id is its record's and its template's.
        examples = [example for row in rows for example in self.trainer.packed.examples(row)]
        records = sorted({example.rpartition("/")[0] for example in examples})
        path = settings.BUILD / "stopped" / "train.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        numbers = {name: repr(value) for name, value in history.named(logs).items()}
        if together.is_first():
            outputs.write_json(
                path, {"step": number, **numbers, "rows": rows, "examples": examples, "records": records}
            )
        shown = ", ".join(records[:3]) + (f" and {len(records) - 3} more" if len(records) > 3 else "")
        return f"its records are {shown} ({path} names all); lower train.learning_rate, or look at these records"
