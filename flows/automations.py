"""python -m flows.automations: what the Prefect server does by itself, brought to it by `make deploy`.

A run whose process died is crashed, so that the next one may begin. Changed data and fallen scores begin a retraining.
Who keeps a notification block named `instructflow` on the server (e-mail, a webhook) is told what was promoted or
refused, what failed, and what is stuck.
"""

import contextlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import typer
from prefect import get_client
from prefect.automations import Automation
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events import actions
from prefect.events.schemas.automations import EventTrigger, Posture
from prefect.settings import get_current_settings

from flows.evaluate import FALLEN, FALLEN_STATE
from flows.retrain import DECIDED, EVENT, NOTHING
from tasks import errors

CHANGED = "instructflow.source.changed"
"""The event that a watcher or a webhook sends when data changed: `prefect events emit` does."""

STUCK = timedelta(hours=12)
"""A run that takes so long is stuck."""

RUN = "prefect.flow-run."
ENDED = {f"{RUN}{name}" for name in ("Completed", "Failed", "Cancelled", "Crashed", NOTHING, *DECIDED, FALLEN_STATE)}
"""What the server tells of a run's end: its state by name, and ours have names of their own."""

EACH: dict[str, Any] = {"match": {"prefect.resource.id": f"{RUN}*"}, "for_each": {"prefect.resource.id"}}

DEPLOYED: dict[str, Any] = {"match_related": {"prefect.resource.role": "deployment"}}
"""Of runs that a worker began: a flow within another one, or a person's, sends no heartbeats."""

BLOCK = "instructflow"


def silent() -> timedelta:
    """So long without a heartbeat a run is dead: three that were due did not come, and a minute for a busy server.

    How often they are sent is Prefect's setting, in the environment of worker and deployment: ten minutes by default.
    """
    return timedelta(seconds=3 * (get_current_settings().flows.heartbeat_frequency or 180) + 60)


def wanted(retrain: UUID, block: UUID | None) -> Iterator[Automation]:
    """Every automation: of the deployment `retrain`, and of the notification block where there is one."""
    beat = f"{RUN}heartbeat"
    make: Any = actions  # the fields with defaults are not seen as such by type checkers
    dead = make.ChangeFlowRunState(state=StateType.CRASHED, message="no heartbeat: its process is dead")
    for name, after, only in (("dead runs", beat, {}), ("runs that died at once", f"{RUN}Running", DEPLOYED)):
        quiet = EventTrigger(
            after={after},
            expect={beat, *ENDED},
            posture=Posture.Proactive,
            threshold=1,
            within=silent(),
            **EACH,
            **only,
        )
        yield Automation(name=f"instructflow: {name}", trigger=quiet, actions=[dead])
    for event, why in ((CHANGED, "changed data"), (FALLEN, "fallen scores")):
        trigger = EventTrigger(expect={event}, posture=Posture.Reactive, threshold=1)
        begin = make.RunDeployment(deployment_id=retrain, parameters={"again": event == FALLEN})
        yield Automation(name=f"instructflow: retrain on {why}", trigger=trigger, actions=[begin])
    if block is not None:
        yield from notifications(block)


def notifications(block: UUID) -> Iterator[Automation]:
    """What is told through the block."""
    decided = EventTrigger(expect={f"{EVENT}.*"}, posture=Posture.Reactive, threshold=1)
    body = "{{ event.event }}: version {{ event.payload.version }}, {{ event.payload.why }}"
    told = actions.SendNotification(block_document_id=block, subject="instructflow: {{ event.event }}", body=body)
    yield Automation(name="instructflow: tell decisions", trigger=decided, actions=[told])
    failed = {f"{RUN}Failed", f"{RUN}Crashed"}
    broken = EventTrigger(expect=failed, posture=Posture.Reactive, threshold=1, **EACH)
    long = EventTrigger(
        after={f"{RUN}Running"}, expect=ENDED, posture=Posture.Proactive, threshold=1, within=STUCK, **EACH
    )
    for name, trigger, what in (("failures", broken, "failed"), ("stuck runs", long, "is stuck")):
        told = actions.SendNotification(
            block_document_id=block,
            subject=f"instructflow: a run {what}",
            body=f"{{{{ flow_run.name }}}} {what}: {{{{ flow_run|ui_url }}}}",
        )
        yield Automation(name=f"instructflow: tell {name}", trigger=trigger, actions=[told])


def notification_block(client: SyncPrefectClient) -> UUID | None:
    """The block by which people are told, of whichever type; None where nobody made one."""
    return next((found.id for found in client.read_block_documents() if found.name == BLOCK), None)


def bring(automation: Automation) -> None:
    """Bring an automation to the server, in the place of the one of the same name; one that is there already stays.

    A new one does not know of the runs that are under way.
    """
    with contextlib.suppress(ValueError):  # it is not there yet
        stored: Any = Automation.read(name=automation.name)
        if told(stored) == told(automation):
            return
        stored.delete()
    automation.create()


def told(automation: Automation) -> Any:
    """What an automation does, apart from the server's own numbers."""
    return plain(automation.model_dump(mode="json", include={"description", "enabled", "trigger", "actions"}))


def plain(value: Any) -> Any:
    """The value without ids, with lists in one order."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items() if name != "id"}
    return sorted(map(plain, value), key=str) if isinstance(value, list) else value


def main() -> None:
    """Bring what the server does by itself to the server at PREFECT_API_URL."""
    with get_client(sync_client=True) as client:
        retrain, block = client.read_deployment_by_name("retrain/retrain").id, notification_block(client)
    for automation in wanted(retrain, block):
        bring(automation)
        print(automation.name)
    if block is None:
        print(f"nobody is told: make a notification block named {BLOCK} on the server, then deploy again")


if __name__ == "__main__":
    errors.run(lambda: typer.run(main))
