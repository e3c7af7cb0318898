"""The MLflow registry: one version for each fingerprint, with what is needed to find data, params and commit."""

from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from tasks import locks, settings, tracking
from tasks.register import chain, files, packages
from tasks.register.candidate import Candidate

CANDIDATE = "candidate"
"""The alias that names the newest version."""

_DESCRIPTION = 5_000
"""Characters that MLflow's data base keeps of a version's description."""


def ensure_version(candidate: Candidate, run: tracking.TrainingRun) -> tuple[ModelVersion, bool]:
    """The version of this fingerprint, and whether it was made now.

    What an earlier call that was killed had begun is finished. The alias `candidate` names the newest version.
    """
    with locks.registry():
        found = find_version(run.client, candidate.name, candidate.fingerprint)
        if found is not None:
            bring_up_to_date(found, candidate, run)
        version = found or make_version(candidate, run)
        name_newest(run.client, candidate.name)
    return version, found is None


def bring_up_to_date(version: ModelVersion, candidate: Candidate, run: tracking.TrainingRun) -> None:
    """Store what the same adapter showed since: on other benchmarks, say. The tags tell it at the end."""
    wanted = tags(candidate)
    digests = {f"instructflow.{name}" for name in candidate.lineage["digests"]}
    if all(version.tags.get(name) == wanted[name] for name in digests):
        return
    files.log_all(candidate, run)
    ensure_model(candidate, run)
    told = description(candidate.report / "report.md")
    run.client.update_model_version(candidate.name, str(version.version), told)
    for name in sorted(wanted, key=lambda name: name in digests):
        run.client.set_model_version_tag(candidate.name, str(version.version), name, wanted[name])


def make_version(candidate: Candidate, run: tracking.TrainingRun) -> ModelVersion:
    """Every step leaves what it finds done, and the version comes last."""
    files.log_all(candidate, run)
    model = ensure_model(candidate, run)
    try:
        run.client.create_registered_model(candidate.name)
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise
    return run.client.create_model_version(
        candidate.name,
        model.model_uri,
        run.id,
        tags=tags(candidate),
        description=description(candidate.report / "report.md"),
        model_id=model.model_id,  # a server asks for it
    )


def ensure_model(candidate: Candidate, run: tracking.TrainingRun) -> LoggedModel:
    """The logged model of this fingerprint: adapter and code, the base's address, and the scores that belong to it."""
    experiment = run.client.get_run(run.id).info.experiment_id
    digest = candidate.lineage["digests"]["base"]
    base = packages.ensure_base(run.client, experiment, candidate.base, digest)
    own = {tracking.FINGERPRINT: candidate.fingerprint}
    logged = packages.started(run.client, experiment, "model", own, run.id)
    folder = f"artifacts/{candidate.base.name}"
    config = {"base": base, "folder": folder, "digest": digest, "fingerprint": candidate.fingerprint}
    card = (candidate.report / "MODEL_CARD.md").read_text(encoding="utf-8")
    packages.upload(run.client, logged, {"adapter": candidate.adapter}, config, card)
    told = [Metric(name, value, 0, 0, logged.model_id, run_id=run.id) for name, value in candidate.scores.items()]
    run.client.log_batch(run.id, metrics=told)
    # MLflow takes an output once, and fails at the second time.
    outputs = run.client.get_run(run.id).outputs
    if logged.model_id not in {output.model_id for output in (outputs.model_outputs if outputs else ())}:
        run.client.log_outputs(run.id, [LoggedModelOutput(logged.model_id, 0)])
    return logged


def name_newest(client: MlflowClient, name: str) -> None:
    """Let the alias `candidate` name the version with the highest number."""
    newest = max(client.search_model_versions(f"name = '{name}'"), key=lambda version: int(version.version))
    if client.get_registered_model(name).aliases.get(CANDIDATE) != str(newest.version):
        client.set_registered_model_alias(name, CANDIDATE, str(newest.version))


def find_version(client: MlflowClient, name: str, fingerprint: str) -> ModelVersion | None:
    """The version that carries this fingerprint."""
    query = f"name = '{name}' and tags.`{tracking.FINGERPRINT}` = '{fingerprint}'"
    versions = client.search_model_versions(query)
    return versions[0] if versions else None


def tags(candidate: Candidate) -> dict[str, str]:
    """What a version is found by: fingerprint, digests of everything it was made from, and the commit."""
    lineage = candidate.lineage
    digests = {f"instructflow.{name}": value for name, value in lineage["digests"].items()}
    told = {
        "instructflow.base_model": f"{lineage['base']['name']} {lineage['base']['revision']}",
        "instructflow.licences": ", ".join(sorted(lineage["data"]["licences"])),
        "instructflow.dvc_data": files.dvc_digest(Path("data/pack")),
    }
    return {tracking.FINGERPRINT: candidate.fingerprint, **digests, **told, **commit()}


def description(report: Path) -> str:
    """The report's beginning, in whole lines, as much as a registry's column holds."""
    text = report.read_text(encoding="utf-8")
    return text if len(text) <= _DESCRIPTION else text[:_DESCRIPTION].rpartition("\n")[0]


def commit() -> dict[str, str]:
    """The git commit of the tree and whether it was changed since; empty outside of git.

    That dvc.lock is another one is no change: it tells what came of the tree, and is kept with the version.
    """
    head = chain.git("rev-parse", "HEAD").decode().strip()
    changed = bool(chain.git("status", "--porcelain", "--", ".", ":(exclude)dvc.lock").strip())
    return {"instructflow.commit": head, "instructflow.dirty": str(changed).lower()} if head else {}


def page(candidate: Candidate, version: ModelVersion) -> str:
    """The address of the version's page."""
    return f"{settings.tracking_page()}/#/models/{candidate.name}/versions/{version.version}"
