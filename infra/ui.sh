#!/usr/bin/env bash
# MLflow and Prefect on loopback, until Ctrl-C. They show the embedded default: ./mlflow.db and Prefect's own data base.
set -euo pipefail
mkdir -p build
tracking=${MLFLOW_TRACKING_URI:-sqlite:///$PWD/mlflow.db}
# Nothing here asks MLflow for jobs, and their four workers would take half a minute to start.
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
trap 'kill $(jobs -p) 2>/dev/null' EXIT
mlflow server --backend-store-uri "$tracking" --host 127.0.0.1 --port "${MLFLOW_PORT:-5000}" >build/mlflow-ui.log 2>&1 &
prefect server start --host 127.0.0.1 --port "${PREFECT_PORT:-4200}" >build/prefect-ui.log 2>&1 &
for address in "http://127.0.0.1:${MLFLOW_PORT:-5000}/health" "http://127.0.0.1:${PREFECT_PORT:-4200}/api/health"; do
  until python -c "import urllib.request, sys; urllib.request.urlopen(sys.argv[1])" "$address" 2>/dev/null; do
    kill -0 $(jobs -p) || { echo "error: a server did not start; see build/*-ui.log"; exit 1; }
    sleep 1
  done
done
echo "MLflow:  http://127.0.0.1:${MLFLOW_PORT:-5000}"
echo "Prefect: http://127.0.0.1:${PREFECT_PORT:-4200}"
echo "Ctrl-C stops both."
wait
