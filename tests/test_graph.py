"""What the flows read from dvc.yaml."""

import subprocess
import sys
from pathlib import Path

import pytest

from flows import graph, plan
from tasks.errors import UserError

DVC_YAML = """
stages:
  short: {cmd: cp a short, deps: [a], outs: [short], desc: A short way}
  first: {cmd: cp a first, deps: [a], params: [size, plan], outs: [first], meta: {minutes: 3, grows_with: {size: 10}}}
  second: {cmd: cp first second, deps: [first], outs: [second]}
  last: {cmd: cat short second > last, deps: [short, second], outs: [last]}
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC repository in which nothing has run yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("1")
    (tmp_path / "params.yaml").write_text("size: 10\nplan: {old: 1, kept: [2]}\n")
    (tmp_path / "dvc.yaml").write_text(DVC_YAML)
    dvc("init", "--no-scm")
    return tmp_path


def dvc(*words: str) -> None:
    subprocess.run([str(Path(sys.executable).with_name("dvc")), "-q", *words], check=True)


def test_a_stage_comes_after_what_it_depends_on_and_the_longest_way_first(repository: Path) -> None:
    assert [stage.address for stage in graph.plan().stages] == ["first", "second", "short", "last"]


def test_edges_description_and_meta_come_from_dvc_yaml(repository: Path) -> None:
    stages = {stage.address: stage for stage in graph.plan().stages}
    assert stages["last"].upstream == {"short", "second"}
    assert stages["short"].description == "A short way"
    assert stages["first"].meta == {"minutes": 3, "grows_with": {"size": 10}}


def test_nothing_would_run_after_everything_has_run(repository: Path) -> None:
    dvc("repro")
    assert graph.plan().reasons == {}


def test_a_change_reaches_only_what_depends_on_it(repository: Path) -> None:
    dvc("repro")
    (repository / "first").write_text("other")
    assert graph.plan().reasons.keys() == {"first", "second", "last"}


def test_a_stage_that_never_ran_is_told_as_that_alone(repository: Path) -> None:
    assert set(map(tuple, graph.plan().reasons.values())) == {("never ran",)}


def test_changed_files_are_told_by_their_state(repository: Path) -> None:
    dvc("repro")
    (repository / "a").write_text("2")
    (repository / "short").unlink()
    assert graph.plan().reasons["short"] == ["modified: a", "output deleted: short"]
    assert graph.plan().reasons["second"] == ["would run before it: first"]


def test_changed_values_are_told_first_with_the_old_and_the_new_one(repository: Path) -> None:
    dvc("repro")
    (repository / "a").write_text("2")
    (repository / "params.yaml").write_text("size: 20\nplan: {new: {deep: x}, kept: [2]}\n")
    assert graph.plan().reasons["first"] == [
        "size 10 → 20", 'plan.new.deep unset → "x"', "plan.old 1 → unset", "modified: a",
    ]  # fmt: skip


def test_a_changed_command_is_told(repository: Path) -> None:
    dvc("repro")
    (repository / "dvc.yaml").write_text(DVC_YAML.replace("cp a short", "cat a > short"))
    assert graph.plan().reasons["short"] == ["changed command"]


def test_a_faulty_dvc_yaml_is_told_with_its_name(repository: Path) -> None:
    (repository / "dvc.yaml").write_text("stages: {one: {cdm: x}}")
    with pytest.raises(UserError, match=r"dvc\.yaml"):
        graph.plan()


def minutes(size: int) -> float:
    first = next(stage for stage in graph.plan().stages if stage.address == "first")
    return plan.expected_minutes(first, {"size": size})


def test_a_plan_expects_what_dvc_yaml_says_in_proportion_to_the_size(repository: Path) -> None:
    assert minutes(10) == 3
    assert minutes(40) == 12


def test_a_plan_expects_what_the_last_run_took_at_its_size(repository: Path) -> None:
    (repository / "build" / "timings").mkdir(parents=True)
    timing = repository / "build" / "timings" / "first.json"
    timing.write_text('{"seconds": 90, "params": {"size": 20, "plan.old": 1}}')
    assert minutes(20) == 1.5
    assert minutes(5) == 0.375


def test_a_plan_tells_how_much_was_found_of_what_was_asked_for(repository: Path) -> None:
    stage = graph.Stage("mix", "", frozenset(), {"counts": "mixture.json"})
    assert plan.counts(stage, stale=False) == "mix: not counted yet; `dvc repro mix` counts without training."
    (repository / "mixture.json").write_text('{"asked": 560, "got": 2, "tasks": {"one": 2}}')
    assert plan.counts(stage, stale=True) == "mix: asked 560, got 2 (as counted last; it would run again)"
