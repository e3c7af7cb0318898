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
  first: {cmd: cp a first, deps: [a], outs: [first], meta: {retries: 2, minutes: 3}}
  second: {cmd: cp first second, deps: [first], outs: [second]}
  last: {cmd: cat short second > last, deps: [short, second], outs: [last]}
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A DVC repository in which nothing has run yet."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("1")
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
    assert stages["first"].meta == {"retries": 2, "minutes": 3}


def test_nothing_would_run_after_everything_has_run(repository: Path) -> None:
    dvc("repro")
    assert graph.plan().reasons == {}


def test_a_change_reaches_only_what_depends_on_it(repository: Path) -> None:
    dvc("repro")
    (repository / "first").write_text("other")
    assert graph.plan().reasons.keys() == {"first", "second", "last"}


def test_a_changed_file_is_told_as_the_reason(repository: Path) -> None:
    dvc("repro")
    (repository / "a").write_text("2")
    assert "a modified" in graph.plan().reasons["first"]
    assert graph.plan().reasons["second"] == ["first would run"]


def test_a_faulty_dvc_yaml_is_told_with_its_name(repository: Path) -> None:
    (repository / "dvc.yaml").write_text("stages: {one: {cdm: x}}")
    with pytest.raises(UserError, match=r"dvc\.yaml"):
        graph.plan()


def test_a_plan_expects_what_the_last_run_took(repository: Path) -> None:
    first = next(stage for stage in graph.plan().stages if stage.address == "first")
    assert plan.expected_minutes(first) == 3
    (repository / "build" / "timings").mkdir(parents=True)
    (repository / "build" / "timings" / "first.json").write_text('{"seconds": 90}')
    assert plan.expected_minutes(first) == 1.5
