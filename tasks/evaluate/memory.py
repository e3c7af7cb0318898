"""The keys and values of answers that are being generated, side by side."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tasks.evaluate.attention import Layer

STEP = 32
"""Keys are padded to a multiple of it: torch's softmax in bfloat16 takes up to three times as long for others."""


class Memory:
    """Keys and values of each answer's tokens so far in each layer, (answers, key heads, room, width).

    `lengths` (answers,) are the tokens that each holds; a step adds one to each.
    """

    def __init__(self, lengths: Sequence[int], new_tokens: int, device: torch.device) -> None:
        self.lengths = torch.tensor(lengths, device=device)
        self.room = -(-(max(lengths) + new_tokens) // STEP) * STEP
        self.layers: list[Layer] = []

    @property
    def width(self) -> int:
        """The most tokens that an answer sees in the next step, as a multiple of STEP."""
        return -(-(int(self.lengths.max()) + 1) // STEP) * STEP

    def write(self, answer: int, *parts: Sequence[Layer]) -> None:
        """Put keys and values, (tokens, key heads, width) in each layer, part behind part, into an answer's."""
        start = 0
        for layers in filter(None, parts):
            if not self.layers:
                _, heads, width = layers[0][0].shape
                self.layers = [self._empty(layer, (len(self.lengths), heads, self.room, width)) for layer in layers]
            for own, told in zip(self.layers, layers, strict=True):
                for mine, theirs in zip(own, told, strict=True):
                    mine[answer, :, start : start + len(theirs)] = theirs.transpose(0, 1)
            start += len(layers[0][0])

    @staticmethod
    def _empty(layer: Layer, shape: tuple[int, ...]) -> Layer:
        return layer[0].new_zeros(shape), layer[1].new_zeros(shape)

    def keep(self, answers: list[int]) -> None:
        """Forget all answers but these."""
        kept = torch.tensor(answers, device=self.lengths.device)
        self.lengths = self.lengths[kept]
        self.layers = [(keys[kept], values[kept]) for keys, values in self.layers]

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each answer's next token sees its tokens so far and itself."""
        keys, values = self.layers[layer]
        every = torch.arange(len(self.lengths), device=self.lengths.device)
        keys[every, :, self.lengths], values[every, :, self.lengths] = key, value
        seen = self.width
        heads, width = key.shape[1:]
        few = query.reshape(len(every) * heads, -1, width)
        scores = torch.bmm(few, keys[:, :, :seen].flatten(0, 1).transpose(1, 2))
        beyond = torch.arange(seen, device=every.device) > self.lengths[:, None]
        scores.view(len(every), -1, seen).masked_fill_(beyond[:, None], float("-inf"))
        return torch.bmm(scores.softmax(2), values[:, :, :seen].flatten(0, 1)).view_as(query)
