"""The MLflow registry: one version for each fingerprint, with what is needed to find data, params and commit."""

import json
import shutil
import subprocess
import tempfile
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from tasks import outputs, settings, tracking
from tasks.register import costs

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec(DataType.string, "instruction")]),
    outputs=Schema([ColSpec(DataType.string)]),
    params=ParamSchema([ParamSpec("max_new_tokens", DataType.long, 256)]),
)

REQUIREMENTS = ("mlflow", "torch", "transformers", "peft", "accelerate", "safetensors")
"""What a version needs to be loaded, pinned to what is installed now."""


_DESCRIPTION = 5_000
"""Characters that MLflow's data base keeps of a version's description."""


@dataclass(frozen=True)
class Candidate:
    """What is about to become a version: its folders, its records, its lineage, its scores and its report."""

    name: str
    base: Path
    adapter: Path
    report: Path
    trained_on: Path
    lineage: dict[str, Any]
    scores: dict[str, float]

    @property
    def fingerprint(self) -> str:
        """The hash over everything that went into the model."""
        return str(self.lineage["fingerprint"])


def ensure_version(candidate: Candidate, run: tracking.TrainingRun) -> tuple[ModelVersion, bool]:
    """The version of this fingerprint, and whether it was made now."""
    found = find_version(run.client, candidate.name, candidate.fingerprint)
    if found is not None:
        return found, False
    run.client.log_batch(run.id, metrics=[_metric(name, value) for name, value in candidate.scores.items()])
    log_files(candidate, run)
    run.client.log_inputs(run.id, [dataset(candidate)])
    model = log_model(candidate, run)
    try:
        run.client.create_registered_model(candidate.name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    version = run.client.create_model_version(
        candidate.name,
        model.model_uri,
        run.id,
        tags=tags(candidate),
        model_id=model.model_id,
        description=description(candidate.report / "report.md"),
    )
    return version, True


def find_version(client: MlflowClient, name: str, fingerprint: str) -> ModelVersion | None:
    """The version that carries this fingerprint."""
    query = f"name = '{name}' and tags.`{tracking.FINGERPRINT}` = '{fingerprint}'"
    versions = client.search_model_versions(query)
    return versions[0] if versions else None


def tags(candidate: Candidate) -> dict[str, str]:
    """What a version is found by: fingerprint, digests of everything it was made from, and the commit."""
    digests = {f"instructflow.{name}": value for name, value in candidate.lineage["digests"].items()}
    return {tracking.FINGERPRINT: candidate.fingerprint, **digests, **commit()}


def description(report: Path) -> str:
    """The report's beginning, in whole lines, as much as a registry's column holds."""
    text = report.read_text(encoding="utf-8")
    return text if len(text) <= _DESCRIPTION else text[:_DESCRIPTION].rpartition("\n")[0]


def commit() -> dict[str, str]:
    """The git commit of the tree and whether it was changed since; empty outside of git."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=settings.ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        return {
            "instructflow.commit": git("rev-parse", "HEAD"),
            "instructflow.dirty": str(bool(git("status", "--porcelain"))).lower(),
        }
    except (subprocess.CalledProcessError, FileNotFoundError):
        return {}


def log_model(candidate: Candidate, run: tracking.TrainingRun) -> Any:
    """Store base, adapter and the code that serves them under the run."""
    mlflow.set_tracking_uri(settings.tracking_uri())
    with mlflow.start_run(run_id=run.id), warnings.catch_warnings():
        # MLflow asks for an input example beside the signature, and would answer it with the model to check it.
        warnings.filterwarnings("ignore", category=UserWarning, module="mlflow")
        return mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"base": str(candidate.base), "adapter": str(candidate.adapter)},
            signature=SIGNATURE,
            pip_requirements=[f"{name}=={metadata.version(name).split('+')[0]}" for name in REQUIREMENTS],
        )


def log_files(candidate: Candidate, run: tracking.TrainingRun) -> None:
    """Store the report with what it cost, the lineage, the params, DVC's lock, and the tree's difference."""
    log_report(candidate.report, run)
    with tempfile.TemporaryDirectory() as scratch:
        outputs.write_json(Path(scratch) / "lineage.json", candidate.lineage)
        shutil.copyfile(candidate.trained_on, Path(scratch) / "records.parquet")
        difference = subprocess.run(["git", "diff", "HEAD"], cwd=settings.ROOT, capture_output=True).stdout
        (Path(scratch) / "tree.diff").write_bytes(difference)
        run.client.log_artifacts(run.id, scratch, "lineage")
    for name in ("params.yaml", "dvc.lock"):
        if Path(name).is_file():
            run.client.log_artifact(run.id, name, "lineage")


def log_report(report: Path, run: tracking.TrainingRun) -> None:
    """Store the report; the page there tells what the stages cost on this machine, too."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(report, Path(scratch) / "report"))
        page = copy / "report.html"
        page.write_text(costs.added(page.read_text(encoding="utf-8"), settings.BUILD / "timings"), encoding="utf-8")
        run.client.log_artifacts(run.id, str(copy), "report")


def dataset(candidate: Candidate) -> DatasetInput:
    """The training examples as MLflow's data set: where DVC keeps them, their digest and the sources' cards."""
    examples = candidate.lineage["digests"]["examples"]
    entity = Dataset(
        name=f"{candidate.name}-examples",
        digest=examples[:16],
        source_type="dvc",
        source=json.dumps({"path": "data/render/examples.parquet", "sha256": examples}),
        profile=json.dumps(candidate.lineage["data"]),
    )
    return DatasetInput(entity, [InputTag("mlflow.data.context", "training")])


def page(candidate: Candidate, version: ModelVersion) -> str:
    """The address of the version's page."""
    return f"{settings.tracking_page()}/#/models/{candidate.name}/versions/{version.version}"


def _metric(name: str, value: float) -> mlflow.entities.Metric:
    return mlflow.entities.Metric(name, value, 0, 0)
