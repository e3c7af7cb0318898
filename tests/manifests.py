"""What Kubernetes would be told, and what must hold of it: each rule gives its faults in words."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.data_fixtures import ROOT

FOLDER = ROOT / "infra/kubernetes"
KUBECTL = Path(sys.executable).with_name("kubectl")
Manifests = list[dict[str, Any]]


class Pod(NamedTuple):
    """A pod as its template has it."""

    kind: str
    name: str
    namespace: str
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def container(self) -> dict[str, Any]:
        """Its only container."""
        [found] = self.spec["containers"]
        return dict(found)


def build(folder: Path) -> Manifests:
    """The manifests of a kustomization, by kubectl's own kustomize."""
    done = subprocess.run([KUBECTL, "kustomize", folder], capture_output=True, text=True)
    if done.returncode:
        raise ValueError(done.stderr)
    return list(yaml.safe_load_all(done.stdout))


def pods(manifests: Manifests) -> list[Pod]:
    """Every pod, by the name of what starts it."""
    found = []
    for made in manifests:
        template = made.get("template") or made.get("spec", {}).get("template")
        if template:
            labels = template["metadata"]["labels"]
            found.append(Pod(made["kind"], *where(made), labels, template["spec"]))
    return found


def where(made: dict[str, Any]) -> tuple[str, str]:
    """A manifest's name and namespace."""
    return made["metadata"]["name"], made["metadata"].get("namespace", "")


def named(manifests: Manifests, kind: str) -> dict[tuple[str, str], dict[str, Any]]:
    """The manifests of a kind by name and namespace."""
    return {where(made): made for made in manifests if made["kind"] == kind}


def faults(manifests: Manifests) -> list[str]:
    """All that is wrong with them."""
    rules = (rights, images, secrets, mounts, closed, services, watched, addresses, accounts)
    return [fault for rule in rules for fault in rule(manifests)]


def rights(manifests: Manifests) -> Iterator[str]:
    """No pod may be root, become root, or write to its image; Kubernetes calls that `restricted`."""
    for pod in pods(manifests):
        whole, own = pod.spec.get("securityContext", {}), pod.container.get("securityContext", {})
        wrong = {
            "may be root": not whole.get("runAsNonRoot") or not whole.get("runAsUser") or "runAsUser" in own,
            "may make any system call": whole.get("seccompProfile") != {"type": "RuntimeDefault"},
            "may gain rights": own.get("allowPrivilegeEscalation") is not False or own.get("privileged"),
            "may write to its image": own.get("readOnlyRootFilesystem") is not True,
            "has capabilities": own.get("capabilities") != {"drop": ["ALL"]},
            "is in the node": [key for key in pod.spec if key.startswith("host")],
            "is told of all services": pod.spec.get("enableServiceLinks") is not False,  # as PREFECT_PORT=tcp://...
        }
        yield from (f"{pod.name} {what}" for what, so in wrong.items() if so)
    for (name, _), made in named(manifests, "Namespace").items():
        if made["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield f"namespace {name} takes any pod"


def images(manifests: Manifests) -> Iterator[str]:
    """Every image has a version."""
    for pod in pods(manifests):
        if not re.search(r":\d+\.\d+[\w.-]*$", pod.container["image"]):
            yield f"{pod.name}: image {pod.container['image']} has no version"


def secrets(manifests: Manifests) -> Iterator[str]:
    """Every secret is a reference to one that a person makes."""
    yield from (f"{name}: a secret among the manifests" for name, _ in named(manifests, "Secret"))
    for pod in pods(manifests):
        for entry in pod.container.get("env", []):
            value = entry.get("value", "")
            secret = re.search(r"PASSWORD$|(?<!AUTH_STRING_)SECRET_KEY$|AUTH_STRING$|TOKEN$", entry["name"])
            if re.search(r"://[^/]*:[^/]*@", value) or (secret and "secretKeyRef" not in entry.get("valueFrom", {})):
                yield f"{pod.name}: {entry['name']} is no reference"


def mounts(manifests: Manifests) -> Iterator[str]:
    """Every volume that is mounted is there, is of a claim or settings that are there, and no claim is unused."""
    claims, settings = named(manifests, "PersistentVolumeClaim"), named(manifests, "ConfigMap")
    used = set()
    for pod in pods(manifests):
        volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
        mounted = {mount["name"] for mount in pod.container["volumeMounts"]}
        yield from (f"{pod.name}: volume {name} is not mounted or not there" for name in mounted ^ volumes.keys())
        for volume in volumes.values():
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            used.add((claim, pod.namespace))
            if claim and (claim, pod.namespace) not in claims:
                yield f"{pod.name}: claim {claim} is not there"
            if "configMap" in volume and (volume["configMap"]["name"], pod.namespace) not in settings:
                yield f"{pod.name}: settings {volume['configMap']['name']} are not there"
    yield from (f"claim {name} is nobody's" for name, namespace in claims.keys() - used)


def closed(manifests: Manifests) -> Iterator[str]:
    """In every namespace a policy selects all pods and lets nothing through, and no other one selects none."""
    policies = named(manifests, "NetworkPolicy")
    for namespace in {pod.namespace for pod in pods(manifests)}:
        nothing = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
        if not [1 for (_, own), made in policies.items() if own == namespace and made["spec"] == nothing]:
            yield f"namespace {namespace} is open"
    for (name, namespace), made in policies.items():
        if not [pod for pod in pods(manifests) if selects(made, pod)]:
            yield f"policy {name} of {namespace} selects no pod"


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a selector takes something with these labels."""
    wanted = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return wanted and all(
        labels.get(one["key"]) in one["values"]
        for one in selector.get("matchExpressions", [])
        if one["operator"] == "In"
    )


def selects(policy: dict[str, Any], pod: Pod) -> bool:
    """Whether a policy is about a pod."""
    return where(policy)[1] == pod.namespace and matches(policy["spec"]["podSelector"], pod.labels)


def reaches(manifests: Manifests, one: Pod, other: Pod, port: int) -> bool:
    """Whether the policies let a pod reach another one: they must on both sides."""
    return passes(manifests, "egress", "to", one, other, port) and passes(
        manifests, "ingress", "from", other, one, port
    )


def passes(manifests: Manifests, way: str, peers: str, own: Pod, peer: Pod, port: int) -> bool:
    """Whether a pod's own policies let through what goes to a peer, or comes from it."""
    rules = [
        rule
        for made in named(manifests, "NetworkPolicy").values()
        if selects(made, own)
        for rule in made["spec"].get(way, [])
    ]
    return any(
        port in [one["port"] for one in rule["ports"]] and any(is_peer(one, own, peer) for one in rule[peers])
        for rule in rules
    )


def is_peer(rule: dict[str, Any], own: Pod, peer: Pod) -> bool:
    """Whether a rule's peer takes this pod; a block of addresses is no pod's."""
    if "ipBlock" in rule:
        return False
    namespaces = rule.get("namespaceSelector", {"matchLabels": {"kubernetes.io/metadata.name": own.namespace}})
    labels = {"kubernetes.io/metadata.name": peer.namespace}
    return matches(namespaces, labels) and matches(rule.get("podSelector", {}), peer.labels)


def beyond(manifests: Manifests) -> set[str]:
    """The pods that may reach addresses that are no pod's."""
    policies = named(manifests, "NetworkPolicy").values()
    outside = [made for made in policies if "ipBlock" in str(made["spec"].get("egress"))]
    return {pod.name for made in outside for pod in pods(manifests) if selects(made, pod)}


def ports(pod: Pod) -> dict[str, int]:
    """A pod's ports by their names."""
    return {port["name"]: port["containerPort"] for port in pod.container.get("ports", [])}


def services(manifests: Manifests) -> Iterator[str]:
    """Every service leads to one pod's port, and has the number that its address tells."""
    for (name, namespace), made in named(manifests, "Service").items():
        [told], selector = made["spec"]["ports"], {"matchLabels": made["spec"]["selector"]}
        behind = [pod for pod in pods(manifests) if pod.namespace == namespace and matches(selector, pod.labels)]
        if [ports(pod).get(told["targetPort"]) for pod in behind] != [told["port"]]:
            yield f"service {name} leads nowhere"


def watched(manifests: Manifests) -> Iterator[str]:
    """What runs for long tells how it is; every pod asks for what it needs and is bounded in memory."""
    for pod in pods(manifests):
        resources = pod.container.get("resources", {})
        if resources.get("requests", {}).keys() != {"cpu", "memory"} or "memory" not in resources.get("limits", {}):
            yield f"{pod.name} asks for nothing, or is not bounded"
        probes = {"startupProbe", "readinessProbe", "livenessProbe"}
        if pod.kind != "PodTemplate" and not all(pod.container.get(probe) for probe in probes):
            yield f"{pod.name} is not watched"
        for probe in probes & pod.container.keys():
            asked = pod.container[probe].get("httpGet", {}).get("port")
            if asked is not None and asked not in ports(pod):
                yield f"{pod.name}: {probe} asks at a port that is not there"


def addresses(manifests: Manifests) -> Iterator[str]:
    """Every address names a service, and the policies let the pod reach it."""
    known = {(name, namespace): made for (name, namespace), made in named(manifests, "Service").items()}
    for pod in pods(manifests):
        text = " ".join(str(entry.get("value", "")) for entry in pod.container.get("env", []))
        for host, port in re.findall(r"(?://|@)([a-z][a-z.-]*):(\d+)", text):
            name, _, namespace = host.partition(".")
            service = known.get((name, namespace or pod.namespace))
            if service is None or service["spec"]["ports"][0]["port"] != int(port):
                yield f"{pod.name}: {host}:{port} is no service"
                continue
            selector = {"matchLabels": service["spec"]["selector"]}
            behind = [other for other in pods(manifests) if matches(selector, other.labels)]
            if not all(reaches(manifests, pod, other, int(port)) for other in behind):
                yield f"{pod.name} may not reach {host}:{port}"


def accounts(manifests: Manifests) -> Iterator[str]:
    """The worker alone has a token, of a role that reads no secret and knows no `*`."""
    known = named(manifests, "ServiceAccount")
    for pod in pods(manifests):
        if pod.spec.get("automountServiceAccountToken") is not (pod.name == "worker"):
            yield f"{pod.name} has a token, or lacks its own"
        account = pod.spec.get("serviceAccountName")
        if account and (account, pod.namespace) not in known:
            yield f"{pod.name}: account {account} is not there"
    yield from (f"{name}: a role of the whole cluster" for name, _ in named(manifests, "ClusterRole"))
    for (name, _), made in named(manifests, "Role").items():
        words = [word for rule in made["rules"] for words in rule.values() for word in words]
        if {"secrets", "*", "pods/exec"} & set(words):
            yield f"role {name} may do too much"
