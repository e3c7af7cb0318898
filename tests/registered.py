"""Versions in a registry with made-up results, as the gate reads them: no model is needed."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from mlflow.entities import LoggedModel

from tasks.promote import evidence
from tasks.records import write_lines
from tasks.register import registry
from tasks.register.files import evaluation
from tests.data_fixtures import ROOT

NAME = "instructflow"
DOCUMENTS = 60
RESULTS = "f00d" * 16
BENCHMARK = "inference_follows_generate"
MEASURED = {"benchmarks": {BENCHMARK: {"hash": "f00d", "version": 1, "generation": {}}}}

GOOD = [1] * 48 + [0] * 12
POOR = [1] * 6 + [0] * 54


def rows(exact: Sequence[int], answer: str = "yes", **measures: Sequence[int]) -> list[dict[str, Any]]:
    """A row for each document."""
    scores = {"exact_match": exact, "valid_answer": [1] * DOCUMENTS, "stopped": [1] * DOCUMENTS, **measures}
    return [
        {"benchmark": BENCHMARK, "document": f"d/{place}", "template": "t", "answer": answer, "expected": "yes"}
        | {name: values[place] for name, values in scores.items()}
        for place in range(DOCUMENTS)
    ]


BASE = rows(POOR, valid_answer=[1] * 12 + [0] * 48)


def write(folder: Path, base: list[dict[str, Any]], tuned: list[dict[str, Any]], measured: Mapping[str, Any]) -> None:
    """The results of a version, as they are stored with it."""
    for model, told in (("base", base), ("tuned", tuned)):
        suite = folder / model / "inference"
        suite.mkdir(parents=True)
        write_lines(suite / "samples.jsonl", told)
        (suite / "results.json").write_text(json.dumps({"measured": measured}), encoding="utf-8")
    (folder / "benchmarks/inference").mkdir(parents=True)
    documents = ({"id": row["document"], "template": row["template"], "choices": ["yes", "no"]} for row in tuned)
    write_lines(folder / "benchmarks/inference/documents.jsonl", documents)


def add(client: MlflowClient, tuned: list[dict[str, Any]], measured: Mapping[str, Any] = MEASURED) -> str:
    """A new version with these results, which the alias `candidate` names."""
    run = client.create_run(client.create_experiment(f"of {len(client.search_experiments())}"))
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), BASE, tuned, measured)
        client.log_artifacts(run.info.run_id, scratch, evaluation(RESULTS))
    client.set_terminated(run.info.run_id)
    if not client.search_registered_models(f"name = '{NAME}'"):
        client.create_registered_model(NAME)
    version = client.create_model_version(
        NAME, f"runs:/{run.info.run_id}/model", run.info.run_id, {evidence.RESULTS: RESULTS}
    )
    registry.name_newest(client, NAME)
    return str(version.version)


def logged_model(client: MlflowClient, version: str) -> LoggedModel:
    """The logged model that a version was made from; MLflow's data base keeps its address alone."""
    source = client.get_model_version(NAME, version).source or ""
    return client.get_logged_model(source.removeprefix("models:/"))


def settings(folder: Path, **gate: Any) -> None:
    """A params.yaml in `folder` with these values of the section `gate`."""
    values = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    values["gate"] |= gate
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
