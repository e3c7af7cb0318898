"""An optimiser step's sequences, shared out among threads: each computes its share alone, piece by piece.

Whole sequences need no waiting until the step's gradients are summed, which happens in the shares' order, so that the
sum does not depend on who is done first.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

Row = dict[str, Any]
"""A packed row, as `tasks.shards` gives it: `ids`, `supervised` and the `lengths` of its sequences."""

Computed = tuple[Tensor, list[Tensor]]
"""A loss and its gradients."""


def sequences(rows: Sequence[Row]) -> Iterator[Row]:
    """Each sequence of the rows as a row of its own."""
    for row in rows:
        start = 0
        for number, length in enumerate(row["lengths"].tolist()):
            span = slice(start, start + length)
            yield {
                **row,
                "ids": row["ids"][span],
                "supervised": row["supervised"][span],
                "lengths": row["lengths"][number : number + 1],
            }
            start = span.stop


def share_out(rows: Sequence[Row], threads: int) -> list[list[list[Row]]]:
    """The rows' sequences as one share for each thread, and each share as pieces no longer than the longest row.

    The longest sequences are dealt first, each to the share that has fewest tokens yet, and each into the first piece
    with room for it.
    """
    room = max(len(row["ids"]) for row in rows)
    shares: list[list[list[Row]]] = [[] for _ in range(threads)]
    for sequence in sorted(sequences(rows), key=tokens, reverse=True):
        share = min(shares, key=lambda share: sum(map(total, share)))
        piece = next((piece for piece in share if total(piece) + tokens(sequence) <= room), None)
        if piece is None:
            share.append([sequence])
        else:
            piece.append(sequence)
    return [share for share in shares if share]


def tokens(row: Row) -> int:
    """How long a row is."""
    return len(row["ids"])


def total(rows: list[Row]) -> int:
    """How many tokens these rows hold."""
    return sum(map(tokens, rows))


def summed(parts: Iterable[Computed], weights: Sequence[Tensor]) -> Computed:
    """The sum of losses and gradients; zeros where there are none."""
    loss, gradients = weights[0].new_zeros(()), [torch.zeros_like(weight) for weight in weights]
    for more, others in parts:
        loss += more
        torch._foreach_add_(gradients, others)
    return loss, gradients


class Precomputed(torch.autograd.Function):
    """A loss whose gradients were computed together with it."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradients: list[Tensor], *weights: Tensor) -> Tensor:
        """The loss; `gradients` are those of `weights`."""
        ctx.gradients = gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients, times what comes from above."""
        return None, None, *(gradient * upstream[0] for gradient in ctx.gradients)


def draws(model: nn.Module) -> bool:
    """Whether the model drops something out in training: random numbers that threads would draw in any order."""
    layers = any(isinstance(module, nn.Dropout) and module.p > 0 for module in model.modules())
    return layers or any("drop" in name and bool(value) for name, value in vars(model.config).items())
