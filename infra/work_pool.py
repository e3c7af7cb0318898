"""kubectl kustomize infra/kubernetes/gpu | python -m infra.work_pool: the work pool's template, with that pod.

A flow run's pod is the PodTemplate `flow-run` of the manifests, so that overlays change it as they change all else.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from tasks import errors
from tasks.errors import UserError

TEMPLATE = Path(__file__).with_name("kubernetes") / "work-pool.json"
POD = "flow-run"

# Prefect's worker looks for these two in the pod, where Kubernetes has no such fields and passes over them.
_ASKED = {"parallelism": 1, "completions": 1}


def template(manifests: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The base job template whose jobs start the manifests' pod of a flow run."""
    pods = [made["template"] for made in manifests if (made["kind"], made["metadata"]["name"]) == ("PodTemplate", POD)]
    if len(pods) != 1:
        raise UserError(f"{len(pods)} PodTemplates are named {POD!r} among the manifests; one is right")
    made: dict[str, Any] = json.loads(TEMPLATE.read_text(encoding="utf-8"))
    job = made["job_configuration"]["job_manifest"]
    job["spec"]["template"] = pods[0] | {"spec": _ASKED | pods[0]["spec"]}
    return made


def main() -> None:
    """Read manifests, write the template."""
    print(json.dumps(template(filter(None, yaml.safe_load_all(sys.stdin))), indent=2))


if __name__ == "__main__":
    errors.run(main)
