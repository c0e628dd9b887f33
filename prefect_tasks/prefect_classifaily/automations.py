"""The other way to go on when a job has ended: a deployment of its own, started by our event.

The law of this file: an automation is known by its name, so asking for it again changes it and never makes a second.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

from prefect import get_client
from prefect.blocks.core import Block
from prefect.events.actions import RunDeployment
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from pydantic import SecretBytes, SecretStr

from classifaily_connectors import ConfigurationError
from classifaily_connectors.events import checked_event_names
from prefect_classifaily.events import COMPLETED, FAILED, PREFIX, event_name

if TYPE_CHECKING:
    from uuid import UUID

JOB_ID = {"__prefect_kind": "jinja", "template": "{{ event.payload.job_id }}"}
"""A deployment's parameter that becomes the job's id."""


def start_on_job(
    deployment: str,
    *,
    name: str | None = None,
    parameters: Mapping[str, Any] | None = None,
    on: str | Collection[str] = (COMPLETED, FAILED),
    source: str = "default",
) -> UUID:
    """See to it that the deployment ("flow-name/deployment-name") starts whenever a job has ended; the automation's id.

    The flow gets the job's id as its parameter `job_id`, and `parameters` as they are (`{"__prefect_kind": "jinja",
    "template": …}` may use `event.payload`: `job_id`, `event`, `source`). `on` are the events, by the webhook's name
    or by Prefect's: `job.completed` is `classifaily.job.completed`. `source` is the webhook's account or environment.

    A delivery may come twice, though its event hardly ever does: what must happen once is to be guarded by the job's
    id. Raises ConfigurationError for a deployment that does not exist, an event that the API does not send, and
    parameters that Prefect cannot store as they are: a block, a secret, or what is no JSON.
    """
    trigger, given = _trigger(on, source), _checked_parameters(parameters)
    with get_client(sync_client=True) as client:
        with _naming(deployment):
            target = client.read_deployment_by_name(deployment)
        wanted = _automation(name or _named(deployment), target.id, given, trigger)
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
    on: str | Collection[str] = (COMPLETED, FAILED),
    source: str = "default",
) -> UUID:
    """The async twin of `start_on_job`; see there."""
    trigger, given = _trigger(on, source), _checked_parameters(parameters)
    async with get_client() as client:
        with _naming(deployment):
            target = await client.read_deployment_by_name(deployment)
        wanted = _automation(name or _named(deployment), target.id, given, trigger)
        found = await client.read_automations_by_name(wanted.name)
        if not found:
            return await client.create_automation(wanted)
        await client.update_automation(found[0].id, wanted)
        return found[0].id


def _named(deployment: str) -> str:
    return f"classifaily: {deployment}"


@contextmanager
def _naming(deployment: str) -> Generator[None]:
    try:
        yield
    except (ObjectNotFound, ValueError):  # ValueError: Prefect splits the name at its one slash
        raise ConfigurationError(
            f"there is no deployment {deployment!r}: name it 'flow-name/deployment-name', as in the UI"
        ) from None


def _trigger(on: str | Collection[str], source: str) -> EventTrigger:
    events = [on] if isinstance(on, str) else on
    names = checked_event_names([each.removeprefix(PREFIX) for each in events], name="on")
    return EventTrigger(
        expect={event_name(each) for each in names},
        match={"classifaily.source": source},
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )


def _checked_parameters(parameters: Mapping[str, Any] | None) -> dict[str, Any]:
    given = dict(parameters or {})
    for name, value in given.items():
        if _holds_secret(value):
            raise ConfigurationError(
                f"parameters[{name!r}] holds a block or a secret, which Prefect stores as asterisks: "
                "pass the block's name, and load it in the flow"
            )
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            raise ConfigurationError(f"parameters[{name!r}] cannot be written as JSON, as Prefect stores it") from None
    return given


def _holds_secret(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_secret, cast("Mapping[object, object]", value).values()))
    if isinstance(value, list | tuple | set):
        return any(map(_holds_secret, cast("Collection[object]", value)))
    return isinstance(value, Block | SecretStr | SecretBytes)


def _automation(name: str, deployment_id: UUID, parameters: Mapping[str, Any], trigger: EventTrigger) -> AutomationCore:
    start = RunDeployment(
        source="selected",
        deployment_id=deployment_id,
        parameters={"job_id": JOB_ID, **parameters},
        job_variables=None,
    )
    return AutomationCore(
        name=name,
        description="Starts the deployment when a ClassifAIly job has ended.",
        trigger=trigger,
        actions=[start],
    )
