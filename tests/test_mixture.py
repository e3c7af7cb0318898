import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import UserError
from tasks.examples import Example, read_examples, to_frame
from tasks.params import Render
from tasks.records import Record
from tasks.render import tally
from tasks.render.catalogue import Task
from tasks.render.mixture import choose, divide, shares, weight
from tests.data_fixtures import record
from tests.rendered import catalogue, own, render

counts = st.dictionaries(st.text("abcdefg", min_size=1, max_size=3), st.integers(0, 10_000), max_size=12)
budgets = st.integers(0, 40_000)
caps = st.integers(1, 12_000)
steady = settings(deadline=None, database=None)


def capped(records: dict[str, int], budget: int, cap: int, seed: int = 17) -> dict[str, int]:
    return shares({task: min(count, cap) for task, count in records.items()}, records, budget, seed)


@steady
@given(counts, budgets, caps)
def test_no_task_gets_more_than_it_has(records: dict[str, int], budget: int, cap: int) -> None:
    given_ = capped(records, budget, cap)
    assert given_.keys() == records.keys()
    assert all(0 <= given_[task] <= records[task] for task in records)


@steady
@given(counts, budgets, caps)
def test_the_budget_is_spent_as_far_as_there_are_records(records: dict[str, int], budget: int, cap: int) -> None:
    assert sum(capped(records, budget, cap).values()) == min(budget, sum(records.values()))


@steady
@given(counts, caps, st.floats(0, 1))
def test_shares_are_proportional_to_records_up_to_the_cap(records: dict[str, int], cap: int, part: float) -> None:
    weights = {task: min(count, cap) for task, count in records.items()}
    total = sum(weights.values())
    budget = int(part * total)
    for task, count in capped(records, budget, cap).items():
        assert abs(count * total - budget * weights[task]) < max(total, 1)


@steady
@given(counts, budgets, caps)
def test_the_order_of_the_tasks_changes_no_share(records: dict[str, int], budget: int, cap: int) -> None:
    assert capped(dict(reversed(records.items())), budget, cap) == capped(records, budget, cap)


@pytest.mark.parametrize(
    ("records", "budget", "cap", "expected"),
    [
        ({"a": 30, "b": 10}, 20, 100, {"a": 15, "b": 5}),
        ({"a": 30_000, "b": 3_000}, 100, 3_000, {"a": 50, "b": 50}),
        ({"a": 5, "b": 500}, 200, 5, {"a": 5, "b": 195}),
        ({"a": 5, "b": 5}, 100, 3_000, {"a": 5, "b": 5}),
        ({}, 5, 1, {}),
    ],
)
def test_shares_by_example(records: dict[str, int], budget: int, cap: int, expected: dict[str, int]) -> None:
    assert capped(records, budget, cap) == expected


def test_equal_remainders_favour_no_name() -> None:
    first = [divide({"a": 1, "b": 1, "c": 1}, 1, seed) for seed in range(60)]
    assert {name for parts in first for name, count in parts.items() if count} == {"a", "b", "c"}


def test_a_high_temperature_mixes_tasks_evenly_and_one_in_proportion() -> None:
    assert weight(900, 1_000, 1.0, 1.0) / weight(100, 1_000, 1.0, 1.0) == pytest.approx(9)
    assert weight(900, 1_000, 2.0, 1.0) / weight(100, 1_000, 2.0, 1.0) == pytest.approx(3)
    assert weight(900, 1_000, 100.0, 1.0) / weight(100, 1_000, 100.0, 1.0) == pytest.approx(1, abs=0.03)


FOLLOWS = [record(number) for number in range(30)]
RELATION = [record(number, task="relation") for number in range(30)]


def chosen(home: Path, rows: list[Record], **wanted: Any) -> list[Record]:
    """The records that are trained on where nothing is held out."""
    listed = catalogue(home, rows, wanted.get("seed", 17))
    everything = np.ones(len(rows), bool)
    choice = choose(listed, everything, everything, Render(held_out=[], **{"examples": 10, **wanted}))
    return list(listed.records(choice.training))


def names(records: list[Record], task: str = "") -> set[str]:
    return {row.id for row in records if task in row.id}


def test_an_unrelated_task_does_not_change_which_records_are_chosen(tmp_path: Path) -> None:
    alone = chosen(tmp_path, FOLLOWS, examples=10)
    together = chosen(tmp_path, [*RELATION, *FOLLOWS], examples=20)
    assert names(together, "follows") == names(alone)


def test_a_larger_budget_keeps_the_records_of_a_smaller_one(tmp_path: Path) -> None:
    assert names(chosen(tmp_path, FOLLOWS, examples=10)) < names(chosen(tmp_path, FOLLOWS, examples=20))


def test_the_order_of_the_records_changes_no_choice(tmp_path: Path) -> None:
    rows = [*FOLLOWS, *RELATION]
    assert names(chosen(tmp_path, rows[::-1], examples=25)) == names(chosen(tmp_path, rows, examples=25))


def test_another_seed_chooses_other_records_of_the_same_shares(tmp_path: Path) -> None:
    one, two = (chosen(tmp_path, FOLLOWS, seed=seed) for seed in (1, 2))
    assert len(one) == len(two) == 10
    assert names(one) != names(two)


def test_no_record_is_chosen_twice(tmp_path: Path) -> None:
    rows = chosen(tmp_path, [*FOLLOWS, *RELATION], examples=1_000, cap=7)
    assert len(names(rows)) == len(rows) == 60


def test_a_weight_leaves_a_task_out_and_favours_a_cluster(tmp_path: Path) -> None:
    rows = [*FOLLOWS, *RELATION, *(own(number) for number in range(30))]
    assert not names(chosen(tmp_path, rows, weights={"relation": 0}), "relation")
    assert len(names(chosen(tmp_path, rows, examples=12, weights={"general": 4}), "chat")) == 8


def test_the_same_id_in_two_tasks_is_two_records(tmp_path: Path) -> None:
    rows = [row._replace(id=f"toy/{number}") for number, row in enumerate(FOLLOWS)]
    rows += [row._replace(task="relation") for row in rows]
    assert len(chosen(tmp_path, rows, examples=60)) == 60


HELD = [record(number, ("yes", "no")[number % 2]) for number in range(20)]
CHAT = [own(number) for number in range(100)]


def ids(path: Path) -> set[str]:
    return {example.record for example in read_examples(path)}


def test_what_is_set_aside_is_trained_on_in_no_mixture(tmp_path: Path) -> None:
    home = render(tmp_path, [*HELD, *CHAT], validation=0.2)
    aside, trained = ids(home / "validation.parquet"), ids(home / "examples.parquet")
    assert 10 < len(aside) < 30
    assert len(aside) + len(trained) == 100
    assert not aside & trained


def test_validation_is_as_large_beside_the_examples_as_asked_for(tmp_path: Path) -> None:
    home = render(tmp_path, [*HELD, *CHAT], validation=0.2, examples=20)
    assert len(ids(home / "validation.parquet")) == 4


def test_a_record_that_two_sources_hold_is_trained_on_once_and_counted(tmp_path: Path) -> None:
    other = [own(number, source="zoo", task="talk") for number in range(90, 110)]
    home = render(tmp_path, [*HELD, *CHAT, *other])
    assert json.loads((home / "mixture.json").read_text())["duplicates"] == 10
    assert {name for name in ids(home / "examples.parquet") if name.startswith("zoo")} == {
        f"zoo/talk/{number}" for number in range(100, 110)
    }


def test_the_bytes_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    rows = [*HELD, *CHAT, *(own(number, source="other") for number in range(100, 150))]
    cores = os.sched_getaffinity(0)
    wanted = {"few_shot": {"share": 0.5}, "validation": 0.1}
    many = render(tmp_path / "many", rows, **wanted)
    os.sched_setaffinity(0, {min(cores)})
    try:
        one = render(tmp_path / "one", rows, **wanted)
    finally:
        os.sched_setaffinity(0, cores)
    files = sorted(path.relative_to(one) for path in one.rglob("*.*"))
    assert [(one / file).read_bytes() for file in files] == [(many / file).read_bytes() for file in files]


def test_exemplars_are_training_records_of_the_same_task(tmp_path: Path) -> None:
    rows = [*HELD, *CHAT, *(own(number, f"Count to {number}.", "count") for number in range(50))]
    home = render(tmp_path, rows, few_shot={"share": 1.0}, examples=60, validation=0.3)
    trained = list(read_examples(home / "examples.parquet"))
    answers = {task: {row.completion for row in trained if row.task == task} for task in ("chat", "count")}
    assert all(row.shots for row in trained)
    assert all(shot.split("\n")[-1] in answers[row.task] for row in trained for shot in row.shots)
    assert not any(row.completion in shot for row in trained for shot in row.shots)


def test_too_few_records_are_told_with_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    render(tmp_path, [*HELD, *CHAT[:2]], examples=560)
    told = capsys.readouterr().out
    assert "2 of 560 asked for" in told
    assert "fewer records than asked for" in told


def test_weights_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"weight 0 \(render\.weights\)"):
        render(tmp_path, [*HELD, *CHAT], weights={"chat": 0})
    assert not (tmp_path / "data" / "render" / "examples.parquet").exists()


def test_an_unknown_weight_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"render\.weights: chatt: unknown; did you mean chat\?"):
        render(tmp_path, [*HELD, *CHAT], weights={"chatt": 2})


def counted() -> pl.DataFrame:
    kinds = [("follows", "direct", "a"), ("follows", "inverted", "b"), ("relation", "direct", "a")]
    rows = [Example("i", "r", task, "inference", "t", name, kind, ["p", "c"]) for task, kind, name in kinds]
    rows.append(rows[0]._replace(shots=["s"]))
    seen = tally.Tally(["a"])
    assert len(pl.concat(seen.passing([to_frame(rows[:2]), to_frame(rows[2:])]))) == 4
    return seen.table


def test_what_came_out_is_counted_by_cluster_task_kind_and_form() -> None:
    asked = {Task("inference", "follows"): 3, Task("inference", "relation"): 4}
    assert tally.numbers(counted(), asked, duplicates=1) == {
        "asked": 7,
        "got": 4,
        "clusters": {"inference": 4},
        "tasks": {"follows": {"asked": 3, "got": 3}, "relation": {"asked": 4, "got": 1}},
        "kinds": {"direct": 3, "inverted": 1},
        "options": 3,
        "few_shot": 1,
        "duplicates": 1,
    }


def test_the_picture_of_a_thousand_tasks_is_one_of_clusters(tmp_path: Path) -> None:
    asked = {Task(f"c{number % 9}", f"t{number}"): number for number in range(1_000)}
    assert len(tally.bars(counted(), asked)) == 9
    tally.draw(counted(), asked, tmp_path / "one")
    tally.draw(counted(), asked, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
