"""What jobs are called in Prefect: events, their resources, and how a suspended run says what it waits for.

The law of this file: names and ids are made from a delivery alone, so whoever tells of it twice, or in two places,
says the same; and they hold ids only, never a label or an input.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

if TYPE_CHECKING:
    from collections.abc import Iterable

    from classifaily_connectors import Job

PREFIX = "classifaily."
COMPLETED, FAILED = "classifaily.job.completed", "classifaily.job.failed"
WAITING = "classifaily-job"
"""The tag of every run that is suspended until a job ends; `classifaily-job:ID` says which."""


def event_name(event: str) -> str:
    """Prefect's name for a webhook's event: `classifaily.job.completed` for `job.completed`."""
    return f"{PREFIX}{event}"


def event_of(job: Job) -> str:
    """The webhook's event that tells of this job."""
    kind = "batch" if job.results else "job"
    return f"{kind}.failed" if job.failed else f"{kind}.completed"


def resource_id(job_id: str) -> str:
    """The resource that a job's events are about."""
    return f"classifaily.job.{job_id}"


def event_id(source: str, event: str, job_id: str, redriven: int = 0) -> UUID:
    """The same for the same delivery, whoever emits it; a redriven one is another."""
    return uuid5(NAMESPACE_URL, f"classifaily:{source}:{event}:{job_id}:{redriven}")


def event_body(source: str, event: str, job_id: str, *, settled_by: str, redriven: int = 0) -> dict[str, Any]:
    """An event as Prefect's API takes it; the payload holds `job_id`, `event`, `source`, `settled_by`, `redriven`."""
    payload = {"job_id": job_id, "event": event, "source": source, "settled_by": settled_by, "redriven": redriven}
    return {
        "id": str(event_id(source, event, job_id, redriven)),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event_name(event),
        "resource": {"prefect.resource.id": resource_id(job_id), "classifaily.source": source},
        "payload": payload,
    }


def tag(job_id: str) -> str:
    """The tag of a run that waits for this job."""
    return f"{WAITING}:{job_id}"


def pause_key(job_id: str) -> str:
    """A key for one suspension. Prefect suspends no run twice under one key, hence the rest."""
    return f"{tag(job_id)}:{uuid4().hex}"


def job_of(key: str | None) -> str | None:
    """The job that a run suspended under this key waits for; None when it was suspended for another reason."""
    if key is None or not key.startswith(f"{WAITING}:"):
        return None
    return key.removeprefix(f"{WAITING}:").rpartition(":")[0]


def jobs_of(tags: Iterable[str]) -> set[str]:
    """The jobs that a run with these tags waits for; it may be several."""
    return {each.removeprefix(f"{WAITING}:") for each in tags if each.startswith(f"{WAITING}:")}
