"""Attention in which packed sequences do not see each other, registered with transformers under the name `packed`.

On the CPU each sequence is computed alone, which costs the sum of the squares of the lengths instead of the square of
their sum. The boundaries come in as `cu_seq_lens_q`, the form that transformers' variable-length GPU kernels read.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "packed"


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    cu_seq_lens_q: torch.Tensor,
    visible: Sequence[torch.Tensor] | None = None,
    **_: object,
) -> tuple[torch.Tensor, None]:
    """Attention within each sequence: causal, or as `visible` says.

    `query` is (1, heads, tokens, width), `key` and `value` (1, key heads, tokens, width); sequence s is the tokens
    `cu_seq_lens_q[s]:cu_seq_lens_q[s + 1]`, and `visible[s]` (length, length) tells which tokens each of its tokens
    sees. Returns (1, tokens, heads, width).
    """
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    ends = cu_seq_lens_q.tolist()
    parts = [
        scaled_dot_product_attention(
            query[:, :, start:end],
            key[:, :, start:end],
            value[:, :, start:end],
            attn_mask=None if visible is None else visible[number],
            dropout_p=dropout,
            scale=scaling,
            is_causal=visible is None,
        )
        for number, (start, end) in enumerate(pairwise(ends))
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


AttentionInterface.register(NAME, packed_attention)
