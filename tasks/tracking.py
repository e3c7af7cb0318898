"""MLflow runs of training: owned from start to end, found by fingerprint, and rebuilt from the declared history."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# Else a client passes over the server and goes to its bucket, under an address that may be known to the server alone.
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "false")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "3")  # else a step waits minutes for a server that is gone

import requests
from botocore.exceptions import ConnectionError as NoConnection
from botocore.exceptions import HTTPClientError
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.system_metrics import system_metrics_monitor

from tasks import outputs, settings
from tasks.errors import UserError
from tasks.params import dotted

FINGERPRINT = "instructflow.fingerprint"
"""The tag that says which training a run or a version is of."""

VARIANT = "instructflow.variant"
"""The tag with the name of the DVC experiment that first trained it, where one did."""


@dataclass
class TrainingRun:
    """An MLflow run of one training. `known` tells that an earlier, finished run already holds these numbers.

    Where it is `live`, a tracking server that is gone costs the curves their place and not the training its end.
    """

    client: MlflowClient
    id: str
    experiment: str
    known: bool
    live: bool = False

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve; nothing where an equal run is there already, or a live one was lost."""
        if self.known:
            return
        try:
            self.client.log_batch(self.id, metrics=[Metric(name, value, 0, step) for name, value in values.items()])
        except MlflowException as error:
            if not self.live:
                raise
            self.known = True
            print(gone(error), flush=True)


def gone(error: MlflowException) -> str:
    """What is said where MLflow cannot take a training's numbers."""
    first = str(error).splitlines()[0][:200]
    return f"MLflow at {settings.tracking_page()} does not take the curves; registration brings them there: {first}"


def client() -> MlflowClient:
    """A client of the tracking address in the settings."""
    return MlflowClient(settings.tracking_uri())


def experiment_id(api: MlflowClient, name: str) -> str:
    """The experiment's id; it is made where it is missing."""
    found = api.get_experiment_by_name(name)
    return str(found.experiment_id if found else api.create_experiment(name, settings.artifact_root()))


def find(api: MlflowClient, experiment: str, fingerprint: str) -> Run | None:
    """The newest run of this fingerprint."""
    query = f"tags.`{FINGERPRINT}` = '{fingerprint}'"
    runs = api.search_runs([experiment_id(api, experiment)], query, order_by=["attributes.start_time DESC"])
    return runs[0] if runs else None


@contextmanager
def training_run(experiment: str, fingerprint: str, params: Mapping[str, Any]) -> Iterator[TrainingRun]:
    """The run of this fingerprint while it trains: FINISHED at the end, FAILED after an error.

    A finished one is left as it is, and an unfinished one goes on. Where MLflow does not answer, training goes on
    without, since its history is an output: registration brings it to MLflow.
    """
    api = client()
    try:
        run = begun(api, experiment, fingerprint, params)
    except MlflowException as error:
        print(gone(error), flush=True)
        yield TrainingRun(api, "", "", known=True)
        return
    run.live = True
    try:
        yield run
    except BaseException:
        with suppress(MlflowException):
            end(run, RunStatus.FAILED)
        raise
    with suppress(MlflowException):
        end(run, RunStatus.FINISHED)


def begun(api: MlflowClient, experiment: str, fingerprint: str, params: Mapping[str, Any]) -> TrainingRun:
    """The run of this fingerprint, running, where it is not finished already."""
    place = experiment_id(api, experiment)
    run = find(api, experiment, fingerprint)
    if run is not None and run.info.status == RunStatus.to_string(RunStatus.FINISHED):
        return TrainingRun(api, run.info.run_id, place, known=True)
    if run is None:
        tags = {FINGERPRINT: fingerprint} | ({VARIANT: settings.experiment()} if settings.experiment() else {})
        run = api.create_run(place, tags=tags, run_name=f"train-{fingerprint[:8]}")
    else:
        api.update_run(run.info.run_id, RunStatus.to_string(RunStatus.RUNNING))
    # A run that goes on may have been killed before it had them; equal ones are no change.
    api.log_batch(run.info.run_id, params=[Param(name, str(value)) for name, value in dotted(params).items()])
    return TrainingRun(api, run.info.run_id, place, known=False)


def end(run: TrainingRun, status: int) -> None:
    """Let the run end so; a finished one, or one that was lost, stays as it is."""
    if not run.known:
        run.client.set_terminated(run.id, RunStatus.to_string(status))


@contextmanager
def system_metrics(run: TrainingRun) -> Iterator[None]:
    """While the block runs, MLflow notes load, memory, disk and network of this machine with the run."""
    if run.known:
        yield
        return
    logging.getLogger(system_metrics_monitor.__name__).setLevel(logging.WARNING)  # it tells when it starts and ends
    make: Any = system_metrics_monitor.SystemMetricsMonitor
    monitor = make(run.id, resume_logging=True, tracking_uri=settings.tracking_uri())
    monitor.start()
    try:
        yield
    finally:
        monitor.finish()


def ensure_run(
    experiment: str, fingerprint: str, params: Mapping[str, Any], history: list[dict[str, float]]
) -> TrainingRun:
    """The run of this fingerprint, rebuilt from its history where the tracking store does not have it."""
    run = begun(client(), experiment, fingerprint, params)
    try:
        for point in history:
            run.log(int(point["step"]), {name: value for name, value in point.items() if name != "step"})
    except BaseException:
        end(run, RunStatus.FAILED)
        raise
    end(run, RunStatus.FINISHED)
    return run


def page(run: TrainingRun) -> str:
    """The address of the run's page, or of MLflow's where the run is not there."""
    own = f"/#/experiments/{run.experiment}/runs/{run.id}" if run.id else ""
    return f"{settings.tracking_page()}{own}"


def check_access(experiment: str) -> None:
    """Raise UserError where a tracking server refuses these credentials, or has no place for an experiment's files.

    One that does not answer may come back.
    """
    if not settings.tracking_uri().startswith("http"):
        return
    for name in (experiment, "Default"):  # an experiment that is not there yet will keep its files where others do
        try:
            answer = _asked(name)
        except requests.ConnectionError:
            return
        if answer.ok:
            check_files(answer.json()["experiment"]["artifact_location"])
            return


def _asked(experiment: str) -> requests.Response:
    address, names = settings.tracking_uri(), ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    user, password = (os.environ.get(name, "") for name in names)
    answer = requests.get(
        f"{address}/api/2.0/mlflow/experiments/get-by-name",
        params={"experiment_name": experiment},
        auth=(user, password) if user else None,
        timeout=10,
    )
    if answer.status_code in (401, 403):
        raise UserError(f"{address}: refuses these credentials; set {' and '.join(names)}")
    return answer


@contextmanager
def within_reach() -> Iterator[None]:
    """Raise UserError where the server does not answer, or goes away, while the block runs."""
    try:
        yield
    except (requests.RequestException, MlflowException) as error:
        lost = error if isinstance(error, requests.RequestException) else error.__context__
        if not isinstance(lost, requests.ConnectionError | requests.Timeout | requests.exceptions.RetryError):
            raise
        raise UserError(
            f"MLflow at {settings.tracking_uri()} does not answer; once it does, the same command goes on from here"
        ) from error


def check_files(place: str) -> None:
    """Raise UserError where MLflow's place for files refuses who writes them: the server, or this client itself."""
    try:
        get_artifact_repository(place, tracking_uri=settings.tracking_uri()).list_artifacts("nothing")
    except (requests.ConnectionError, NoConnection, HTTPClientError):
        return
    # Each kind of place has errors of its own.
    except Exception as error:
        told = str(error).splitlines()[0]
        if isinstance(error, requests.HTTPError) and error.response is not None:
            with suppress(ValueError, KeyError):
                told = error.response.json()["message"]
        who = f"the server at {settings.tracking_uri()}" if place.startswith("mlflow-artifacts:") else "this client"
        raise UserError(
            f"MLflow's files, {place}: {told.rstrip('.')}; {who} must be let in there (infra/README.md, Remotes)"
        ) from error


def leave_links(stage: str, links: Mapping[str, str]) -> None:
    """Tell the flow where a stage's results can be seen; outside the outs, since ids differ from run to run."""
    folder = settings.BUILD / "links"
    folder.mkdir(parents=True, exist_ok=True)
    outputs.write_json(folder / f"{stage}.json", dict(links))
