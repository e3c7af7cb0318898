"""The base model in memory, with or without an adapter, the same way in every stage."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from tasks.errors import UserError, suggestion
from tasks.params import Compute

transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]

Dtype = Literal["auto", "bfloat16", "float32"]


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dtype(wanted: Dtype) -> torch.dtype:
    """The number format: bfloat16 for `auto` where the hardware has instructions for it, else float32."""
    if wanted != "auto":
        return torch.bfloat16 if wanted == "bfloat16" else torch.float32
    capable = torch.cuda.is_bf16_supported() if torch.cuda.is_available() else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if capable else torch.float32


def load_base(
    folder: Path,
    compute: Compute,
    attention: str = "sdpa",
    bits: Literal[4] | None = None,
    place: torch.device | None = None,
) -> Any:
    """The base model of `folder` in this place, or on this machine's device, with params' threads and number format.

    With `bits` its linear layers are held quantised, for training an adapter (QLoRA, Dettmers et al. 2023: 4-bit
    NormalFloat with quantised constants). Raises UserError where this machine cannot do that.
    """
    torch.set_num_threads(compute.threads)
    number_format = dtype(compute.dtype)
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=number_format,
        attn_implementation=attention,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        **({} if bits is None else {"quantization_config": quantised(number_format), "device_map": {"": device()}}),
    )
    return model if bits else model.to(place or device())


def quantised(number_format: torch.dtype) -> BitsAndBytesConfig:
    """How QLoRA holds the base. Raises UserError where there is no GPU, or no bitsandbytes."""
    if not torch.cuda.is_available():
        raise UserError("train.lora.base_bits: a 4-bit base needs a GPU, and there is none here; leave it out")
    if find_spec("bitsandbytes") is None:
        raise UserError("train.lora.base_bits: needs bitsandbytes; run: pip install 'bitsandbytes>=0.46'")
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=number_format,
    )


@contextmanager
def under_peft() -> Iterator[None]:
    """PEFT 0.21 asks transformers 5.23 for a property under a name that goes away with version 6; no user's concern."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        yield


def adapter(models: Path, name: str) -> Path:
    """The folder of an adapter in `models`. Raises UserError where train wrote none of this name there."""
    here = {path.parent.name for path in models.glob("*/training.json")}
    if name not in here:
        hint = suggestion(name, here | {"base"})
        raise UserError(f"{models / name}: no adapter that train wrote; {hint} (dvc repro train writes tuned)")
    return models / name


def apply_adapter(model: Any, folder: Path) -> Any:
    """`model` with the adapter of `folder` merged into its weights by PEFT, as the registered version does it too.

    Merged, it computes at the base's speed; the small products of a rank-16 adapter would cost a fifth of it.
    """
    with under_peft():
        adapted = PeftModel.from_pretrained(model, folder, is_trainable=False)
    # PEFT leaves the weights frozen, and torch multiplies a strided slice with a frozen matrix by copying that matrix
    # for each row: 4 GB for the default model's output layer when 75 prompts are answered together.
    return adapted.merge_and_unload().requires_grad_(True).eval()


def load(base: Path, adapter: Path | None, compute: Compute, place: torch.device | None = None) -> Any:
    """The base model of a folder, with the adapter merged into it where there is one."""
    loaded = load_base(base, compute, place=place)
    return apply_adapter(loaded, adapter) if adapter else loaded


def trained_chat(adapter: Path) -> str:
    """The hash of the chat template that the adapter was trained in."""
    return str(json.loads((adapter / "training.json").read_text(encoding="utf-8"))["chat_hash"])
