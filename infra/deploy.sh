#!/usr/bin/env bash
# Bring the deployments of prefect.yaml, their work pool and the automations to the Prefect server. The pool is that of
# `make worker`; where a kustomization is named (infra/kubernetes/gpu) it is the cluster's, and needs kubectl.
set -euo pipefail
cd "$(dirname "$0")/.."
export PREFECT_LOGGING_LEVEL=WARNING
python -c 'import sys, httpx, os; httpx.get(os.environ["PREFECT_API_URL"] + "/health").raise_for_status()' 2>/dev/null || {
  echo "error: no Prefect server answers at $PREFECT_API_URL; start one with: make server" >&2
  exit 1
}
if [ $# = 0 ]; then
  export INSTRUCTFLOW_POOL=instructflow INSTRUCTFLOW_ROOT=$PWD
  prefect work-pool create --type process --overwrite "$INSTRUCTFLOW_POOL"
else
  export INSTRUCTFLOW_POOL=instructflow-kubernetes INSTRUCTFLOW_ROOT=/srv/instructflow
  mkdir -p build
  kubectl kustomize "$1" | python -m infra.work_pool >build/work-pool.json
  prefect work-pool create --type kubernetes --overwrite --base-job-template build/work-pool.json "$INSTRUCTFLOW_POOL"
fi
prefect --no-prompt deploy --all
python -m flows.automations
