"""The files of a version's run: the report, every document's result, the lineage, the params, and DVC's lock."""

import json
import shutil
import tempfile
from pathlib import Path

import yaml
from mlflow.entities import Dataset, DatasetInput, InputTag

from tasks import outputs, settings, tracking
from tasks.records import write_lines
from tasks.register import chain, costs
from tasks.register.candidate import Candidate

EVALUATION = "evaluation"
"""The place of results among the run's files, in a folder for each evaluation of the adapter, named by its digest.

There: base/SUITE, tuned/SUITE, and benchmarks/SUITE with the documents.
"""

LINEAGE = "lineage"
"""The place of what the model was made from."""

_GROUPED = ("id", "template", "choices")
"""What of a benchmark's document tells which others it belongs with."""


def log_all(candidate: Candidate, run: tracking.TrainingRun) -> None:
    """Store them all; what is there already is written anew."""
    log_report(candidate.report, run)
    log_lineage(candidate, run)
    log_results(candidate, run)
    run.client.log_inputs(run.id, [dataset(candidate)])


def log_lineage(candidate: Candidate, run: tracking.TrainingRun) -> None:
    """Store the lineage, the records, the params, the lock files, and what the tree had beside its commit."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        outputs.write_json(folder / "lineage.json", candidate.lineage)
        shutil.copyfile(candidate.trained_on, folder / "records.parquet")
        shutil.copyfile(settings.ROOT / "requirements.lock", folder / "requirements.lock")
        (folder / "tree.diff").write_bytes(chain.git("diff", "HEAD"))
        for name in ("params.yaml", "dvc.lock"):
            if Path(name).is_file():
                shutil.copyfile(name, folder / name)
        run.client.log_artifacts(run.id, scratch, LINEAGE)


def log_report(report: Path, run: tracking.TrainingRun) -> None:
    """Store the report; the page there tells what the stages cost on this machine, too."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(report, Path(scratch) / "report"))
        page = copy / "report.html"
        page.write_text(costs.added(page.read_text(encoding="utf-8"), settings.BUILD / "timings"), encoding="utf-8")
        run.client.log_artifacts(run.id, str(copy), "report")


def evaluation(results: str) -> str:
    """The place of the results of this digest."""
    return f"{EVALUATION}/{results[:16]}"


def log_results(candidate: Candidate, run: tracking.TrainingRun) -> None:
    """Store every document's result of both models, so that a later version can be compared with this one."""
    results, benchmarks = candidate.results, candidate.benchmarks
    with tempfile.TemporaryDirectory() as scratch:
        for model in ("base", "tuned"):
            for suite in sorted(path for path in (results / model).iterdir() if path.is_dir()):
                shutil.copytree(suite, Path(scratch) / model / suite.name)
                grouped = Path(scratch) / "benchmarks" / suite.name
                grouped.mkdir(parents=True, exist_ok=True)
                write_lines(grouped / "documents.jsonl", _documents(benchmarks / suite.name))
        run.client.log_artifacts(run.id, scratch, evaluation(candidate.lineage["digests"]["results"]))


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


def dvc_digest(out: Path) -> str:
    """What dvc.lock calls the content of an out; empty where no lock names it."""
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"].values() if lock.is_file() else ()
    outs = {item["path"]: item["md5"] for stage in stages for item in stage.get("outs", ())}
    return str(outs.get(out.as_posix(), ""))


def _documents(suite: Path) -> list[dict[str, object]]:
    """The documents of a suite's benchmarks, without their texts, as far as render wrote them."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(suite.glob("*.jsonl"))]
    rows = [json.loads(line) for text in texts for line in text.split("\n") if line]
    return [{key: row[key] for key in _GROUPED if key in row} for row in rows if {"id", "template"} <= row.keys()]
