"""Logged models: the base once for each digest, and a version's adapter with the code that serves them.

A logged model is found again by its tag, and finished where whoever made it was killed.
"""

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelStatus
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType

from tasks import settings
from tasks.register import requirements

logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)  # it tells of each example that it looks at

SIGNATURE = ModelSignature(
    inputs=Schema(
        [
            ColSpec(DataType.string, "instruction", required=False),
            ColSpec(DataType.string, "input", required=False),
            # A list of `role` and `content`. MLflow refuses a list of its own types where another row has none.
            ColSpec(AnyType(), "messages", required=False),  # type: ignore[no-untyped-call]
        ]
    ),
    outputs=Schema([ColSpec(DataType.string)]),
    params=ParamSchema([ParamSpec("max_new_tokens", DataType.long, 256)]),
)

EXAMPLE = [{"instruction": "Name the capital of the country.", "input": "France"}]

BASE = "instructflow.base"
"""The tag of a logged base: the digest of its folder."""


def ensure_base(client: MlflowClient, experiment: str, base: Path, digest: str) -> str:
    """The address of the base of this digest as a model of its own; MLflow keeps its folder in `artifacts` there."""
    logged = started(client, experiment, "base", {BASE: digest})
    upload(client, logged, {"base": base}, {"digest": digest})
    return str(logged.model_uri)


def started(
    client: MlflowClient, experiment: str, name: str, tags: Mapping[str, str], run: str | None = None
) -> LoggedModel:
    """The logged model with the first of these tags, whole or not; it is made where there is none."""
    key, value = next(iter(tags.items()))
    found = client.search_logged_models([experiment], f"tags.`{key}` = '{value}' AND name = '{name}'")
    whole = [model for model in found if model.status == LoggedModelStatus.READY]
    for model in [*whole, *found]:
        return model
    return client.create_logged_model(experiment, name, source_run_id=run, tags=dict(tags), model_type="causal-lm")


def upload(
    client: MlflowClient, logged: LoggedModel, artifacts: Mapping[str, Path], config: dict[str, Any], card: str = ""
) -> None:
    """Give a logged model its files, in MLflow's form; nothing where it is whole already."""
    if logged.status == LoggedModelStatus.READY:
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = package(Path(scratch) / "model", logged, artifacts, config)
        if card:
            (folder / "README.md").write_text(card, encoding="utf-8")
        client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)


def package(folder: Path, logged: LoggedModel, artifacts: Mapping[str, Path], config: dict[str, Any]) -> Path:
    """Write a model in MLflow's form, with the code that serves it."""
    mlflow.set_tracking_uri(settings.tracking_uri())
    described = Model(run_id=logged.source_run_id, model_id=logged.model_id, artifact_path=logged.artifact_location)
    mlflow.pyfunc.save_model(
        folder,
        mlflow_model=described,
        python_model=str(Path(__file__).with_name("served.py")),
        artifacts={name: str(path) for name, path in artifacts.items()},
        model_config=config,
        signature=SIGNATURE,
        input_example=EXAMPLE,
        pip_requirements=requirements.pinned(settings.ROOT / "requirements.lock"),
    )
    return folder
