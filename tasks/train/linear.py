"""A frozen linear layer under a LoRA adapter, as one function that computes and keeps only what the adapter needs.

PEFT's layer computes the same in nine tensor operations of which each passes over the whole output, and autograd keeps
what their backward passes could need. Here the adapter's product is added where the base's product lies, nothing is
kept but the input and its rank-r image, and the frozen weight has no gradient.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D


class LowRank(torch.autograd.Function):
    """x W' + b + scale (x A') B' of Hu et al. 2021 (arXiv 2106.09685) for a frozen W and b.

    x is (tokens, in), W (out, in), A (rank, in), B (out, rank). Products are in the number format of W, the gradients
    of A and B in theirs.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        """The layer's output, (tokens, out)."""
        down, up = a.to(weight.dtype), b.to(weight.dtype)
        inner = (x @ down.T).mul_(scale)
        out = x @ weight.T if bias is None else torch.addmm(bias, x, weight.T)
        ctx.save_for_backward(x, weight, down, up, inner)
        ctx.scale, ctx.formats = scale, (a.dtype, b.dtype)
        return out.addmm_(inner, up.T)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x, where it has one, and of A and B."""
        (out,) = gradients
        x, weight, down, up, inner = ctx.saved_tensors
        outer = (out @ up).mul_(ctx.scale)
        to_x = (out @ weight).addmm_(outer, down) if ctx.needs_input_grad[0] else None
        to_a, to_b = ctx.formats
        return to_x, None, None, (outer.T @ x).to(to_a), (out.T @ inner).to(to_b), None


class FrozenLinear(Linear):  # type: ignore[misc]
    """PEFT's LoRA layer with `LowRank` in its forward pass; whatever `LowRank` does not compute is left to PEFT."""

    def forward(self, x: Tensor, *args: Any, **options: Any) -> Tensor:
        """The layer's output."""
        base, names = self.get_base_layer(), self.active_adapters
        weight = base.weight.T if isinstance(base, Conv1D) else base.weight
        if not self._is_plain(names) or weight.requires_grad or x.dtype != weight.dtype or args or options:
            output: Tensor = super().forward(x, *args, **options)
            return output
        a, b = self.lora_A[names[0]].weight, self.lora_B[names[0]].weight
        scale = self.scaling[names[0]]
        flat: Tensor = LowRank.apply(x.flatten(0, -2), weight, base.bias, a, b, scale)  # type: ignore
        return flat.view(*x.shape[:-1], -1)

    def _is_plain(self, names: list[str]) -> bool:
        """Whether one adapter is applied, that is no variant, such as DoRA, and drops nothing."""
        if self.disable_adapters or self.merged or len(names) != 1 or names[0] in self.lora_variant:
            return False
        return isinstance(self.lora_dropout[names[0]], nn.Identity) and not self.lora_bias[names[0]]


def fuse(adapted: nn.Module) -> None:
    """Let `LowRank` compute every LoRA layer of a PEFT model over a plain matrix; quantised ones stay as they are."""
    for module in adapted.modules():
        if type(module) is Linear and type(module.get_base_layer()) in (nn.Linear, Conv1D):
            module.__class__ = FrozenLinear
