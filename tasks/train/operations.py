"""The operations that a step of a LoRA adapter takes, and how many of them this device can do in a second."""

import time
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from tasks.shards import Shards

SECONDS = 0.4
"""How long the device is measured."""


def per_token(model: Any, packed: Shards) -> float:
    """The operations for a real token, on average over the shards; `model` is the base, with an adapter or without.

    Forward and input gradient are 2 operations each for a weight; the head's at supervised tokens alone. Attention
    within a sequence of n tokens takes 6 n^2 / 2 products of a head's width: two forward, four backward.
    """
    head = model.get_output_embeddings()
    linear = sum(out * into for out, into in shapes(model))
    squares = sum((end - start) ** 2 for start, end in pairwise(packed.boundaries.tolist()))
    attended = 6 * squares * model.config.hidden_size * model.config.num_hidden_layers
    tokens, supervised = packed.index["tokens"], packed.index["supervised_tokens"]
    return float(4 * linear + (4 * head.weight.numel() * supervised + attended) / tokens)


def shapes(model: Any) -> list[tuple[int, int]]:
    """(out, in) of each of the base's matrices but the head; a 4-bit one counts as what it stands for."""
    head = model.get_output_embeddings()
    layers = [one for name, one in model.named_modules() if "lora_" not in name and one is not head]
    plain = [(one.out_features, one.in_features) for one in layers if isinstance(one, nn.Linear)]
    return plain + [(one.weight.shape[1], one.weight.shape[0]) for one in layers if isinstance(one, Conv1D)]


def rate(model: Any, tokens: int) -> float:
    """Operations/s of the products of the model's largest matrix with rows of so many tokens, in its number format."""
    out, into = max(shapes(model), key=lambda shape: shape[0] * shape[1])
    embedded: Tensor = model.get_input_embeddings().weight
    draws = torch.Generator(embedded.device).manual_seed(0)  # of its own: measuring must not move the training's draws
    options: dict[str, Any] = {"generator": draws, "device": embedded.device, "dtype": embedded.dtype}
    weight, x, gradient = (torch.randn(*shape, **options) for shape in ((out, into), (tokens, into), (tokens, out)))
    done = 0
    with torch.inference_mode():
        _waited_for(x @ weight.T)
        _waited_for(gradient @ weight)
        start = time.perf_counter()
        while time.perf_counter() - start < SECONDS:
            x @ weight.T
            _waited_for(gradient @ weight)
            done += 4 * tokens * out * into
    return done / (time.perf_counter() - start)


def _waited_for(result: Tensor) -> None:
    """A GPU computes while Python goes on."""
    if result.is_cuda:
        torch.cuda.synchronize()
