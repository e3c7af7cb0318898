"""What keeps a version from being made again is told before the minutes are spent; tests/test_deployed.py makes one."""

from pathlib import Path

import pytest

from tasks import outputs, params
from tasks.errors import UserError
from tasks.register import __main__ as register
from tasks.register import reproduce
from tests.data_fixtures import sections
from tests.project import Project

VERSION = "models:/instructflow/1"


@pytest.fixture
def wanted(tmp_path: Path) -> params.Params:
    """Params with a source beside what git holds."""
    (tmp_path / "mine.jsonl").write_text("{}")
    sources = {"sources": {"mine": {"path": "mine.jsonl"}}}
    return params.check(sections(ingest=sources), Path("params.yaml"))


def test_a_source_that_was_changed_since_is_told_before_anything_runs(tmp_path: Path, wanted: params.Params) -> None:
    recorded = {"mine": outputs.digest_path(tmp_path / "mine.jsonl")}
    reproduce.check_sources(wanted, recorded, tmp_path)
    (tmp_path / "mine.jsonl").write_text("{} ")
    with pytest.raises(UserError, match="not what the version was made from any more"):
        reproduce.check_sources(wanted, recorded, tmp_path)


def test_a_source_that_is_gone_is_told(tmp_path: Path, wanted: params.Params) -> None:
    (tmp_path / "mine.jsonl").unlink()
    with pytest.raises(UserError, match=r"ingest\.sources\.mine\.path: mine.jsonl is not here"):
        reproduce.check_sources(wanted, {"mine": ""}, tmp_path)


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
