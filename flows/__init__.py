"""When and where the pipeline is computed. Stages and their order come from dvc.yaml; no stage is named here."""

import os

# On two cores, a first start makes its data base for longer than Prefect's own limit of 20 seconds.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "180")
# Nothing about a run leaves the machine.
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
