"""Where a base model comes from. Each source is pinned, and refuses what does not match its pin."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from tasks import outputs
from tasks.errors import UserError
from tasks.params import Model


@dataclass(frozen=True)
class Loaded:
    """A model and its tokenizer as transformers objects, in memory."""

    model: Any
    tokenizer: Any


def from_package(params: Model) -> Loaded:
    """A GGUF file that an installed package carries, dequantised to bfloat16.

    The package is found but not imported, so its own dependencies need not be there. Raises UserError where the
    package, its version or the file is not the one of params.
    """
    spec = util.find_spec(params.name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"model.name: no package {params.name!r} is installed")
    distribution = metadata.packages_distributions().get(params.name, [params.name])[0]
    installed = metadata.version(distribution)
    if installed != params.revision:
        raise UserError(f"model.revision: {distribution} is installed as {installed}, not {params.revision}")
    folder = Path(next(iter(spec.submodule_search_locations)))
    if not (folder / str(params.file)).is_file():
        there = ", ".join(sorted(path.name for path in folder.glob("*.gguf"))) or "none"
        raise UserError(f"model.file: {params.name} carries no {params.file}; GGUF files in it: {there}")
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=params.file)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=params.file, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True)
    )
    _forget_quantisation(model)
    return Loaded(model, tokenizer)


def from_folder(params: Model) -> Loaded:
    """A local folder in hub layout. Raises UserError where it is missing, unsafe, or not the one that params pins."""
    folder = Path(params.name)
    if not (folder / "config.json").is_file():
        raise UserError(f"model.name: {folder} is no model folder: it has no config.json")
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"model.name: {folder} has no safetensors; other weight formats can run code and are not read")
    actual = outputs.digest_path(folder)
    if actual != params.revision:
        raise UserError(f"model.revision: the digest of {folder} is {actual}, not {params.revision}; put it there")
    return _load(str(folder), {})


def from_hub(params: Model) -> Loaded:
    """A model of a hub, at a commit. Raises UserError where the commit is no full hash or cannot be had."""
    if not re.fullmatch(r"[0-9a-f]{40}", params.revision):
        raise UserError(f"model.revision: {params.revision!r} is no full commit hash (40 hex digits); a tag can move")
    try:
        return _load(params.name, {"revision": params.revision})
    except OSError as error:
        raise UserError(
            f"model.name: {params.name} at {params.revision} cannot be loaded from the hub or its cache: {error}"
        ) from error


SOURCES: dict[str, Callable[[Model], Loaded]] = {"package": from_package, "folder": from_folder, "hub": from_hub}


def _load(name: str, pin: dict[str, str]) -> Loaded:
    safe = {"trust_remote_code": False, **pin}
    tokenizer = AutoTokenizer.from_pretrained(name, **safe)
    return Loaded(AutoModelForCausalLM.from_pretrained(name, dtype="auto", use_safetensors=True, **safe), tokenizer)


def _forget_quantisation(model: Any) -> None:
    """The weights are plain numbers now; transformers would refuse to save a model that is still marked."""
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
