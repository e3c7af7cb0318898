"""python -m flows.worker OPTIONS: Prefect's worker, which first tells the server of runs that died with the last one.

A worker that is stopped ends the run that it had. The server notices that after minutes of silence, and lets none of
its kind begin meanwhile.
"""

import os
import sys
import time
from uuid import UUID

from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.exceptions import ObjectNotFound
from prefect.settings import PREFECT_API_URL
from prefect.states import Crashed

from flows import attempts
from tasks import errors
from tasks.errors import UserError

PATIENCE = 120
"""Seconds in which the server has to answer; it may have been started at the same moment."""


def tell() -> None:
    """Crash the runs that ended on this machine without a word, and those that they had begun."""
    with get_client(sync_client=True) as client:
        for identity in attempts.dead():
            try:
                own = [client.read_flow_run(UUID(identity))]
            except ObjectNotFound:
                continue
            within = {"parent_flow_run_id": {"any_": [identity]}}
            own += client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(within))
            for run in own:
                if run.state and not run.state.is_final():
                    client.set_flow_run_state(run.id, Crashed(message="its process is dead"), force=True)
                    print(f"{run.name} had died; what it had done is kept, and the next run goes on from there")


def wait() -> None:
    """Return as soon as the server answers. Raises UserError where it does not."""
    end, address = time.monotonic() + PATIENCE, PREFECT_API_URL.value()
    print(f"waiting for the Prefect server at {address}", flush=True)
    while True:
        with get_client(sync_client=True) as client:
            if (error := client.api_healthcheck()) is None:
                return
            if time.monotonic() > end:
                raise UserError(f"no Prefect server answers at {address}: {error}; start one with: make server")
        time.sleep(1)


def main() -> None:
    """Tell, and be the worker."""
    wait()
    tell()
    os.execv(sys.executable, [sys.executable, "-m", "prefect", "worker", "start", *sys.argv[1:]])  # noqa: S606


if __name__ == "__main__":
    errors.run(main)
