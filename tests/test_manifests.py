"""Kubernetes' manifests, the composition, prefect.yaml, the work pool and the image: right in form, and closed."""

import asyncio
import copy
import json
import re
import shutil
from collections.abc import Callable
from functools import cache
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock
from uuid import uuid4

import jsonschema
import pytest
import yaml
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.client.schemas.objects import FlowRun
from prefect.server.schemas.actions import WorkPoolCreate
from pydantic import ValidationError

from infra import servers, work_pool
from tasks.errors import UserError
from tests import dockerfile, manifests
from tests.data_fixtures import ROOT
from tests.manifests import FOLDER, Manifests, Pod

VERSIONS = ["1.32", "1.37"]
"""Kubernetes' versions whose schemas the manifests must fit."""

OVERLAYS = ["base", "gpu"]
README = (ROOT / "infra/README.md").read_text(encoding="utf-8")


@cache
def _built(overlay: str) -> Manifests:
    return manifests.build(FOLDER / overlay)


def built(overlay: str = "base") -> Manifests:
    """An overlay's manifests, which a test may break."""
    return copy.deepcopy(_built(overlay))


def pod(found: Manifests, name: str) -> Pod:
    return next(one for one in manifests.pods(found) if one.name == name)


def only(found: Manifests, kind: str, name: str) -> dict[str, Any]:
    return next(made for made in found if (made["kind"], made["metadata"]["name"]) == (kind, name))


@pytest.mark.manifests
@pytest.mark.parametrize(("overlay", "version"), list(product(OVERLAYS, VERSIONS)))
def test_every_manifest_fits_kubernetes_schema(overlay: str, version: str) -> None:
    from kubernetes_validate import validate

    for made in built(overlay):
        validate(made, version, strict=True)


@pytest.mark.manifests
@pytest.mark.parametrize("change", [{"replicas": "one"}, {"replica": 1}, {"strategy": "Recreate"}])
def test_a_wrong_manifest_does_not(change: dict[str, Any]) -> None:
    from kubernetes_validate import ValidationError as Refused
    from kubernetes_validate import validate

    made = only(built(), "Deployment", "worker")
    made["spec"] |= change
    with pytest.raises(Refused):
        validate(made, VERSIONS[0], strict=True)


@pytest.mark.manifests
def test_kustomize_refuses_a_field_that_it_does_not_know(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    path = tmp_path / "kubernetes/base/kustomization.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("resources:", "resource:"), encoding="utf-8")
    with pytest.raises(ValueError, match='unknown field "resource"'):
        manifests.build(path.parent)


@pytest.mark.manifests
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_rule_is_broken(overlay: str) -> None:
    assert manifests.faults(built(overlay)) == []


def as_root(found: Manifests) -> None:
    pod(found, "mlflow").spec["securityContext"]["runAsUser"] = 0


def container(name: str, **values: Any) -> Callable[[Manifests], None]:
    """A change of a pod's container."""
    return lambda found: pod(found, name).spec["containers"][0].update(values)


def whole(name: str, **values: Any) -> Callable[[Manifests], None]:
    """A change of a pod."""
    return lambda found: pod(found, name).spec.update(values)


def dropped(kind: str, name: str) -> Callable[[Manifests], None]:
    return lambda found: found.remove(only(found, kind, name))


def added(made: dict[str, Any]) -> Callable[[Manifests], None]:
    return lambda found: found.append(made)


def role(found: Manifests) -> None:
    only(found, "Role", "worker")["rules"][1]["resources"].append("secrets")


def relabelled(found: Manifests) -> None:
    pod(found, "postgres").labels["app"] = "postgresql"


def renumbered(found: Manifests) -> None:
    only(found, "Service", "prefect")["spec"]["ports"][0]["port"] = 80


BREAKAGES: dict[str, tuple[Callable[[Manifests], None], str]] = {
    "root": (as_root, "mlflow may be root"),
    "gains": (container("worker", securityContext={"allowPrivilegeEscalation": True}), "worker may gain rights"),
    "writes": (container("prefect", securityContext={}), "prefect may write to its image"),
    "calls": (whole("flow-run", securityContext={"runAsNonRoot": True}), "flow-run may make any system call"),
    "node": (whole("worker", hostNetwork=True), "worker is in the node"),
    "links": (whole("flow-run", enableServiceLinks=True), "flow-run is told of all services"),
    "pods": (added({"kind": "Namespace", "metadata": {"name": "open"}}), "namespace open takes any pod"),
    "latest": (container("prefect", image="instructflow:latest"), "prefect: image instructflow:latest has no version"),
    "untagged": (container("prefect", image="instructflow"), "prefect: image instructflow has no version"),
    "secret": (added({"kind": "Secret", "metadata": {"name": "team"}}), "team: a secret among the manifests"),
    "password": (
        container("postgres", env=[{"name": "POSTGRES_PASSWORD", "value": "x"}]),
        "postgres: POSTGRES_PASSWORD is no reference",
    ),
    "address": (
        container(
            "mlflow", env=[{"name": "MLFLOW_BACKEND_STORE_URI", "value": "postgresql://mlflow:x@postgres:5432/m"}]
        ),
        "mlflow: MLFLOW_BACKEND_STORE_URI is no reference",
    ),
    "claim": (dropped("PersistentVolumeClaim", "repository"), "worker: claim repository is not there"),
    "unused": (whole("postgres", volumes=[]), "claim postgres is nobody's"),
    "volume": (container("flow-run", volumeMounts=[]), "flow-run: volume repository is not mounted or not there"),
    "open": (dropped("NetworkPolicy", "nothing"), "namespace instructflow-runs is open"),
    "unselected": (relabelled, "policy postgres of instructflow selects no pod"),
    "nowhere": (relabelled, "service postgres leads nowhere"),
    "shut": (dropped("NetworkPolicy", "to-servers"), "flow-run may not reach mlflow.instructflow:5000"),
    "shut behind": (dropped("NetworkPolicy", "to-postgres"), "prefect may not reach postgres:5432"),
    "port": (renumbered, "worker: prefect.instructflow:4200 is no service"),
    "unbounded": (container("flow-run", resources={}), "flow-run asks for nothing, or is not bounded"),
    "unwatched": (container("mlflow", livenessProbe={}), "mlflow is not watched"),
    "token": (whole("flow-run", automountServiceAccountToken=True), "flow-run has a token, or lacks its own"),
    "account": (dropped("ServiceAccount", "flow-run"), "flow-run: account flow-run is not there"),
    "role": (role, "role worker may do too much"),
    "cluster": (added({"kind": "ClusterRole", "metadata": {"name": "all"}}), "all: a role of the whole cluster"),
}


@pytest.mark.manifests
@pytest.mark.parametrize("name", BREAKAGES)
def test_a_breakage_is_told(name: str) -> None:
    breakage, told = BREAKAGES[name]
    found = built()
    breakage(found)
    assert told in manifests.faults(found)


@pytest.mark.manifests
def test_pods_reach_what_they_need_and_nothing_else() -> None:
    found = built("gpu")
    ends = {name: port for one in manifests.pods(found) for name, port in [(one.name, port_of(one))] if port}
    reached = {
        (one.name, name)
        for one, (name, port) in product(manifests.pods(found), ends.items())
        if one.name != name and manifests.reaches(found, one, pod(found, name), port)
    }
    assert reached == {
        ("prefect", "postgres"), ("mlflow", "postgres"),
        ("worker", "prefect"), ("worker", "mlflow"), ("flow-run", "prefect"), ("flow-run", "mlflow"),
    }  # fmt: skip
    assert manifests.beyond(found) == {"worker"}


def port_of(one: Pod) -> int | None:
    return next(iter(manifests.ports(one).values()), None)


@pytest.mark.manifests
def test_remotes_are_opened_for_flow_runs_alone(tmp_path: Path) -> None:
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    (tmp_path / "kubernetes/own").mkdir()
    text = "resources: [../gpu]\ncomponents: [../remotes]\n"
    (tmp_path / "kubernetes/own/kustomization.yaml").write_text(text, encoding="utf-8")
    found = manifests.build(tmp_path / "kubernetes/own")
    assert manifests.faults(found) == []
    assert manifests.beyond(found) == {"worker", "flow-run"}


@pytest.mark.manifests
def test_the_overlay_adds_a_gpu_to_flow_runs_and_nothing_else() -> None:
    base, gpu = built("base"), built("gpu")
    spec = pod(gpu, "flow-run").spec
    assert spec["containers"][0]["resources"]["limits"].pop("nvidia.com/gpu") == 1
    assert spec.pop("nodeSelector") == {"nvidia.com/gpu.present": "true"}
    assert [one["key"] for one in spec.pop("tolerations")] == ["nvidia.com/gpu"]
    assert gpu == base


@pytest.mark.manifests
def test_every_secret_is_told_in_the_readme() -> None:
    entries = [entry for one in manifests.pods(built()) for entry in one.container.get("env", [])]
    asked = {(ref["name"], ref["key"]) for entry in entries if (ref := entry.get("valueFrom", {}).get("secretKeyRef"))}
    assert {name for name, _ in asked} == {"team", "runs"}
    assert not [key for _, key in asked if key not in README]
    assert all(f"create secret generic {name} " in README for name, _ in asked)


@pytest.mark.manifests
def test_a_flow_run_s_job_fits_kubernetes_and_holds_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    from kubernetes_validate import validate

    job = job_of_a_flow_run(monkeypatch, "instructflow:planted-secret")
    assert "planted" not in json.dumps(job)
    spec = job["spec"]["template"]["spec"]
    assert (spec.pop("parallelism"), spec.pop("completions")) == (1, 1)  # Prefect asks for them, Kubernetes does not
    validate(job, VERSIONS[0], strict=True)
    started = pod(built("gpu"), "flow-run")
    ours = {name: value for name, value in spec.items() if name != "containers"}
    assert ours == {name: value for name, value in started.spec.items() if name != "containers"}
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert job["spec"]["template"]["metadata"]["labels"]["app"] == "flow-run"
    assert job["metadata"]["namespace"] == started.namespace


def job_of_a_flow_run(monkeypatch: pytest.MonkeyPatch, login: str) -> dict[str, Any]:
    """What Prefect's worker, with the environment of ours, would send to the cluster."""
    from prefect_kubernetes import worker

    sent: list[dict[str, Any]] = []

    class Cluster:
        def __init__(self, client: object) -> None:
            pass

        async def create_namespaced_job(self, namespace: str, manifest: dict[str, Any]) -> str:
            sent.append(manifest)
            return namespace

    for entry in pod(built("gpu"), "worker").container["env"]:
        monkeypatch.setenv(entry["name"], entry.get("value", login))
    monkeypatch.setattr(worker, "BatchV1Api", Cluster)
    template = work_pool.template(built("gpu"))
    filled = worker.KubernetesWorkerJobConfiguration.from_template_and_values(template, {}, client=MagicMock())
    made = asyncio.run(filled)
    made.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="some-run"))
    asyncio.run(worker.KubernetesWorker("instructflow-kubernetes")._create_job(made, None))
    return sent[0]


@pytest.mark.manifests
def test_prefect_s_server_takes_the_work_pool() -> None:
    template = work_pool.template(built())
    jsonschema.Draft202012Validator.check_schema(template["variables"])
    assert WorkPoolCreate(name="instructflow-kubernetes", type="kubernetes", base_job_template=template)
    del template["variables"]["properties"]["finished_job_ttl"]
    with pytest.raises(ValidationError, match="finished_job_ttl"):
        WorkPoolCreate(name="instructflow-kubernetes", type="kubernetes", base_job_template=template)


def test_manifests_without_a_flow_run_s_pod_make_no_work_pool() -> None:
    with pytest.raises(UserError, match=r"^0 PodTemplates are named 'flow-run'"):
        work_pool.template([])


@cache
def schema(name: str) -> jsonschema.protocols.Validator:
    """A published schema: of the composition as check-jsonschema brings it, of prefect.yaml as Prefect reads it."""
    if name == "compose":
        path = "check_jsonschema/builtin_schemas/vendor/compose-spec.json"
        found = json.loads(Path(str(metadata.distribution("check-jsonschema").locate_file(path))).read_text())
    else:
        found = PrefectYamlModel.model_json_schema()
        found["properties"]["definitions"] = {}  # where anchors stand
        for closed in (found, found["$defs"]["DeploymentConfig"], found["$defs"]["WorkPoolConfig"]):
            closed["additionalProperties"] = False
    return jsonschema.validators.validator_for(found)(found)


def content(path: str) -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / path).read_text(encoding="utf-8")))


@pytest.mark.manifests
def test_the_composition_fits_its_schema() -> None:
    schema("compose").validate(content("infra/compose.yaml"))


@pytest.mark.manifests
@pytest.mark.parametrize("change", [{"ports": 4200}, {"port": ["4200"]}, {"healthcheck": {"tries": 6}}])
def test_a_wrong_composition_does_not(change: dict[str, Any]) -> None:
    wrong = content("infra/compose.yaml")
    wrong["services"]["mlflow"] |= change
    assert not schema("compose").is_valid(wrong)


def test_prefect_yaml_fits_what_prefect_reads() -> None:
    schema("prefect").validate(content("prefect.yaml"))


@pytest.mark.parametrize("change", [{"schedules": 3}, {"entry_point": "x"}, {"concurrency_limit": "one"}])
def test_a_wrong_prefect_yaml_does_not(change: dict[str, Any]) -> None:
    wrong = content("prefect.yaml")
    wrong["deployments"][0] |= change
    assert not schema("prefect").is_valid(wrong)


def test_deployments_go_to_the_pool_that_a_worker_asks() -> None:
    deploy = (ROOT / "infra/deploy.sh").read_text(encoding="utf-8")
    pools = re.findall(r"INSTRUCTFLOW_POOL=(\S+)", deploy)
    commands = [
        (ROOT / "Makefile").read_text(encoding="utf-8"),
        str(content("infra/compose.yaml")["services"]["prefect-worker"]["command"]),
        (FOLDER / "base/runs/worker.yaml").read_text(encoding="utf-8"),
    ]
    assert [re.findall(r"--pool[', ]+([a-z-]+)", command) for command in commands] == [
        [pools[0]],
        [pools[0]],
        [pools[1]],
    ]


STEPS = dockerfile.steps(dockerfile.PATH.read_text(encoding="utf-8"))


def test_the_image_is_pinned_and_not_root_s() -> None:
    assert [step.rest for step in STEPS if step.instruction == "FROM"] == ["python:3.11.13-slim-bookworm"]
    assert [step.rest for step in STEPS if step.instruction == "USER"] == ["1000:1000"]
    installs = [command for step in STEPS for command in step.rest.split("&&") if "pip install" in command]
    assert len(installs) == 2
    assert "--no-deps --requirement /tmp/requirements.lock --requirement /tmp/image.lock" in installs[0]
    assert "grep '^torch==' /tmp/requirements.lock" in installs[1]


def test_what_the_image_copies_is_in_its_context_alone() -> None:
    sources = [source for step in STEPS if step.instruction == "COPY" for source in dockerfile.copied(step)[0]]
    assert set(sources) == dockerfile.context()
    assert all((ROOT / source).is_file() for source in sources)


def test_the_image_s_packages_are_exact_and_said_once() -> None:
    whole, image = dockerfile.locked(ROOT / "requirements.lock"), dockerfile.locked(ROOT / "infra/image.lock")
    assert not whole.keys() & image.keys()
    assert all(re.fullmatch(r"\d[\d.]*", version) for version in image.values())


@pytest.mark.manifests
def test_prefect_s_server_keeps_leases_wherever_it_runs() -> None:
    by_compose = content("infra/compose.yaml")["services"]["prefect-server"]["environment"]
    by_kubernetes = {one["name"]: one.get("value") for one in pod(built(), "prefect").container["env"]}
    for setting, value in servers.LEASES.items():
        assert by_compose[setting] == by_kubernetes[setting] == value


def test_everything_runs_the_same_image() -> None:
    services = content("infra/compose.yaml")["services"].values()
    built_here = {service["image"] for service in services if "build" in service}
    [image] = content("infra/kubernetes/base/kustomization.yaml")["images"]
    assert built_here == {f"{image['name']}:{image['newTag']}"}
