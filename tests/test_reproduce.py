"""A version's adapter is made again from its commit alone."""

import sys
from pathlib import Path

import pytest

from tasks.errors import UserError
from tasks.register import __main__ as register
from tasks.register import reproduce
from tests.checkout import Checkout, checkout
from tests.project import Project, small_params

VERSION = "models:/instructflow/1"


@pytest.fixture(scope="module")
def registered(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with a version of a commit that was changed since, with a source that git does not hold."""
    made = checkout(tmp_path_factory.mktemp("reproduce") / "tree", project.root / "tiny")
    (made.root / "tasks/ingest/starter").rename(made.root / "mine")
    with (made.root / ".gitignore").open("a") as ignored:
        ignored.write("/mine\n")
    made.change(
        "ingest",
        "sources",
        {"starter": small_params(project.root / "tiny", Path("mine"))["ingest"]["sources"]["starter"]},
    )
    made.commit("one")
    made.change("render", "examples", 16)
    made.flow()
    return made


def again(made: Checkout) -> str:
    return made.run(sys.executable, "-m", "tasks.register", "reproduce", VERSION)


def test_the_adapter_is_made_again_with_the_same_bytes(registered: Checkout) -> None:
    told = again(registered)
    assert "Running stage 'train'" in told
    assert "NOT EQUAL" not in told
    assert not (registered.root / "build/reproduce").exists()


def test_a_source_that_was_changed_since_is_told_before_anything_runs(registered: Checkout) -> None:
    file = next((registered.root / "mine/topic").glob("*.yaml"))
    sound = file.read_text(encoding="utf-8")
    file.write_text(f"{sound}# changed\n", encoding="utf-8")
    with pytest.raises(AssertionError, match="not what the version was made from any more"):
        again(registered)
    file.write_text(sound, encoding="utf-8")


def test_an_adapter_that_comes_out_otherwise_is_told(
    in_project: Project, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(reproduce, "adapter", lambda *_: "f00d")
    with pytest.raises(SystemExit):
        register.make_again(VERSION)
    assert "NOT EQUAL" in capsys.readouterr().out


def test_a_version_of_a_commit_that_is_not_here_is_refused(
    in_project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reproduce.chain, "git", lambda *_: b"")
    with pytest.raises(UserError, match="is not in this repository"):
        register.make_again(VERSION)
