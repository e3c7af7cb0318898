"""A step's sequences are shared out whole, evenly, and each once."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tasks.threads import Threads
from tasks.train import shares

ROWS = st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=5), min_size=1, max_size=5)


def rows_of(lengths: list[list[int]]) -> list[dict[str, Any]]:
    """Rows whose tokens are all different."""
    ids = iter(range(10_000))
    made = [np.array([next(ids) for _ in range(sum(row))]) for row in lengths]
    return [
        {"number": number, "ids": own, "supervised": own % 2 == 1, "lengths": np.array(row)}
        for number, (own, row) in enumerate(zip(made, lengths, strict=True))
    ]


@given(ROWS, st.integers(1, 4))
def test_each_sequence_is_in_one_share_whole(lengths: list[list[int]], threads: int) -> None:
    rows = rows_of(lengths)
    dealt = [row for share in shares.share_out(rows, threads) for piece in share for row in piece]
    whole = [ids for row in rows for ids in np.split(row["ids"], np.cumsum(row["lengths"])[:-1])]
    assert sorted(tuple(row["ids"]) for row in dealt) == sorted(map(tuple, whole))
    assert all((row["supervised"] == (row["ids"] % 2 == 1)).all() for row in dealt)


@given(ROWS, st.integers(1, 4))
def test_shares_are_even_and_no_piece_is_longer_than_the_longest_row(lengths: list[list[int]], threads: int) -> None:
    dealt = shares.share_out(rows_of(lengths), threads)
    sizes = [sum(map(shares.total, share)) for share in dealt]
    assert max(sizes) - min(sizes, default=0) <= max(map(max, lengths)) or len(dealt) < threads
    assert all(shares.total(piece) <= max(map(sum, lengths)) for share in dealt for piece in share)


def test_sums_do_not_depend_on_who_is_done_first() -> None:
    threads = Threads(2)
    parts = threads.map(lambda share: (torch.tensor(share), [torch.tensor([share, 10 * share])]), [1.0, 2.0])
    found = shares.summed(parts, [torch.zeros(2)])
    assert (found[0].item(), found[1][0].tolist()) == (3.0, [3.0, 30.0])


@pytest.mark.parametrize(
    ("layer", "config", "expected"),
    [
        (nn.Dropout(0.1), {}, True),
        (nn.Dropout(0.0), {"attention_dropout": 0.0}, False),
        (nn.Identity(), {"attention_dropout": 0.1}, True),
    ],
)
def test_a_model_that_drops_something_out_is_known(layer: nn.Module, config: dict[str, float], expected: bool) -> None:
    model = nn.Sequential(layer)
    model.config = SimpleNamespace(**config)
    assert shares.draws(model) is expected
