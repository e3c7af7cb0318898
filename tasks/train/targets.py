"""The layers that an adapter names: PEFT passes over a name that the model lacks in silence, if another one fits."""

import re
from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from tasks import guards
from tasks.errors import UserError
from tasks.params import Lora


def check(base: Any, lora: Lora) -> None:
    """Every name and number of `lora` is one of the model's. Raises UserError with those that it has."""
    modules = [name for name, _ in base.named_modules()]
    layers = {name.rpartition(".")[2] for name, one in base.named_modules() if isinstance(one, nn.Linear | Conv1D)}
    for key in ("target_modules", "exclude_modules"):
        named = getattr(lora, key)
        if isinstance(named, list):
            missing = [name for name in named if not any(f".{module}".endswith(f".{name}") for module in modules)]
            guards.known(f"train.lora.{key}", missing, layers)
    blocks = {int(found[1]) for name in modules if (found := re.match(r".*?\.(\d+)\.", name))}
    if missing_blocks := sorted(set(lora.layers or ()) - blocks):
        numbers = ", ".join(map(str, missing_blocks))
        raise UserError(f"train.lora.layers: {numbers}: the model has the blocks {min(blocks)} to {max(blocks)}")
