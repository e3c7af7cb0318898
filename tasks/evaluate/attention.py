"""Attention of questions packed without padding, behind a prefix that they share; transformers knows it as `questions`.

Each path through a question's choices is its own for torch's own kernel, as long as if it stood alone. In bfloat16 a
difference in one last digit grows through the layers to tenths of a log-likelihood, so the rounding has to be the same.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "questions"

RUN = 128
"""Rows of one call: the kernel computes what is behind a row too and drops it, so short calls waste less."""

Layer = tuple[Tensor, Tensor]
"""Keys and values of one layer, each (tokens, key heads, width)."""


class OtherAttentionError(Exception):
    """The model's attention is not the plain one that is computed here."""


class Rows(Protocol):
    """What a batch's rows see; `width` is how much one sees at most."""

    width: int

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """`query` and the result are (rows, heads, width), the scaled `key` and `value` (rows, key heads, width)."""


class Chain(NamedTuple):
    """Rows of a batch that follow each other on one path, those from `start` to `end`, and what they see.

    `seen` are the places of all rows on the path, their own last, among the prefix's tokens and the batch's rows behind
    them. `later` (rows, seen) is minus infinity where that is behind a row; None where the path begins with the rows.
    """

    start: int
    end: int
    seen: Tensor | slice
    later: Tensor | None


class Chains:
    """The paths of a batch's rows.

    `parents[q]` holds for each row of question q the row before it, -1 where there is none; all see the whole `prefix`,
    the keys and values of its tokens in each layer. What the layers compute is kept in `layers` where `keep` is set.
    """

    def __init__(
        self,
        parents: Sequence[Sequence[int]],
        number_format: torch.dtype,
        device: torch.device,
        prefix: Sequence[Layer] = (),
        keep: bool = False,
    ) -> None:
        self.prefix, self.keep, self.layers = prefix, keep, list[Layer]()
        self.before = len(prefix[0][0]) if prefix else 0
        self.chains, self.width, start = list[Chain](), 0, 0
        for own in parents:
            for first, last in _runs(own):
                path = [*range(self.before), *(self.before + start + row for row in _path(own, first, last))]
                self.width = max(self.width, len(path))
                alone, together = len(path) == last - first, len(path) == path[-1] + 1 - path[0]
                later = None if alone else _later(last - first, len(path), number_format).to(device)
                seen = slice(path[0], path[-1] + 1) if together else torch.tensor(path, device=device)
                self.chains.append(Chain(start + first, start + last, seen, later))
            start += len(own)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each row sees the prefix, the rows before it on its path, and itself."""
        if self.keep:
            self.layers.append((key, value))
        if self.prefix:
            before = self.prefix[layer]
            key, value = torch.cat([before[0], key]), torch.cat([before[1], value])
        # (1, heads, rows, width), as the kernel wants them; cut and gathered a path at a time.
        queries, keys, values = (one.transpose(0, 1)[None] for one in (query, key, value))
        out = torch.empty_like(queries)
        for start, end, seen, later in self.chains:
            own = queries[:, :, start:end]
            path = keys[:, :, seen], values[:, :, seen]
            if later is None:
                found = scaled_dot_product_attention(own, *path, is_causal=True, scale=1.0, enable_gqa=True)
            else:
                found = _behind(own, *path, later)
            out[:, :, start:end] = found
        return out[0].transpose(0, 1)


def _behind(query: Tensor, key: Tensor, value: Tensor, later: Tensor) -> Tensor:
    """The last rows of a path. Heads that share keys are rows of one, which spares the kernel copies of those."""
    groups = query.shape[1] // key.shape[1]
    together = query.reshape(1, key.shape[1], -1, query.shape[3])
    mask = later.repeat(groups, 1)
    return scaled_dot_product_attention(together, key, value, attn_mask=mask, scale=1.0).view_as(query)


def _runs(parents: Sequence[int]) -> list[tuple[int, int]]:
    """The longest runs, of at most RUN rows, of which each follows the one before it."""
    cuts = [row for row, parent in enumerate(parents) if row == 0 or parent != row - 1]
    whole = pairwise([*cuts, len(parents)])
    return [(start, min(start + RUN, end)) for first, end in whole for start in range(first, end, RUN)]


def _path(parents: Sequence[int], first: int, last: int) -> list[int]:
    """The rows of a run, and before them those that lead to it."""
    before, row = list[int](), parents[first]
    while row >= 0:
        before.append(row)
        row = parents[row]
    return [*reversed(before), *range(first, last)]


def _later(rows: int, path: int, number_format: torch.dtype) -> Tensor:
    """(rows, path): minus infinity where a place of a path is behind one of its last rows."""
    behind = torch.ones(rows, path, dtype=torch.bool).triu_(path - rows + 1)
    return torch.zeros(rows, path, dtype=number_format).masked_fill_(behind, float("-inf"))


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    *,
    rows: Rows,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """Attention as `rows` says. `query` is (1, heads, rows, width), `key` and `value` (1, key heads, rows, width).

    Returns (1, rows, heads, width). Raises OtherAttentionError where a window is shorter than what a row sees, or
    scores are bent or have sinks (`s_aux`).
    """
    if softcap or s_aux is not None or (sliding_window or rows.width) < rows.width:
        raise OtherAttentionError
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    parts = (one[0].transpose(0, 1) for one in (query, key * scale, value))
    return rows.attend(int(module.layer_idx), *parts)[None], None  # type: ignore[arg-type]


AttentionInterface.register(NAME, attend)  # type: ignore[no-untyped-call]
