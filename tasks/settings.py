"""Settings: addresses that belong to the machine and not to a run, taken from the environment."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
"""The repository's root: every stage runs in it."""

BUILD = Path("build")
"""What no stage declares: timings, links, rejects of a stopped run, checkpoints."""


HOME = "INSTRUCTFLOW_HOME"
"""The variable by which a scheduled run tells its stages the root of the user's repository."""


CLUSTER = "INSTRUCTFLOW_CLUSTER"
"""The variable by which a stage on a node of a Ray cluster knows the cluster's address."""


def cluster() -> str:
    """The address of the Ray cluster over which this stage may spread its work; empty where it runs by itself."""
    return os.environ.get(CLUSTER, "")


PART_GPUS = "INSTRUCTFLOW_PART_GPUS"
"""The variable by which such a stage knows how many GPUs each part of its work asks for."""


def part_gpus() -> float:
    """GPUs that each part of this stage's work asks for on the cluster."""
    return float(os.environ.get(PART_GPUS, 0))


def experiment() -> str:
    """The name of the DVC experiment that this stage runs for, a variant; empty in `dvc repro` and in a flow."""
    return os.environ.get("DVC_EXP_NAME", "")


def home() -> Path:
    """The root of the user's repository: this one, but in an experiment and a scheduled run, which have checkouts."""
    return Path(os.environ["DVC_ROOT"] if experiment() else os.environ.get(HOME) or ROOT)


def tracking_uri() -> str:
    """MLflow's address: `MLFLOW_TRACKING_URI`, or an SQLite file in the repository's folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


def artifact_root() -> str | None:
    """Where a new experiment keeps its files: a folder beside the SQLite file; None lets a server decide."""
    return None if os.environ.get("MLFLOW_TRACKING_URI") else (home() / "mlartifacts").as_uri()


def tracking_page() -> str:
    """Where a person opens MLflow: the server itself, or the page that `make ui` starts."""
    address = tracking_uri()
    return address if address.startswith("http") else "http://127.0.0.1:5000"
