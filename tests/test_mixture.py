import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.examples import Example
from tasks.render.mixture import choose, realised, shares
from tests.data_fixtures import record

available = st.dictionaries(st.text("abcdefg", min_size=1, max_size=3), st.integers(0, 10_000), max_size=12)
budgets = st.integers(0, 40_000)
caps = st.integers(1, 12_000)
steady = settings(deadline=None, database=None)


@steady
@given(available, budgets, caps)
def test_no_task_gets_more_than_it_has(records: dict[str, int], budget: int, cap: int) -> None:
    given_ = shares(records, budget, cap)
    assert given_.keys() == records.keys()
    assert all(0 <= given_[task] <= records[task] for task in records)


@steady
@given(available, budgets, caps)
def test_the_budget_is_spent_as_far_as_there_are_records(records: dict[str, int], budget: int, cap: int) -> None:
    assert sum(shares(records, budget, cap).values()) == min(budget, sum(records.values()))


@steady
@given(available, caps, st.floats(0, 1))
def test_shares_are_proportional_to_records_up_to_the_cap(records: dict[str, int], cap: int, part: float) -> None:
    weights = {task: min(count, cap) for task, count in records.items()}
    total = sum(weights.values())
    budget = int(part * total)
    for task, count in shares(records, budget, cap).items():
        assert abs(count * total - budget * weights[task]) < max(total, 1)


@steady
@given(available, budgets, caps)
def test_the_order_of_the_tasks_changes_no_share(records: dict[str, int], budget: int, cap: int) -> None:
    backwards = dict(reversed(records.items()))
    assert shares(backwards, budget, cap) == shares(records, budget, cap)


@pytest.mark.parametrize(
    ("records", "budget", "cap", "expected"),
    [
        ({"a": 30, "b": 10}, 20, 100, {"a": 15, "b": 5}),
        ({"a": 30_000, "b": 3_000}, 100, 3_000, {"a": 50, "b": 50}),
        ({"a": 5, "b": 500}, 200, 5, {"a": 5, "b": 195}),
        ({"a": 5, "b": 5}, 100, 3_000, {"a": 5, "b": 5}),
        ({"a": 1, "b": 1, "c": 1}, 2, 1, {"a": 1, "b": 1, "c": 0}),
        ({}, 5, 1, {}),
    ],
)
def test_shares_by_example(records: dict[str, int], budget: int, cap: int, expected: dict[str, int]) -> None:
    assert shares(records, budget, cap) == expected


FOLLOWS = [record(number) for number in range(30)]
RELATION = [record(number, task="relation") for number in range(30)]


def test_an_unrelated_task_does_not_change_which_records_are_chosen() -> None:
    alone = choose(FOLLOWS, 10, 100, seed=17)
    together = choose([*RELATION, *FOLLOWS], 20, 100, seed=17)
    assert [row for row in together if row.task == "follows"] == alone


def test_a_larger_budget_keeps_the_records_of_a_smaller_one() -> None:
    assert set(map(id, choose(FOLLOWS, 10, 100, 17))) < set(map(id, choose(FOLLOWS, 20, 100, 17)))


def test_the_order_of_the_records_changes_nothing() -> None:
    rows = [*FOLLOWS, *RELATION]
    assert choose(reversed(rows), 25, 100, 17) == choose(rows, 25, 100, 17)


def test_another_seed_chooses_other_records_of_the_same_shares() -> None:
    one, two = choose(FOLLOWS, 10, 100, 1), choose(FOLLOWS, 10, 100, 2)
    assert len(one) == len(two) == 10
    assert {row.id for row in one} != {row.id for row in two}


def test_tasks_are_mixed_in_the_order() -> None:
    first_half = choose([*FOLLOWS, *RELATION], 60, 100, 17)[:30]
    assert {row.task for row in first_half} == {"follows", "relation"}


def test_no_record_is_chosen_twice() -> None:
    chosen = choose([*FOLLOWS, *RELATION], 1_000, 7, 17)
    assert len({row.id for row in chosen}) == len(chosen) == 60


def test_what_came_out_is_counted_by_cluster_task_and_kind() -> None:
    kinds = [("follows", "direct"), ("follows", "inverted"), ("relation", "direct")]
    examples = [Example("i", "r", task, "inference", "t", "h", kind, ["p", "c"]) for task, kind in kinds]
    assert realised(examples, 5) == {
        "asked": 5,
        "got": 3,
        "clusters": {"inference": 3},
        "tasks": {"follows": 2, "relation": 1},
        "kinds": {"direct": 2, "inverted": 1},
    }
