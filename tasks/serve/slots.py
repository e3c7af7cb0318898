"""The keys and values of answers that come and go: a place for each, of which the first ones are in use."""

from collections.abc import Sequence

import torch

from tasks.evaluate.attention import Layer
from tasks.evaluate.memory import Memory


class Slots(Memory):
    """Room for `count` answers of `room` tokens with their prompts; memory is taken once, at the first answer.

    `lengths` (answers in use,) are the tokens that each holds.
    """

    def __init__(self, count: int, room: int, device: torch.device) -> None:
        super().__init__([0], room, device)
        self.lengths = self.lengths[:0]
        self.count = count
        self._whole: list[Layer] = []
        self._begin = 0

    def join(self, lengths: Sequence[int]) -> None:
        """Take places for prompts of these lengths; what is written next, the first as number 0, goes there."""
        self._begin = len(self.lengths)
        self.lengths = torch.cat([self.lengths, torch.tensor(lengths, device=self.lengths.device)])
        self._show()

    def leave(self, place: int) -> None:
        """Give up a place; the last answer in use moves there."""
        last = len(self.lengths) - 1
        for layer in self._whole:
            for part in layer:
                part[place] = part[last]
        self.lengths[place] = self.lengths[last]
        self.lengths = self.lengths[:last]
        self._show()

    def clear(self) -> None:
        """Give up all places."""
        self.lengths = self.lengths[:0]
        self._show()

    def write(self, answer: int, *parts: Sequence[Layer]) -> None:
        """As in Memory, counted from the first that joined last."""
        if not self._whole:
            layers = next(filter(None, parts))
            _, heads, width = layers[0][0].shape
            self._whole = [self._empty(layer, (self.count, heads, self.room, width)) for layer in layers]
            self._show()
        super().write(self._begin + answer, *parts)

    def _show(self) -> None:
        """Let the layers be those of the answers in use."""
        used = len(self.lengths)
        self.layers = [(keys[:used], values[:used]) for keys, values in self._whole]
