"""Attention of questions packed without padding, behind a prefix that they share; transformers knows it as `questions`.

The rows of a batch are put into a padded grid of questions for the attention alone: a few large products instead of
one small one for each question. All other layers see no padding.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface

NAME = "questions"

BLOCK = 128
"""Query rows of a question computed together, against the keys up to their end."""

SCORES = 1_000_000
"""Attention scores computed together: few enough to stay in the cache."""

STEP = 32
"""Keys are padded to a multiple of it: torch's softmax in bfloat16 takes up to three times as long for others."""

Layer = tuple[Tensor, Tensor]
"""Keys and values of one layer, each (tokens, key heads, width)."""


class OtherAttentionError(Exception):
    """The model's attention is not the plain one that is computed here."""


class Rows(Protocol):
    """What a batch's rows see; `width` is how much one sees at most."""

    width: int

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """`query` and the result are (rows, heads, width), the scaled `key` and `value` (rows, key heads, width)."""


class Grid:
    """Where the rows of a batch lie in a grid of questions.

    `visible[q]` (rows, rows) tells which rows of question q see which of its rows; all see the whole `prefix`, the
    keys and values of its tokens in each layer. What the layers compute is kept in `layers` where `keep` is set.
    """

    def __init__(
        self,
        visible: Sequence[Tensor],
        number_format: torch.dtype,
        device: torch.device,
        prefix: Sequence[Layer] = (),
        keep: bool = False,
    ) -> None:
        self.prefix, self.keep, self.layers = prefix, keep, list[Layer]()
        self.before = len(prefix[0][0]) if prefix else 0
        sizes = [len(one) for one in visible]
        self.height = max(sizes)
        self.width = -(-(self.before + self.height) // STEP) * STEP
        self.questions = len(sizes)
        own = self.width - self.before
        self.mask = torch.zeros(len(sizes), self.height, own, dtype=number_format)
        # An empty slot takes the batch's first row, which nobody sees there.
        self.slots = torch.zeros(len(sizes), own, dtype=torch.long)
        start = 0
        for number, (size, seen) in enumerate(zip(sizes, visible, strict=True)):
            self.mask[number, :size].fill_(float("-inf"))
            self.mask[number, :size, :size].masked_fill_(seen, 0.0)
            self.slots[number, :size] = torch.arange(start, start + size)
            start += size
        self.taken = torch.cat([number * self.height + torch.arange(size) for number, size in enumerate(sizes)])
        self.mask, self.slots, self.taken = self.mask.to(device), self.slots.to(device), self.taken.to(device)
        self._places: dict[tuple[int, int], tuple[Tensor, Tensor, Tensor]] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each question's rows see the prefix and what `visible` says."""
        if self.keep:
            self.layers.append((key, value))
        if self.prefix:
            before = self.prefix[layer]
            key, value = torch.cat([before[0], key]), torch.cat([before[1], value])
        heads, width = key.shape[1:]
        groups = query.shape[1] // heads
        to_queries, to_keys, to_rows = self.places(heads, groups)
        queries = query.reshape(-1, width).index_select(0, to_queries)
        keys, values = (one.reshape(-1, width).index_select(0, to_keys) for one in (key, value))
        out = torch.empty_like(queries)
        few, many = (self.questions, heads, groups, self.height, width), (self.questions, heads, self.width, width)
        _fill(out.view(few), queries.view(few), keys.view(many), values.view(many), self)
        return out.index_select(0, to_rows).view(-1, heads * groups, width)

    def places(self, heads: int, groups: int) -> tuple[Tensor, Tensor, Tensor]:
        """Where the grid's queries, its keys, and the batch's outputs are found, each among rows of one head each."""
        if (heads, groups) not in self._places:
            every = torch.arange(heads * groups, device=self.slots.device)
            queries = self.slots[:, None, : self.height] * (heads * groups) + every[:, None]
            behind = torch.arange(self.before, device=every.device).expand(self.questions, -1)
            keys = torch.cat([behind, self.slots + self.before], 1)[:, None] * heads + every[:heads, None]
            question, place = self.taken // self.height, self.taken % self.height
            out = (question[:, None] * (heads * groups) + every) * self.height + place[:, None]
            self._places[heads, groups] = queries.flatten(), keys.flatten(), out.flatten()
        return self._places[heads, groups]


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


def _fill(out: Tensor, query: Tensor, key: Tensor, value: Tensor, grid: Grid) -> None:
    """Write into `out` what `query`, both (questions, heads, groups, height, width), sees of `key` and `value`, both
    (questions, heads, keys, width)."""
    questions, heads, groups, height, width = query.shape
    together = max(1, SCORES // (heads * groups * min(height, BLOCK) * grid.width))
    for first in range(0, questions, together):
        some = slice(first, first + together)
        for start in range(0, height, BLOCK):
            rows = slice(start, min(start + BLOCK, height))
            end = grid.width if rows.stop == height else grid.before + rows.stop
            few = query[some, :, :, rows].reshape(-1, groups * (rows.stop - start), width)
            scores = torch.bmm(few, key[some, :, :end].flatten(0, 1).transpose(1, 2))
            own = scores.view(-1, heads * groups, rows.stop - start, end)[..., grid.before :]
            own += grid.mask[some, None, rows, : end - grid.before]
            seen = torch.bmm(scores.softmax(2), value[some, :, :end].flatten(0, 1))
            out[some, :, :, rows] = seen.view(-1, heads, groups, rows.stop - start, width)


AttentionInterface.register(NAME, attend)  # type: ignore[no-untyped-call]
