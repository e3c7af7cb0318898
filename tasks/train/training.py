"""A training from its first step, or its newest checkpoint, to its end."""

from typing import Any

import torch
from accelerate import PartialState
from transformers import PrinterCallback, TrainingArguments

from tasks import guards, model, params, tracking
from tasks.errors import UserError
from tasks.shards import VALIDATION, Shards, read_shards
from tasks.train import history, sharded, step
from tasks.train.checkpoints import Checkpoints, state_of
from tasks.train.control import ControlledTrainer, Keeper
from tasks.train.live import Live
from tasks.train.stopping import Stop, StoppedError


def trainer_for(adapted: Any, packed: Shards, wanted: params.Params, checkpoints: Checkpoints) -> ControlledTrainer:
    """The Trainer of this run, with its schedule counted in optimiser steps."""
    train = wanted.train
    steps = steps_of(train, packed)
    arguments = TrainingArguments(
        output_dir=str(checkpoints.scratch),
        per_device_train_batch_size=train.rows_per_step // train.launch.processes,
        average_tokens_across_devices=True,
        max_steps=steps,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.schedule,
        warmup_steps=round(train.warmup_share * steps),
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_gradient_norm,
        seed=train.seed,
        data_seed=train.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if train.validate_steps else "no",
        eval_steps=train.validate_steps,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=model.device().type == "cpu",
    )
    trainer = ControlledTrainer(
        checkpoints,
        packed,
        # Threads would gather the blocks of a sharded base in any order, each process in another.
        1 if sharded.is_sharded(adapted) else wanted.compute.threads,
        model=adapted,
        args=arguments,
        eval_dataset=validation_rows(packed) if train.validate_steps else None,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def steps_of(train: params.Train, packed: Shards) -> int:
    """Optimiser steps in all: those of the epochs, the step bound or the token budget, whichever are fewest."""
    bounds = [round(-(-len(packed) // train.rows_per_step) * train.epochs)]
    if train.max_steps is not None:
        bounds.append(train.max_steps)
    if train.tokens is not None:
        bounds.append(int(train.tokens / tokens_per_step(train, packed)))
    return max(1, min(bounds))


def tokens_per_step(train: params.Train, packed: Shards) -> float:
    """The mean tokens of an optimiser step."""
    return float(packed.index["tokens"] * train.rows_per_step / len(packed))


def validation_rows(packed: Shards) -> step.Rows:
    """The rows for the validation loss. Raises UserError where pack wrote none."""
    folder = packed.folder / VALIDATION
    if not folder.is_dir():
        raise UserError("train.validate_steps: there is nothing to validate on: set render.validation above 0")
    return step.Rows(read_shards(folder))


def train(trainer: ControlledTrainer, wanted: params.Train, tracked: tracking.TrainingRun, stop: Stop) -> bool:
    """Train to the end, from the newest checkpoint where there is one, and leave the best adapter in the model.

    Returns whether it began with the first step. Raises StoppedError where a signal ended it earlier, GuardError where
    a number is unsound or the adapter changes nothing.
    """
    tracked.log(0, {"packing_waste": trainer.packed.index["packing_waste"]})
    trainer.add_callback(Live(tracked, trainer, tokens_per_step(wanted, trainer.packed)))
    return take_part(trainer, wanted, stop)


def take_part(trainer: ControlledTrainer, wanted: params.Train, stop: Stop) -> bool:
    """What every process does of `train`; the first one also tells of it."""
    packed, adapted = trainer.packed, trainer.adapted
    whole = take_steps(trainer, wanted, stop)
    best = history.best_step(trainer.state.log_history)
    if best is not None and best != trainer.state.global_step:
        with model.under_peft():
            adapted.load_adapter(str(trainer.checkpoints.path(best)), adapted.active_adapter)
    PartialState().wait_for_everyone()  # the first process removes the checkpoints next
    guards.adapter_changes_logits(step.adapter_difference(adapted.eval(), first_batch(adapted, packed)))
    return whole


def take_steps(trainer: ControlledTrainer, wanted: params.Train, stop: Stop) -> bool:
    """Take the steps from the newest checkpoint, or the first one, to the end.

    Returns whether it began with the first step. Raises StoppedError where a signal ended it earlier, GuardError where
    a number is unsound.
    """
    keeper = Keeper(trainer.checkpoints, wanted, stop)
    trainer.add_callback(keeper)
    newest = trainer.checkpoints.newest()
    if newest is not None:
        began = trainer.checkpoints.launches[-1]["step"]
        others = ", in other processes than before" if began == state_of(newest)["global_step"] + 1 else ""
        print(f"going on from {newest}{others}", flush=True)
    with stop.after_the_step(), model.under_peft():
        trainer.train(resume_from_checkpoint=str(newest) if newest else None)
    state = trainer.state
    if keeper.stopped:
        place = f"after step {state.global_step} of {state.max_steps}"
        raise StoppedError(
            f"stopped by {stop.asked or 'a signal'} {place}; run the same command again: it goes on from there"
        )
    return newest is None


def first_batch(adapted: Any, packed: Shards) -> step.Batch:
    """The first row, where the model is."""
    batch = step.collate([step.Rows(packed)[0]])
    return {
        name: value.to(adapted.device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()
    }
