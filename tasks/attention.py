"""Attention in which packed sequences do not see each other, registered with transformers under the name `packed`.

On the CPU each sequence is computed alone, which costs the sum of the squares of the lengths instead of the square of
their sum. The boundaries come in as `cu_seq_lens_q`, the form that transformers' variable-length GPU kernels read.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "packed"

BLOCK = 128
"""Queries that are computed together: few enough that their scores stay in the cache."""

LONGEST = 1_024
"""Tokens of a sequence whose probabilities are kept for the backward pass; a longer one would take too much memory."""


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    cu_seq_lens_q: Tensor,
    **_: object,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence.

    `query` is (1, heads, tokens, width), `key` and `value` (1, key heads, tokens, width); sequence s is the tokens
    `cu_seq_lens_q[s]:cu_seq_lens_q[s + 1]`. Returns (1, tokens, heads, width).
    """
    ends = cu_seq_lens_q.tolist()
    longest = max(end - start for start, end in pairwise(ends))
    groups = query.shape[1] // key.shape[1]
    if query.device.type == "cpu" and not dropout and longest <= LONGEST:
        grouped = query[0].view(-1, groups, *query.shape[2:])
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        out = Blocked.apply(grouped, key[0], value[0], ends, scale)  # type: ignore[no-untyped-call]
        return out.flatten(1, 2)[None], None
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    parts = [
        scaled_dot_product_attention(
            query[:, :, start:end],
            key[:, :, start:end],
            value[:, :, start:end],
            dropout_p=dropout,
            scale=scaling,
            is_causal=True,
        )
        for start, end in pairwise(ends)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


class Blocked(torch.autograd.Function):
    """Causal attention of packed sequences for training on a CPU: a block of queries with the keys up to its end.

    torch's own kernel takes two and a half times as long for a forward and backward pass in bfloat16. The query heads
    that share a key head are rows of one product, so keys and values are never repeated.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, ends: list[int], scale: float) -> Tensor:
        """`query` is (key heads, groups, tokens, width), `key` and `value` (key heads, tokens, width).

        Returns (tokens, key heads, groups, width).
        """
        heads, groups, tokens, width = query.shape
        # Scaling the keys spares it for the scores, which are many more.
        key = key * scale
        out = query.new_empty(tokens, heads, groups, width)
        later = torch.ones(BLOCK, BLOCK, dtype=torch.bool).triu_(1)
        kept = []
        for first, start, end in blocks(ends):
            size = end - start
            rows = query[:, :, start:end].reshape(heads, -1, width)
            scores = torch.bmm(rows, key[:, first:end].transpose(1, 2))
            own = scores.view(heads, groups, size, -1)[..., start - first :]
            own.masked_fill_(later[:size, :size], float("-inf"))
            kept.append(scores.softmax(2))
            seen = torch.bmm(kept[-1], value[:, first:end])
            out[start:end] = seen.view(heads, groups, size, width).permute(2, 0, 1, 3)
        ctx.save_for_backward(query, key, value, *kept)
        ctx.ends, ctx.scale = ends, scale
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of query, key and value."""
        (out,) = gradients
        query, key, value, *kept = ctx.saved_tensors
        heads, groups, _, width = query.shape
        to_query = torch.empty_like(out, memory_format=torch.contiguous_format)
        to_key, to_value = torch.zeros(2, *key.shape).unbind()
        for (first, start, end), weights in zip(blocks(ctx.ends), kept, strict=True):
            rows = out[start:end].permute(1, 2, 0, 3).reshape(heads, -1, width)
            to_value[:, first:end] += torch.bmm(weights.transpose(1, 2), rows)
            to_weights = torch.bmm(rows, value[:, first:end].transpose(1, 2))
            to_scores = torch._softmax_backward_data(to_weights, weights, 2, weights.dtype)
            product = torch.bmm(to_scores, key[:, first:end])
            to_query[start:end] = product.view(heads, groups, -1, width).permute(2, 0, 1, 3)
            rows = query[:, :, start:end].reshape(heads, -1, width)
            to_key[:, first:end] += torch.bmm(to_scores.transpose(1, 2), rows)
        return to_query.permute(1, 2, 0, 3), (to_key * ctx.scale).to(key.dtype), to_value.to(value.dtype), None, None


def blocks(ends: list[int]) -> list[tuple[int, int, int]]:
    """(start of its sequence, start, end) of each block of queries, for sequences that end at `ends[1:]`."""
    return [
        (first, start, min(start + BLOCK, last))
        for first, last in pairwise(ends)
        for start in range(first, last, BLOCK)
    ]


AttentionInterface.register(NAME, packed_attention)
