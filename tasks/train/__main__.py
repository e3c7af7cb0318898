"""python -m tasks.train run: train a LoRA adapter on token shards, with live curves in MLflow.

After a kill, SIGTERM or Ctrl-C the same command goes on from the last checkpoint and ends with the same bytes.
"""

import json
import warnings
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from peft import LoraConfig, get_peft_model
from transformers import set_seed

from tasks import attention, console, errors, guards, lineage, model, norm, outputs, params, tracking
from tasks.errors import UserError
from tasks.shards import Shards, read_shards
from tasks.train import history, launch, linear, sharded, step, stopping, targets, together, training
from tasks.train.checkpoints import Checkpoints

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
    launched, threads = wanted.train.launch, wanted.compute.threads
    if launched.processes > 1 and not launch.is_part():
        command = ["-m", "tasks.train", "run", "--shards", str(shards), "--base", str(base), "--out", str(out)]
        launch.run(launched, threads, command)
        return
    with launch.part(), together.joined(launched.processes, threads):
        write = write_result if together.is_first() else join_in
        write(wanted, packed, base, out)


def join_in(wanted: params.Params, packed: Shards, base: Path, out: Path) -> None:
    """Take this process's part of every step."""
    with stopping.listening() as stop:
        checkpoints = checkpoints_of(lineage.training_inputs(wanted, base, packed.folder))
        trainer = training.trainer_for(prepared(base, wanted, packed), packed, wanted, checkpoints)
        training.take_part(trainer, wanted.train, stop)


def write_result(wanted: params.Params, packed: Shards, base: Path, out: Path) -> None:
    """Train, and write the adapter, its history and its fingerprint to `out`."""
    inputs = lineage.training_inputs(wanted, base, packed.folder)
    checkpoints = checkpoints_of(inputs)
    if len(checkpoints.launches) > 1:
        inputs |= {"launches": checkpoints.launches}
    fingerprint = lineage.fingerprint(inputs)
    with (
        console.timed("train") as timing,
        stopping.listening() as stop,
        tracking.training_run(wanted.register_.experiment, fingerprint, inputs["params"]) as tracked,
        tracking.system_metrics(tracked),
    ):
        tracking.leave_links("train", {"MLflow run": tracking.page(tracked)})
        trainer = training.trainer_for(prepared(base, wanted, packed), packed, wanted, checkpoints)
        timing.whole = training.train(trainer, wanted.train, tracked, stop)
        described = history.describe(packed, trainer.state.log_history, fingerprint)
        with outputs.whole_folder(out) as folder:
            save_adapter(trainer.model, folder, base)
            outputs.write_json(folder / "history.json", history.history_of(trainer.state.log_history))
            outputs.write_json(folder / "validation.json", history.validation_curve(trainer.state.log_history))
            outputs.write_json(folder / "inputs.json", inputs)
            outputs.write_json(folder / "training.json", described)
    checkpoints.clear()
    console.summary(f"adapter in {out}", described | {"MLflow": tracking.page(tracked)})


def checkpoints_of(inputs: dict[str, Any]) -> Checkpoints:
    """Those of this training, whatever processes wrote them."""
    fingerprint = lineage.fingerprint(lineage.whatever_computes(inputs))
    return Checkpoints(fingerprint, inputs["params"]["train"]["launch"])


def prepared(base: Path, wanted: params.Params, packed: Shards) -> Any:
    """The base model under a fresh adapter, fit to train on packed rows. Raises GuardError where it is not."""
    set_seed(wanted.train.seed)
    lora = wanted.train.lora
    in_parts = wanted.train.launch.base == "sharded" and together.count() > 1
    place = torch.device("cpu") if in_parts else None
    loaded = model.load_base(base, wanted.compute, attention.NAME, lora.base_bits, place)
    guards.weights_are_finite(str(base), [name for name, value in loaded.named_parameters() if not _finite(value)])
    adapted = adapt(loaded, lora)
    if in_parts:
        sharded.shard(adapted)
    guards.sequences_are_apart(step.neighbour_difference(adapted.eval(), training.first_batch(adapted, packed)))
    return adapted


def adapt(base: Any, lora: params.Lora) -> Any:
    """The base model, frozen, under a fresh LoRA adapter in float32.

    Raises UserError where no layer is selected, or one is named that the model lacks.
    """
    targets.check(base, lora)
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
        with model.under_peft():
            # Some models keep their weights transposed, as GPT-2 does; PEFT sees it, says so, and does what is right.
            warnings.filterwarnings("ignore", "fan_in_fan_out is set to False", UserWarning)
            adapted = get_peft_model(base, config)
    except ValueError as error:
        raise UserError(f"train.lora.target_modules: {lora.target_modules!r} selects no layer: {error}") from error
    linear.fuse(adapted)
    norm.fuse(adapted)
    return adapted


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


def _finite(weight: torch.Tensor) -> bool:
    return bool(torch.isfinite(weight).all())


if __name__ == "__main__":
    errors.run(app)
