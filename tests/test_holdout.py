from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import UserError
from tasks.examples import read_examples
from tasks.guards import GuardError
from tasks.records import Record
from tasks.render import holdout
from tasks.render.catalogue import Task
from tests.data_fixtures import record
from tests.rendered import own, render

HELD = [record(number, ("yes", "no")[number % 2]) for number in range(20)]
CHAT = [own(number) for number in range(40)]


def moved(rows: list[Record], **names: str) -> list[Record]:
    """The same records under another task or cluster name."""
    return [row._replace(id=f"{row.id}/{names}", **names) for row in rows]


def test_a_source_that_the_hold_out_takes_whole_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = [own(100 + number, task="mine", cluster="inference", source="mine") for number in range(3)]
    render(tmp_path, [*HELD[:10], *CHAT, *mine])
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "none of its 3 records is trained on: all are of clusters held out, inference (by inference)" in told
    assert "source toy" not in told


def test_a_held_out_task_under_a_second_cluster_stops_the_run_with_both_names(tmp_path: Path) -> None:
    with pytest.raises(GuardError, match="'follows' of cluster 'general' and task 'follows' of cluster 'inference'"):
        render(tmp_path, [*HELD, own(1, task="follows")])


@pytest.mark.parametrize("name", ["Follows", "fol-lows", "_follows"])
def test_a_held_out_task_in_another_spelling_stops_the_run(tmp_path: Path, name: str) -> None:
    with pytest.raises(GuardError, match=f"task '{name}' of cluster 'general'"):
        render(tmp_path, [*HELD, own(1, task=name)])


def test_a_held_out_cluster_in_another_spelling_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(GuardError, match=r"cluster 'Infer-ence'.* of cluster 'inference'"):
        render(tmp_path, [*HELD, own(1, cluster="Infer-ence")])


def test_a_held_out_task_s_records_under_another_name_stop_the_run_with_both(tmp_path: Path) -> None:
    copied = moved(HELD, task="pairs", cluster="general")
    with pytest.raises(
        GuardError, match=r"task 'pairs' of cluster 'general' has 20 .* task 'follows' of cluster 'infer"
    ):
        render(tmp_path, [*HELD, *CHAT, *copied])


def test_a_held_out_task_hidden_in_a_larger_one_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(GuardError, match="task 'chat' of cluster 'general' has 20 of the records of task 'follows'"):
        render(tmp_path, [*HELD, *(own(n) for n in range(900)), *moved(HELD, task="chat", cluster="general")])


def test_other_records_under_other_names_pass(tmp_path: Path) -> None:
    assert (render(tmp_path, [*HELD, *CHAT]) / "examples.parquet").is_file()


WORDS = st.text("abcdefgh0123", min_size=1, max_size=12)
MARKS = st.lists(st.sampled_from(["", "-", "_", " ", ".", "'"]), min_size=13, max_size=13)


@given(WORDS, WORDS, MARKS, st.booleans())
def test_names_pass_just_where_they_differ_in_more_than_case_and_punctuation(
    held: str, other: str, marks: list[str], upper: bool
) -> None:
    spelt = "".join(mark + letter for mark, letter in zip(marks, other, strict=False))
    spelt = spelt.upper() if upper else spelt
    by_name = [Task("topic", spelt)], [Task("inference", held)]
    by_cluster = [Task(spelt, "news")], [Task(held, "follows")]
    assert [stops(holdout.names_are_apart, *pair) for pair in (by_name, by_cluster)] == [other == held] * 2


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 30))
def test_records_pass_just_where_a_trained_task_shares_less_than_a_tenth_of_the_smaller_one(
    alike: int, trained: int, held: int
) -> None:
    trained, held = trained + alike, max(held, alike)
    asked = np.array([*range(trained), *range(alike), *range(1_000, 1_000 + held - alike)], np.uint64)
    task = np.repeat([0, 1], [trained, held])
    tasks = [Task("general", "chat"), Task("inference", "follows")]
    catalogue: Any = SimpleNamespace(
        tasks=tasks, task=task, counts=lambda mask: [int((task[mask] == one).sum()) for one in (0, 1)]
    )
    fires = stops(holdout.contents_are_apart, catalogue, asked, task == 0, task == 1)
    assert fires is (alike > 0 and alike >= 0.1 * min(trained, held))


def stops(guard: Callable[..., None], *values: object) -> bool:
    """Whether the guard fires."""
    try:
        guard(*values)
    except GuardError:
        return True
    return False


def split(home: Path, text: str) -> str:
    path = home / "tasks" / "render" / "splits" / "test_tasks.txt"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return "tasks/render/splits/test_tasks.txt"


def test_tasks_of_an_official_split_are_not_trained_on_nor_those_of_their_clusters(tmp_path: Path) -> None:
    rows = [own(n, f"{task} {n}.", task, cluster) for n in range(9) for task, cluster in
            (("task1_one", "first"), ("task2_two", "first"), ("task3_three", "second"))]  # fmt: skip
    home = render(tmp_path, [*HELD, *rows], held_out_tasks=split(tmp_path, "task1-one\n\ntask999_missing\n"))
    assert {example.task for example in read_examples(home / "examples.parquet")} == {"task3_three"}


@pytest.mark.parametrize(
    ("text", "message"), [("nothing_here\n", "none of its 1 tasks is in the data"), ("\n", "names no task")]
)
def test_a_split_that_holds_nothing_out_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        render(tmp_path, [*HELD, *CHAT], held_out_tasks=split(tmp_path, text))


def test_a_split_outside_the_stage_s_dependencies_is_refused(tmp_path: Path) -> None:
    (tmp_path / "split.txt").write_text("chat\n")
    with pytest.raises(UserError, match="must lie in tasks/render"):
        render(tmp_path, [*HELD, *CHAT], held_out_tasks="split.txt")


def test_an_unknown_held_out_cluster_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"render\.held_out: inferense: unknown; did you mean inference\?"):
        render(tmp_path, [*HELD, *CHAT], held_out=["inference", "inferense"])
    assert not (tmp_path / "data" / "render").exists()


def test_all_unknown_names_are_told_at_once(tmp_path: Path) -> None:
    names = {"related": {"inference": ["generall"]}, "weights": {"chatt": 2.0}}
    with pytest.raises(UserError, match=r"render\.related: generall: .*\n  render\.weights: chatt: unknown; .*chat\?"):
        render(tmp_path, [*HELD, *CHAT], **names)


def test_an_unknown_name_that_others_are_related_to_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"render\.related: 'inferense' is no held-out cluster"):
        render(tmp_path, [*HELD, *CHAT], related={"inferense": ["general"]})
