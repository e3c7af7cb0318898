"""A registered version as it is stored: its tags, its lineage, its params and locks, and its adapter."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from tasks import settings
from tasks.errors import UserError
from tasks.register import files

_ADDRESS = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<version>\d+)|@(?P<alias>.+))")


@dataclass(frozen=True)
class Stored:
    """A version, and the folders with its files: `lineage` of its run, `model` of the version itself."""

    version: ModelVersion
    lineage: Path
    model: Path

    @property
    def made_from(self) -> dict[str, Any]:
        """The lineage that it was registered with."""
        return dict(json.loads((self.lineage / "lineage.json").read_text(encoding="utf-8")))

    @property
    def params(self) -> dict[str, Any]:
        """The values of its params.yaml."""
        return dict(yaml.safe_load((self.lineage / "params.yaml").read_text(encoding="utf-8")))

    @property
    def lock(self) -> dict[str, Any]:
        """Its dvc.lock; empty where it was made without DVC."""
        path = self.lineage / "dvc.lock"
        return dict(yaml.safe_load(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    @property
    def adapter(self) -> Path:
        """The folder of its adapter."""
        return next(self.model.rglob("adapter_model.safetensors")).parent

    def told(self, name: str) -> dict[str, Any]:
        """A JSON file beside its adapter."""
        return dict(json.loads((self.adapter / name).read_text(encoding="utf-8")))

    def base(self, scratch: Path) -> Path:
        """The folder of its base, a model of its own, downloaded to `scratch`. Raises UserError where it is missing."""
        described = yaml.safe_load((self.model / "MLmodel").read_text(encoding="utf-8"))
        named, into = described["flavors"]["python_function"]["config"], scratch / "base"
        into.mkdir(parents=True)
        try:
            whole = mlflow.artifacts.download_artifacts(
                named["base"], dst_path=str(into), tracking_uri=settings.tracking_uri()
            )
        except (MlflowException, OSError) as error:
            raise UserError(f"{named['base']}: the base of this version cannot be read: {error}") from error
        return Path(whole, named["folder"])


def resolve(client: MlflowClient, address: str) -> ModelVersion:
    """The version that `models:/NAME/VERSION` or `models:/NAME@ALIAS` names. Raises UserError where there is none."""
    matched = _ADDRESS.fullmatch(address)
    if matched is None:
        raise UserError(f"{address}: no address of a version; write models:/NAME/VERSION or models:/NAME@ALIAS")
    try:
        if matched["alias"]:
            return client.get_model_version_by_alias(matched["name"], matched["alias"])
        return client.get_model_version(matched["name"], matched["version"])
    except MlflowException as error:
        raise UserError(f"{address}: the registry has no such version; look at it with: make ui") from error


def read(client: MlflowClient, address: str, scratch: Path) -> Stored:
    """A version with its files, downloaded to `scratch`. Raises UserError where they are not whole."""
    version = resolve(client, address)
    uri = settings.tracking_uri()
    mlflow.set_tracking_uri(uri)  # by this it finds what `models:/` names, whatever it is told with a download
    for folder in ("run", "model"):
        (scratch / folder).mkdir(parents=True)
    try:
        run = client.download_artifacts(str(version.run_id), files.LINEAGE, str(scratch / "run"))
        model = mlflow.artifacts.download_artifacts(
            f"models:/{version.name}/{version.version}", dst_path=str(scratch / "model"), tracking_uri=uri
        )
    except (MlflowException, OSError) as error:
        raise UserError(f"{address}: its files cannot be read from the registry: {error}") from error
    return Stored(version, Path(run), Path(model))
