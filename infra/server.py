"""python -m infra.server: MLflow and Prefect for a team of one, on this machine alone, until Ctrl-C.

They keep what they know in ./mlflow.db, ./mlartifacts and Prefect's own data base, those that a run without servers
uses too.
"""

import signal
import time

from infra import servers
from infra.servers import Server
from tasks import errors, settings
from tasks.errors import UserError

NAMES = {"mlflow": "MLflow", "prefect": "Prefect"}


def main() -> None:
    """Start both, print where they answer, and end both when this is ended or one of them ends."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    both = [mlflow(), servers.prefect(servers.integer("PREFECT_PORT", 4200), settings.BUILD / "prefect-server.log", {})]
    servers.start(both)
    try:
        for server in both:
            print(f"{NAMES[server.name] + ':':9}{server.address}", flush=True)
        print("Ctrl-C stops both.", flush=True)
        while all(server.runs() for server in both):
            time.sleep(1)
        raise UserError("a server ended; see build/*-server.log")
    finally:
        servers.stop(both)


def mlflow() -> Server:
    """The MLflow server on the data base that runs without a server write to."""
    store = settings.tracking_uri()
    if store.startswith("http"):
        raise UserError(f"MLFLOW_TRACKING_URI={store} is a server already; unset it to start one here")
    log = settings.BUILD / "mlflow-server.log"
    environment = {"MLFLOW_BACKEND_STORE_URI": store}
    port = servers.integer("MLFLOW_PORT", 5000)
    return servers.mlflow(port, log, settings.home() / "mlartifacts", environment, "--workers", "1")


if __name__ == "__main__":
    errors.run(main)
