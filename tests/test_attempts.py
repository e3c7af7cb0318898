"""Runs that nobody watches: alone in their checkout, on the newest commit, and their old results dropped."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flows import attempts, checkouts
from tasks.errors import UserError
from tests.test_checkouts import Git, git  # noqa: F401  # a fixture


def quiet(told: str) -> None:
    """Say nothing."""


def test_of_two_of_a_kind_one_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (
        attempts.alone("retrain", quiet),
        pytest.raises(attempts.Busy, match="another run of retrain is under way"),
        attempts.alone("retrain", quiet),
    ):
        pass
    with attempts.alone("retrain", quiet), attempts.alone("run", quiet):
        pass


def test_a_run_that_has_ended_is_told_once_and_one_under_way_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(attempts.flow_run, "get_id", lambda: "its id")
    with attempts.alone("retrain", quiet):
        assert not list(attempts.dead())
    assert list(attempts.dead()) == ["its id"]
    assert not list(attempts.dead())


def test_a_full_disk_begins_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "build").mkdir()
    attempts.check_disk(0)
    with pytest.raises(UserError, match=r"GiB left, and a run wants 1e\+09; free some, or lower free_gib"):
        attempts.check_disk(1e9)


def test_the_commit_is_the_newest_of_the_branch_that_is_followed(git: Git, tmp_path: Path) -> None:  # noqa: F811
    own = git("rev-parse", "HEAD")
    assert attempts.newest_commit(quiet) == own
    other = tmp_path / "other"
    git("clone", "-q", ".", str(other))
    theirs: Callable[..., str] = lambda *words: git("-C", str(other), *words)  # noqa: E731
    theirs("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "--allow-empty", "-m", "theirs")
    git("remote", "add", "origin", str(other))
    git("fetch", "-q", "origin")
    branch = git("rev-parse", "--abbrev-ref", "HEAD")
    git("branch", "-q", "--set-upstream-to", f"origin/{branch}")
    theirs("-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "-q", "--allow-empty", "-m", "newest")
    assert attempts.newest_commit(quiet) == theirs("rev-parse", "HEAD")
    assert git("rev-parse", "HEAD") == own


def test_commits_that_were_not_pushed_are_told(git: Git, tmp_path: Path) -> None:  # noqa: F811
    git("clone", "-q", "--bare", ".", str(tmp_path / "origin"))
    git("remote", "add", "origin", str(tmp_path / "origin"))
    git("fetch", "-q", "origin")
    branch, pushed, told = git("rev-parse", "--abbrev-ref", "HEAD"), git("rev-parse", "HEAD"), list[str]()
    git("branch", "-q", "--set-upstream-to", f"origin/{branch}")
    git("commit", "-q", "--allow-empty", "-m", "here alone")
    assert attempts.newest_commit(told.append) == pushed
    assert told == [f"not run: 1 commits here that origin/{branch} has not; git push brings them"]


def test_a_remote_that_is_gone_is_told_and_the_run_goes_on(git: Git, tmp_path: Path) -> None:  # noqa: F811
    git("remote", "add", "origin", str(tmp_path / "nowhere"))
    told: list[str] = []
    assert attempts.newest_commit(told.append) == git("rev-parse", "HEAD")
    assert "could not be fetched" in told[0]


def test_old_results_go_but_not_those_of_a_champion(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setenv("INSTRUCTFLOW_HOME", str(Path.cwd()))
    checkouts.run(["dvc", "init", "--quiet"])
    Path("dvc.yaml").write_text("stages: {}\n")
    git("rm", "-q", "dvc.lock")
    git("add", ".")
    git("commit", "-q", "--amend", "-m", "one")
    git("worktree", "add", "-q", "--detach", "build/runs/retrain")  # whose data are kept too
    for day, fingerprint in enumerate(["aaaa", "bbbb", "cccc", "dddd"], start=1):
        git("branch", f"runs/2026-01-0{day}-030000-{fingerprint}")
    assert attempts.prune(2, ["aaaa"]).startswith("1 results dropped")
    kept = git("branch", "--list", "runs/*", "--format=%(refname:short)").split()
    assert [name.rpartition("-")[2] for name in kept] == ["aaaa", "cccc", "dddd"]
    assert attempts.prune(2, ["aaaa"]) == ""
