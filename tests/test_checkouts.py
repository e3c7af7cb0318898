import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from dvc.repo import Repo

from flows import checkouts, experiments
from flows.experiments import Experiment
from tasks import locations, outputs, params
from tasks.errors import UserError
from tasks.records import digest
from tasks.variants.grid import Run
from tests.data_fixtures import sections, write_params

Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """git in a repository of one commit, which is the working folder."""
    root = tmp_path / "repository"
    (root / "tasks").mkdir(parents=True)
    monkeypatch.chdir(root)

    def run(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True, check=True).stdout.strip()

    write_params(root)
    (root / "dvc.lock").write_text("stages: {}\n")
    (root / "grid.yaml").write_text("seeds: [1]\n")
    (root / ".gitignore").write_text("/build/\n")
    for command in ("init -q", "config user.name a", "config user.email a@example.org", "add -A", "commit -q -m one"):
        run(*command.split())
    return run


def made(commit: str, **changes: dict[str, object]) -> Experiment:
    run = Run("tiny-bare-s1", "bare", "", 1, {})
    return Experiment(Path("build/compare/tiny/tiny-bare-s1"), commit, sections(**changes), run)


def test_a_changed_grid_or_lock_is_no_change_of_what_is_compared(git: Git) -> None:
    Path("dvc.lock").write_text("stages: {train: {}}\n")
    Path("grid.yaml").write_text("seeds: [2]\n")
    Path("notes.txt").write_text("mine")
    assert experiments.committed(Path("grid.yaml")) == git("rev-parse", "HEAD")


@pytest.mark.parametrize("path", ["params.yaml", "tasks/new.py"])
def test_a_changed_tree_is_refused_with_the_remedy(git: Git, path: str) -> None:
    Path(path).write_text("changed: true\n")
    with pytest.raises(UserError, match=f"changed since the last commit: {path}; commit first"):
        experiments.committed(Path("grid.yaml"))


def test_a_repository_without_a_commit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    with pytest.raises(UserError, match="no commit yet"):
        experiments.committed(Path("grid.yaml"))


def test_a_run_is_kept_as_long_as_its_commit_params_and_experiment_are_there(git: Git) -> None:
    head = git("rev-parse", "HEAD")
    one = made(head)
    one.folder.mkdir(parents=True)
    assert not one.is_kept()
    outputs.write_json(one.note, {"commit": head, "params": digest(one.values), "experiment": head})
    assert not one.is_kept()
    ref = f"refs/exps/{head[:2]}/{head[2:]}/tiny-bare-s1"
    git("update-ref", ref, head)
    assert one.is_kept()
    assert not made(head, render={"examples": 11, "held_out": ["inference"]}).is_kept()
    assert not made("0" * 40).is_kept()
    git("update-ref", "-d", ref)
    assert not one.is_kept()


def test_relative_paths_lead_where_they_lead_from_the_repository(git: Git, tmp_path: Path) -> None:
    Path("mine.jsonl").write_text("1")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "theirs.jsonl").write_text("2")
    sources = {"a": {"path": "mine.jsonl"}, "b": {"path": "../shared/theirs.jsonl"}}
    one = made("", ingest={"sources": sources})
    one.folder.mkdir(parents=True)
    locations.link(params.check(one.values, Path("params.yaml")), Path(), one.folder)
    assert (one.folder / "mine.jsonl").read_text() == "1"
    assert (one.folder / "../shared/theirs.jsonl").read_text() == "2"


def test_a_path_that_a_checkout_cannot_have_is_refused(git: Git, tmp_path: Path) -> None:
    (tmp_path.parent / "far.jsonl").write_text("3")
    one = made("", ingest={"sources": {"a": {"path": "../../far.jsonl"}}})
    one.folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"ingest\.sources\.a\.path: .*write the absolute path"):
        locations.link(params.check(one.values, Path("params.yaml")), Path(), one.folder)


def test_a_checkout_has_the_commit_and_params_of_its_own(git: Git) -> None:
    write = Path("params.yaml").read_text()
    one = made(git("rev-parse", "HEAD"), train={"seed": 5})
    one.lay_out()
    assert yaml.safe_load((one.folder / "params.yaml").read_text())["train"]["seed"] == 5
    assert Path("params.yaml").read_text() == write
    one.ready.parent.mkdir()
    one.ready.touch()
    (one.folder / "data").mkdir()
    git("commit", "-q", "--allow-empty", "-m", "two")
    two = made(git("rev-parse", "HEAD"))
    two.lay_out()
    assert checkouts.git("rev-parse", "HEAD", cwd=two.folder) == two.commit
    assert (two.folder / "data").is_dir()  # what an earlier run left is gone on with
    two.ready.unlink()
    two.lay_out()
    assert not (two.folder / "data").exists()


def test_what_a_person_set_for_a_remote_holds_in_a_checkout_too(git: Git) -> None:
    checkouts.run(["dvc", "init", "--quiet"])
    checkouts.run(["dvc", "remote", "add", "--quiet", "--default", "team", "ssh://127.0.0.1/srv/dvc"])
    checkouts.run(["dvc", "remote", "modify", "--local", "team", "keyfile", "../team_key"])
    git("add", ".dvc")
    git("commit", "-q", "-m", "A remote")
    one = made(git("rev-parse", "HEAD"))
    one.prepare()
    with Repo(str(one.folder)) as repo:
        assert repo.config["remote"]["team"]["keyfile"] == str(Path("../team_key").absolute().resolve())
        assert repo.config["cache"]["dir"] == str(Path(".dvc/cache").absolute())
