"""Lineage: from which bytes a model came. The fingerprint is the hash over everything that went into it."""

from importlib import metadata
from pathlib import Path
from typing import Any

from tasks import outputs, settings
from tasks.params import Params
from tasks.records import digest

TRAINING_CODE = ("tasks/train", "tasks/attention.py", "tasks/model.py", "tasks/shards.py", "tasks/guards.py")
"""The code whose change can change an adapter; what the data is made by shows in the shards' digest."""

LIBRARIES = ("torch", "transformers", "peft", "accelerate", "numpy", "safetensors", "tokenizers")


def training_inputs(params: Params, base: Path, shards: Path) -> dict[str, Any]:
    """Everything that decides an adapter's bytes: digests of base weights, shards and code, params and versions."""
    return {
        "base": outputs.digest_path(base),
        "shards": outputs.digest_path(shards),
        "params": training_values(params),
        "code": {name: outputs.digest_path(settings.ROOT / name) for name in TRAINING_CODE},
        "versions": versions(),
    }


def training_values(params: Params) -> dict[str, Any]:
    """The values that decide an adapter's bytes."""
    return {
        # Where it is computed changes no byte.
        "compute": params.compute.model_dump(mode="json", exclude={"engine"}),
        # How often checkpoints are written and taken up changes none either, and a run may go on at another pace.
        "train": params.train.model_dump(mode="json", exclude={"checkpoint_minutes": True, "launch": {"restarts"}}),
    }


def whatever_computes(inputs: dict[str, Any]) -> dict[str, Any]:
    """`training_inputs` without the processes, which decide the last digits of an adapter alone."""
    train = {name: value for name, value in inputs["params"]["train"].items() if name != "launch"}
    return {**inputs, "params": {**inputs["params"], "train": train}}


def fingerprint(inputs: dict[str, Any]) -> str:
    """The hash over `training_inputs`, 16 hex digits."""
    return digest(inputs, 16)


def versions() -> dict[str, str]:
    """The installed versions of the libraries that compute an adapter."""
    return {name: metadata.version(name) for name in LIBRARIES}
