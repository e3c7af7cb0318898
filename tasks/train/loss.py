"""Cross-entropy over a large vocabulary in bounded memory: chunk by chunk, and the gradient in the same pass.

The logits of all supervised tokens, their softmax and its gradient would be the largest tensors of a step. A chunk's
logits give the gradient of its hidden states at once, so that none outlive the chunk.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import linear

CHUNK = 128
"""Tokens whose logits are held together."""


class SummedCrossEntropy(torch.autograd.Function):
    """The sum of the cross-entropies of hidden states (tokens, width) with `labels` (tokens,), under a frozen head."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
        """The sum, in float32. `weight` is (vocabulary, width)."""
        total = torch.zeros((), device=hidden.device)
        gradient = torch.empty_like(hidden)
        for start in range(0, len(labels), CHUNK):
            chunk = slice(start, start + CHUNK)
            logits = linear(hidden[chunk], weight, bias)
            wanted, to_logits = labels[chunk, None], logits.softmax(1, dtype=torch.float32)
            # The likeliest token tells the logarithm of the sum of exponentials, which softmax keeps to itself.
            normaliser = logits.amax(1).float() - to_logits.amax(1).log()
            total += (normaliser - logits.gather(1, wanted)[:, 0].float()).sum()
            to_logits.scatter_add_(1, wanted, to_logits.new_full(wanted.shape, -1.0))
            gradient[chunk] = to_logits.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of the hidden states; the head is frozen."""
        (gradient,) = ctx.saved_tensors
        return gradient.mul(gradients[0]), None, None, None
