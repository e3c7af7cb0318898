"""python -m tasks.train run: train a LoRA adapter on token shards, with live curves in MLflow."""

import json
import time
import warnings
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from tasks import attention, console, errors, guards, lineage, model, outputs, params, settings, tracking
from tasks.errors import UserError
from tasks.shards import Shards, read_shards
from tasks.train import linear, step

app = typer.Typer(help=__doc__, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback()
def main() -> None:
    """Train an adapter."""


@app.command()
def run(
    shards: Annotated[Path, typer.Option(help="The folder that pack wrote.")] = Path("data/pack"),
    base: Annotated[Path, typer.Option(help="The base model's folder.")] = Path("models/base"),
    out: Annotated[Path, typer.Option(help="The folder to write the adapter to.")] = Path("models/tuned"),
) -> None:
    """Write the adapter, its training history and its fingerprint to OUT."""
    wanted, packed = params.load(), read_shards(shards)
    lora = wanted.train.lora
    inputs = lineage.training_inputs(wanted, base, shards)
    fingerprint = lineage.fingerprint(inputs)
    with (
        console.timed("train"),
        tracking.training_run(wanted.register_.experiment, fingerprint, inputs["params"]) as tracked,
    ):
        tracking.leave_links("train", {"MLflow run": tracking.page(tracked)})
        set_seed(wanted.train.seed)
        adapted = adapt(model.load_base(base, wanted.compute, attention.NAME, lora.base_bits), lora)
        rows = step.Rows(packed)
        first = {
            name: value.to(adapted.device) if isinstance(value, torch.Tensor) else value
            for name, value in step.collate([rows[0]]).items()
        }
        guards.sequences_are_apart(step.neighbour_difference(adapted, first))
        trainer = trainer_for(adapted, rows, wanted, fingerprint, tracked)
        trainer.train()
        guards.adapter_changes_logits(step.adapter_difference(adapted, first))
        history = history_of(trainer.state.log_history)
        described = describe(packed, history, fingerprint)
        with outputs.whole_folder(out) as folder:
            save_adapter(adapted, folder, base)
            outputs.write_json(folder / "history.json", history)
            outputs.write_json(folder / "inputs.json", inputs)
            outputs.write_json(folder / "training.json", described)
    console.summary(f"adapter in {out}", described | {"MLflow": tracking.page(tracked)})


def adapt(base: Any, lora: params.Lora) -> Any:
    """The base model, frozen, under a fresh LoRA adapter in float32. Raises UserError where no layer is selected."""
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        exclude_modules=lora.exclude_modules,
        layers_to_transform=lora.layers,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
    )
    try:
        with warnings.catch_warnings():
            # Some models keep their weights transposed, as GPT-2 does; PEFT sees it, says so, and does what is right.
            warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)
            adapted = get_peft_model(base, config)
    except ValueError as error:
        raise UserError(f"train.lora.target_modules: {lora.target_modules!r} selects no layer: {error}") from error
    linear.fuse(adapted)
    return adapted


def trainer_for(
    adapted: Any, rows: step.Rows, wanted: params.Params, fingerprint: str, tracked: tracking.TrainingRun
) -> step.PackedTrainer:
    """The Trainer of this run, with its schedule counted in optimiser steps."""
    train = wanted.train
    per_epoch = -(-len(rows) // train.rows_per_step)
    steps = min(max(1, round(per_epoch * train.epochs)), train.max_steps or 10**12)
    arguments = TrainingArguments(
        output_dir=str(settings.BUILD / "checkpoints" / fingerprint),
        per_device_train_batch_size=1,
        gradient_accumulation_steps=train.rows_per_step,
        max_steps=steps,
        learning_rate=train.learning_rate,
        lr_scheduler_type=train.schedule,
        warmup_steps=round(train.warmup_share * steps),
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_gradient_norm,
        seed=train.seed,
        data_seed=train.seed,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=model.device().type == "cpu",
    )
    callback = Live(tracked, steps, int(rows.shards.index["tokens"] * train.rows_per_step / len(rows)))
    trainer = step.PackedTrainer(
        model=adapted, args=arguments, train_dataset=rows, data_collator=step.collate, callbacks=[callback]
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


class Live(TrainerCallback):
    """Sends each step's numbers to MLflow while training runs, and shows progress."""

    def __init__(self, tracked: tracking.TrainingRun, steps: int, tokens_per_step: int) -> None:
        self.tracked, self.steps, self.tokens_per_step = tracked, steps, tokens_per_step
        self.start = self.shown = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """One step has ended."""
        if not logs or "loss" not in logs:
            return
        now = time.monotonic()
        speed = state.global_step * self.tokens_per_step / (now - self.start)
        self.tracked.log(state.global_step, {**_named(logs), "tokens_per_second": speed})
        if now - self.shown > 5 or state.global_step == self.steps:
            self.shown = now
            left = (now - self.start) / state.global_step * (self.steps - state.global_step)
            place = f"step {state.global_step} of {self.steps}"
            print(f"{place}: loss {logs['loss']:.3f}, {speed:.0f} tokens/s, {left:.0f} s left", flush=True)


def history_of(logs: list[dict[str, float]]) -> list[dict[str, float]]:
    """Loss, learning rate and gradient norm of each step; nothing that depends on the clock."""
    return [{"step": log["step"], **_named(log)} for log in logs if "loss" in log]


def describe(packed: Shards, history: list[dict[str, float]], fingerprint: str) -> dict[str, Any]:
    """What a reader of the adapter wants to know first; `dvc metrics` shows it."""
    last = [point["loss"] for point in history[-10:]]
    return {
        "fingerprint": fingerprint,
        "chat_hash": packed.index["chat_hash"],
        "steps": len(history),
        "tokens": packed.index["tokens"],
        "supervised_tokens": packed.index["supervised_tokens"],
        "first_loss": round(history[0]["loss"], 4),
        "last_loss": round(sum(last) / len(last), 4),
    }


def save_adapter(adapted: Any, folder: Path, base: Path) -> None:
    """Write the adapter as safetensors, with the base model's identity in its config and every list in order.

    The digest of the base's folder stands in `auto_mapping`, beside the class that PEFT keeps there: it is PEFT's place
    for what finds the base, and PEFT would complain of a key of its own each time the adapter is loaded.
    """
    adapted.save_pretrained(folder, safe_serialization=True)
    (folder / "README.md").unlink(missing_ok=True)
    source = json.loads((base / "source.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    kind = type(adapted.get_base_model())
    config |= {
        "base_model_name_or_path": source["name"],
        "revision": source["revision"],
        "auto_mapping": {
            "base_model_class": kind.__name__,
            "parent_library": kind.__module__,
            "base_digest": outputs.digest_path(base),
        },
    }
    # PEFT keeps these as sets, whose order differs from process to process.
    ordered = {name: sorted(value) if isinstance(value, list) else value for name, value in config.items()}
    outputs.write_json(folder / "adapter_config.json", ordered)


def _named(logs: dict[str, float]) -> dict[str, float]:
    return {"loss": logs["loss"], "learning_rate": logs["learning_rate"], "gradient_norm": float(logs["grad_norm"])}


if __name__ == "__main__":
    errors.run(app)
