"""The other way to go on when a job has ended: a deployment of its own, started by our event.

The law of this file: an automation is known by its name, so asking for it again changes it and never makes a second.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from prefect import get_client
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

from prefect_classifaily.events import COMPLETED, FAILED

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from uuid import UUID

JOB_ID = {"__prefect_kind": "jinja", "template": "{{ event.payload.job_id }}"}
"""A deployment's parameter that becomes the job's id."""


def start_on_job(
    deployment: str,
    *,
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    on: Collection[str] = (COMPLETED, FAILED),
    source: str = "default",
) -> UUID:
    """See to it that the deployment ("flow-name/deployment-name") starts whenever a job has ended; the automation's id.

    The flow gets the job's id as its parameter `job_id`, and `parameters` as they are (`{"__prefect_kind": "jinja",
    "template": …}` may use `event.payload`: `job_id`, `event`, `source`). `on` are the events, also
    `classifaily.batch.completed`; `source` is the webhook's account or environment.

    A delivery may come twice, though its event hardly ever does: what must happen once is to be guarded by the job's
    id. Raises Prefect's ObjectNotFound for a deployment that there is not.
    """
    with get_client(sync_client=True) as client:
        found_deployment = client.read_deployment_by_name(deployment)
        wanted = _automation(name or _named(deployment), found_deployment.id, parameters, on, source)
        found = client.read_automations_by_name(wanted.name)
        if not found:
            return client.create_automation(wanted)
        client.update_automation(found[0].id, wanted)
        return found[0].id


async def astart_on_job(
    deployment: str,
    *,
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    on: Collection[str] = (COMPLETED, FAILED),
    source: str = "default",
) -> UUID:
    """The async twin of `start_on_job`; see there."""
    async with get_client() as client:
        found_deployment = await client.read_deployment_by_name(deployment)
        wanted = _automation(name or _named(deployment), found_deployment.id, parameters, on, source)
        found = await client.read_automations_by_name(wanted.name)
        if not found:
            return await client.create_automation(wanted)
        await client.update_automation(found[0].id, wanted)
        return found[0].id


def _named(deployment: str) -> str:
    return f"classifaily: {deployment}"


def _automation(
    name: str, deployment_id: UUID, parameters: Mapping[str, Any] | None, on: Collection[str], source: str
) -> AutomationCore:
    trigger = EventTrigger(
        expect=set(on),
        match={"classifaily.source": source},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )
    start = RunDeployment(
        source="selected",
        deployment_id=deployment_id,
        parameters={"job_id": JOB_ID, **(parameters or {})},
        job_variables=None,
    )
    return AutomationCore(
        name=name,
        description="Starts the deployment when a ClassifAIly job has ended.",
        trigger=trigger,
        actions=[start],
    )
