"""A tracking server that is gone costs a training its live curves and nothing else; wrong credentials begin nothing."""

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from tasks import tracking
from tasks.errors import UserError
from tests import guarded

NOBODY = "http://127.0.0.1:9"


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def test_a_training_begins_without_its_tracking_server(gone: None, capsys: pytest.CaptureFixture[str]) -> None:
    with tracking.training_run("any", "f00d", {}) as run:
        run.log(1, {"loss": 1.0})
    assert f"MLflow at {NOBODY} does not take the curves" in capsys.readouterr().out
    assert tracking.page(run) == NOBODY


def test_registration_does_not(gone: None) -> None:
    with pytest.raises(MlflowException):
        tracking.ensure_run("any", "f00d", {}, [])


def test_a_training_goes_on_when_the_server_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")

    def fails(*_: object, **__: object) -> None:
        raise MlflowException("nobody there")

    with tracking.training_run("any", "f00d", {}) as run:
        run.log(1, {"loss": 1.0})
        monkeypatch.setattr(run.client, "log_batch", fails)
        run.log(2, {"loss": 0.5})
        run.log(3, {"loss": 0.4})
    assert capsys.readouterr().out.count("nobody there") == 1
    history = [{"step": step, "loss": loss} for step, loss in ((1, 1.0), (2, 0.5), (3, 0.4))]
    again = tracking.ensure_run("any", "f00d", {}, history)
    curve = again.client.get_metric_history(again.id, "loss")
    assert [(point.step, point.value) for point in curve] == [(1, 1.0), (2, 0.5), (3, 0.4)]
    assert again.client.get_run(again.id).info.status == "FINISHED"


@pytest.mark.parametrize("password", [None, "wrong"])
def test_wrong_credentials_are_told_before_anything_begins(
    monkeypatch: pytest.MonkeyPatch, password: str | None
) -> None:
    with guarded.server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        if password:
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", guarded.USER)
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", password)
        with pytest.raises(UserError, match="refuses these credentials; set MLFLOW_TRACKING_USERNAME"):
            tracking.check_access("any")


def test_a_server_that_is_gone_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(UserError, match=r"^MLflow at http://127.0.0.1:9 does not answer; "), tracking.within_reach():
        tracking.client().search_registered_models()


def test_right_credentials_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with guarded.server() as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", guarded.USER)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", guarded.PASSWORD)
        tracking.check_access("any")
