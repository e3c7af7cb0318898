"""Linear layers whose weight lies in memory as the CPU's matrix product wants it.

Torch's own layer lays its weight out anew at every call, which is a tenth of the time of a head over a vocabulary.
"""

import torch
from torch import Tensor, nn


class PackedLinear(nn.Module):
    """A linear layer that learns no more; in bfloat16 its output is the stock layer's to the last bit."""

    def __init__(self, stock: nn.Linear, rows: int) -> None:
        super().__init__()
        self.bias = stock.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(stock.weight.detach(), rows)

    def forward(self, x: Tensor) -> Tensor:
        """The product of `x` (..., inputs) and the weight, (..., outputs)."""
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return out


def pack(model: nn.Module, rows: int) -> None:
    """Let a model's frozen bfloat16 layers on the CPU be such ones, for inputs of about so many rows."""
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    for module in list(model.modules()):
        for name, layer in module.named_children():
            # A layer of another type that is a linear one too does something of its own.
            if type(layer) is nn.Linear and _fits(layer.weight):
                setattr(module, name, PackedLinear(layer, rows))


def _fits(weight: Tensor) -> bool:
    return weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and not weight.requires_grad
