#!/usr/bin/env bash
# Bring the deployments of prefect.yaml, their work pool and the automations to the Prefect server.
set -euo pipefail
cd "$(dirname "$0")/.."
export INSTRUCTFLOW_ROOT=$PWD PREFECT_LOGGING_LEVEL=WARNING
python -c 'import sys, httpx, os; httpx.get(os.environ["PREFECT_API_URL"] + "/health").raise_for_status()' 2>/dev/null || {
  echo "error: no Prefect server answers at $PREFECT_API_URL; start one with: make server" >&2
  exit 1
}
prefect work-pool create --type process --overwrite instructflow
prefect --no-prompt deploy --all
python -m flows.automations
