"""Threads compute side by side and tell what they made in the order of what they were given."""

import time

import pytest
import torch

from tasks.threads import Threads


def test_each_thread_has_its_operations_to_itself_and_the_caller_keeps_its_own() -> None:
    own = torch.get_num_threads()
    assert set(Threads(2).map(lambda _: torch.get_num_threads(), range(8))) == {1}
    assert torch.get_num_threads() == own
    assert list(Threads(1).map(lambda _: torch.get_num_threads(), range(2))) == [own, own]


@pytest.mark.parametrize("number", [1, 3])
def test_the_order_is_that_of_the_items(number: int) -> None:
    def slowest_first(item: int) -> int:
        time.sleep((8 - item) / 400)
        return item

    assert list(Threads(number).map(slowest_first, range(8))) == list(range(8))


def test_items_are_taken_when_threads_are_free_for_them() -> None:
    taken: list[int] = []
    made = Threads(2).map(lambda item: item, (taken.append(item) or item for item in range(100)))
    assert next(made) == 0
    assert len(taken) <= 4
    made.close()  # type: ignore[attr-defined]


def test_a_failure_is_told_when_nothing_computes_any_more() -> None:
    done: list[int] = []

    def compute(item: int) -> None:
        if item == 0:
            raise ValueError(item)
        time.sleep(0.05)
        done.append(item)

    with pytest.raises(ValueError, match="0"):
        list(Threads(2).map(compute, range(3)))
    assert sorted(done) == [1, 2]
