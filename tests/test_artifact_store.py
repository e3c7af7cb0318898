"""MLflow's files on a real S3 server: through MLflow's own server, and with the client's own credentials."""

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.store.artifact import s3_artifact_repo

from infra import servers
from tasks import tracking
from tasks.errors import UserError
from tests import cut, s3_server
from tests.checkout import outside
from tests.loopback import free_port

pytestmark = pytest.mark.s3

SIZE = 2_000_000
MODEL = """
from pathlib import Path

import mlflow
from mlflow.pyfunc import PythonModel


class Doubler(PythonModel):
    def load_context(self, context):
        self.size = Path(context.artifacts["weights"]).stat().st_size

    def predict(self, context, model_input: list[int]) -> list[int]:
        return [2 * number + self.size for number in model_input]


mlflow.models.set_model(Doubler())
"""
THROUGH = {"MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD": "false"}
"""By which a client takes files from the server, and not from the bucket, at an address that the server signs."""

ASK = "import mlflow, sys; print('said', mlflow.pyfunc.load_model(sys.argv[1]).predict([1, 2]))"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[s3_server.Server]:
    """A server that speaks S3, without a bucket."""
    with s3_server.started(tmp_path_factory.mktemp("s3")) as running:
        yield running


@pytest.fixture(scope="module")
def server(store: s3_server.Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """An MLflow server that keeps files in a bucket; it alone has the credentials."""
    folder = tmp_path_factory.mktemp("mlflow")
    environment = {**store.login(), "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db"}
    port = free_port()
    made = servers.mlflow(port, folder / "mlflow.log", "s3://mlflow", environment, "--workers", "1")
    servers.start([made])
    try:
        yield made
    finally:
        servers.stop([made])


@pytest.fixture(scope="module")
def bucket(store: s3_server.Server) -> str:
    """The bucket that the server names, which is made after a test has seen that it is missing."""
    store.client().create_bucket(Bucket="mlflow")
    return "mlflow"


@pytest.fixture
def enter(server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Be a client of that server, as one that knows no credentials of S3."""
    for name in (*s3_server.Server(0, Path()).login(), "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.address)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(server.address)
    yield monkeypatch
    mlflow.set_tracking_uri(before)


def log_in(patch: pytest.MonkeyPatch, login: dict[str, str]) -> None:
    """Take these credentials; boto3 keeps the first ones, and MLflow keeps its client for some minutes."""
    patch.setattr(boto3, "DEFAULT_SESSION", None)
    s3_artifact_repo._cached_get_s3_client.cache_clear()
    for name, value in login.items():
        patch.setenv(name, value)


def register(experiment: str, folder: Path) -> ModelVersion:
    """Log a small model with its weights in an experiment, and register it under the experiment's name."""
    (folder / "model.py").write_text(MODEL)
    (folder / "weights").write_bytes(random.Random(17).randbytes(SIZE))  # zeros would travel compressed
    mlflow.set_experiment(experiment)
    with mlflow.start_run():
        mlflow.pyfunc.log_model(
            name="model", python_model=str(folder / "model.py"), artifacts={"weights": str(folder / "weights")},
            registered_model_name=experiment, pip_requirements=[],
        )  # fmt: skip
    [version] = MlflowClient().search_model_versions(f"name = '{experiment}'")
    return version


def asked_elsewhere(server: servers.Server, address: str, **login: str) -> str:
    """What another client gets from the model."""
    environment = {**outside(), "MLFLOW_TRACKING_URI": server.address, **login}
    command = [sys.executable, "-c", ASK, address]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


def test_a_missing_bucket_of_the_server_is_told_before_anything_begins(
    server: servers.Server, enter: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError) as caught:
        tracking.check_access("not there yet")
    assert str(caught.value) == (
        "MLflow's files, mlflow-artifacts:/0: Failed to list artifacts in s3://mlflow: The specified bucket does not"
        f" exist; the server at {server.address} must be let in there (infra/README.md, Remotes)"
    )


def test_a_version_kept_through_the_server_is_loaded_by_a_client_without_credentials(
    store: s3_server.Server, server: servers.Server, bucket: str, enter: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tracking.check_access("through")
    register("through", tmp_path)
    assert asked_elsewhere(server, "models:/through/1", **THROUGH) == f"said [{SIZE + 2}, {SIZE + 4}]\n"
    assert any(name.endswith("artifacts/weights") for name in names(store))


def names(store: s3_server.Server) -> list[str]:
    return [each["Key"] for each in store.client().list_objects_v2(Bucket="mlflow").get("Contents", [])]


def test_wrong_credentials_of_the_client_are_told_before_anything_begins(
    store: s3_server.Server, bucket: str, enter: pytest.MonkeyPatch
) -> None:
    MlflowClient().create_experiment("refused", "s3://mlflow/refused")
    log_in(enter, store.login("wrong"))
    with pytest.raises(
        UserError, match=r"^MLflow's files, s3://mlflow/refused: .*signature.*; this client must be let"
    ):
        tracking.check_access("refused")
    log_in(enter, store.login())
    tracking.check_access("refused")


def test_a_version_that_is_cut_on_its_way_is_none_and_the_next_try_is_whole(
    store: s3_server.Server, server: servers.Server, bucket: str, enter: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    MlflowClient().create_experiment("direct", "s3://mlflow/direct")
    with cut.way(store.port, SIZE // 2) as way:
        log_in(enter, {**store.login(port=way.port), "AWS_MAX_ATTEMPTS": "1"})
        with pytest.raises(Exception, match="weights"):
            register("direct", tmp_path)
    assert not MlflowClient().search_model_versions("name = 'direct'")
    assert not [name for name in names(store) if name.startswith("direct") and name.endswith("weights")]
    log_in(enter, store.login())
    register("direct", tmp_path)
    assert asked_elsewhere(server, "models:/direct/1", **store.login()) == f"said [{SIZE + 2}, {SIZE + 4}]\n"


def test_a_version_that_is_cut_on_its_way_to_a_client_is_told_and_the_next_try_is_whole(
    server: servers.Server, bucket: str, enter: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    register("fetched", tmp_path)
    with cut.way(server.port, SIZE // 2) as way:
        impatient = {"MLFLOW_TRACKING_URI": f"http://127.0.0.1:{way.port}", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
        with pytest.raises(subprocess.CalledProcessError) as caught:
            asked_elsewhere(server, "models:/fetched/1", **impatient, **THROUGH)
    assert "artifacts/weights" in caught.value.stderr
    for way_there in ({}, THROUGH):
        assert asked_elsewhere(server, "models:/fetched/1", **way_there) == f"said [{SIZE + 2}, {SIZE + 4}]\n"


def test_no_log_tells_the_secret(store: s3_server.Server, server: servers.Server) -> None:
    logs = [server.log, *store.folder.glob("*.log")]
    assert len(logs) == 5
    assert not [log for log in logs if store.secret in log.read_text()]
