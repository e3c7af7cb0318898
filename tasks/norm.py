"""Root-mean-square normalisation under a frozen weight, as one function that keeps its input alone.

The stock layer is eight tensor operations on a float32 copy of its input, and autograd keeps several copies.
"""

from typing import Any

import torch
from torch import Tensor, nn


class RootMeanSquare(torch.autograd.Function):
    """x / sqrt(mean(x^2) + epsilon) * weight of Zhang and Sennrich 2019 (arXiv 1910.07467) for a frozen weight.

    x is (..., width), weight (width,). What is between is in float32.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        """The normalised input, in its number format."""
        wide = x.float()
        scale = torch.linalg.vector_norm(wide, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        normalised: Tensor = (wide * scale).to(x.dtype).mul_(weight)
        return normalised

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of x."""
        x, weight, scale = ctx.saved_tensors
        upstream, wide = (gradients[0] * weight).float(), x.float()
        along = torch.linalg.vecdot(upstream, wide)[..., None] * scale.pow(3).div_(-x.shape[-1])
        return upstream.mul_(scale).addcmul_(wide, along).to(x.dtype), None, None


class FrozenNorm(nn.Module):
    """A stock layer under a frozen weight; `RootMeanSquare` computes it."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = weight, epsilon

    def forward(self, x: Tensor) -> Tensor:
        """The normalised input."""
        normalised: Tensor = RootMeanSquare.apply(x, self.weight, self.epsilon)  # type: ignore
        return normalised


class SameNorm(nn.Module):
    """A stock layer to the last bit: its operations in its order, in place where nothing else needs what was there."""

    def __init__(self, weight: Tensor, epsilon: float) -> None:
        super().__init__()
        self.weight, self.epsilon = weight, epsilon

    def forward(self, x: Tensor) -> Tensor:
        """The normalised input."""
        wide = x.to(torch.float32, copy=True)
        scale = (wide * wide).mean(-1, keepdim=True).add_(self.epsilon).rsqrt_()
        return wide.mul_(scale).to(x.dtype).mul_(self.weight)


def fuse(model: nn.Module, kind: type[FrozenNorm] | type[SameNorm] = FrozenNorm) -> None:
    """Let layers of this kind compute the model's own; what only bears their name stays as it is."""
    for module in list(model.modules()):
        for name, layer in module.named_children():
            if type(layer).__name__.endswith("RMSNorm") and hasattr(layer, "variance_epsilon"):
                stock: Any = layer
                ours = kind(stock.weight, stock.variance_epsilon)
                if not ours.weight.requires_grad and _equal(layer, ours):
                    setattr(module, name, ours)


def _equal(stock: nn.Module, ours: FrozenNorm | SameNorm) -> bool:
    """Whether both do the same to a few numbers: some models add one to the weight, or scale otherwise."""
    weight = ours.weight
    few = torch.linspace(-2, 3, 2 * weight.numel(), device=weight.device).view(2, -1).to(weight.dtype)
    with torch.no_grad():
        return torch.allclose(stock(few), ours(few), rtol=4 * torch.finfo(weight.dtype).eps)
