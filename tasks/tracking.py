"""MLflow runs of training: owned from start to end, found by fingerprint, and rebuilt from the declared history."""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunStatus
from mlflow.system_metrics import system_metrics_monitor

from tasks import outputs, settings
from tasks.params import dotted

FINGERPRINT = "instructflow.fingerprint"
"""The tag that says which training a run or a version is of."""

VARIANT = "instructflow.variant"
"""The tag with the name of the DVC experiment that first trained it, where one did."""


@dataclass(frozen=True)
class TrainingRun:
    """An MLflow run of one training. `known` tells that an earlier, finished run already holds these numbers."""

    client: MlflowClient
    id: str
    known: bool

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve; nothing where an equal run is there already."""
        if not self.known:
            self.client.log_batch(self.id, metrics=[Metric(name, value, 0, step) for name, value in values.items()])


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

    A finished one is left as it is, and an unfinished one goes on.
    """
    api = client()
    run = find(api, experiment, fingerprint)
    if run is not None and run.info.status == RunStatus.to_string(RunStatus.FINISHED):
        yield TrainingRun(api, run.info.run_id, known=True)
        return
    if run is None:
        tags = {FINGERPRINT: fingerprint} | ({VARIANT: settings.experiment()} if settings.experiment() else {})
        run = api.create_run(experiment_id(api, experiment), tags=tags, run_name=f"train-{fingerprint[:8]}")
    else:
        api.update_run(run.info.run_id, RunStatus.to_string(RunStatus.RUNNING))
    # A run that goes on may have been killed before it had them; equal ones are no change.
    api.log_batch(run.info.run_id, params=[Param(name, str(value)) for name, value in dotted(params).items()])
    try:
        yield TrainingRun(api, run.info.run_id, known=False)
    except BaseException:
        api.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.FAILED))
        raise
    api.set_terminated(run.info.run_id, RunStatus.to_string(RunStatus.FINISHED))


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
    with training_run(experiment, fingerprint, params) as run:
        for point in history:
            run.log(int(point["step"]), {name: value for name, value in point.items() if name != "step"})
    return run


def page(run: TrainingRun) -> str:
    """The address of the run's page."""
    experiment = run.client.get_run(run.id).info.experiment_id
    return f"{settings.tracking_page()}/#/experiments/{experiment}/runs/{run.id}"


def leave_links(stage: str, links: Mapping[str, str]) -> None:
    """Tell the flow where a stage's results can be seen; outside the outs, since ids differ from run to run."""
    folder = settings.BUILD / "links"
    folder.mkdir(parents=True, exist_ok=True)
    outputs.write_json(folder / f"{stage}.json", dict(links))
