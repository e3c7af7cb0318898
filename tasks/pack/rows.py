"""Which sequences are trained on, and how they share rows."""

from bisect import bisect_left, insort
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]

WINDOW = 8_192
"""Sequences that are packed together: enough that a row seldom stays open, so few that the work grows linearly."""


def taken(lengths: Numbers, order: npt.NDArray[np.uint64], tokens: int | None) -> Numbers:
    """The numbers of the sequences to train on, sorted by `order`, whose tokens sum to `tokens` at most.

    `lengths` and `order` are (sequences,). The order is a hash, so that rows mix tasks, and more data of the same
    source changes little of what a budget takes.
    """
    numbers = np.argsort(order, kind="stable")
    if tokens is None:
        return numbers
    return numbers[: np.searchsorted(np.cumsum(lengths[numbers]), tokens, side="right")]


def packed(lengths: Numbers, numbers: Numbers, row_tokens: int) -> Iterator[list[int]]:
    """Rows of sequence numbers, each of `row_tokens` at most, window by window."""
    for start in range(0, len(numbers), WINDOW):
        window = numbers[start : start + WINDOW]
        for row in best_fit_decreasing(lengths[window].tolist(), row_tokens):
            yield window[row].tolist()


def best_fit_decreasing(lengths: list[int], row_tokens: int) -> list[list[int]]:
    """Rows of places in `lengths`; each row's lengths sum to `row_tokens` at most.

    The longest goes first, into the fullest row with room (Johnson 1973: at most 11/9 of the fewest rows, and some).
    """
    rows: list[list[int]] = []
    room: list[tuple[int, int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        fitting = bisect_left(room, (lengths[place], -1))
        if fitting == len(room):
            left, row = row_tokens, len(rows)
            rows.append([])
        else:
            left, row = room.pop(fitting)
        rows[row].append(place)
        insort(room, (left - lengths[place], row))
    return rows
