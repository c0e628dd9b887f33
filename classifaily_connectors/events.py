"""The names of the API's webhook events (API reference, Webhooks), and which of them end a job."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

from classifaily_connectors.errors import ConfigurationError

JOB_EVENTS = ("job.completed", "job.failed", "batch.completed", "batch.failed")
"""The events that end a job; `batch.failed` is not documented, and read all the same."""
ALL_EVENTS = "*"
_ENDS = (".completed", ".failed")


def ends_job(event: str) -> bool:
    """Whether a delivery of this event means that its job has ended: `*.completed` and `*.failed` alone do.

    Others, such as `job.started` or `batch.progress`, tell of a job that runs on.
    """
    return event.endswith(_ENDS)


def status_after(event: str) -> str:
    """The status of a job of which nothing is known but its webhook's event."""
    return event.rpartition(".")[2] if ends_job(event) else "processing"


def _listed(given: Any) -> list[Any]:
    try:
        return list(given)
    except TypeError:
        return [given]


def checked_event_names(events: str | Iterable[str], *, name: str = "events") -> tuple[str, ...]:
    """The events that a caller waits for, each once, in a fixed order; one name may stand alone.

    Raises ConfigurationError, which names `name`, for no event, for what is no list of names, and for a name that the
    API does not send.
    """
    names: list[Any] = [events] if isinstance(events, str) else _listed(events)
    if not names:
        raise ConfigurationError(f"{name} is empty: name at least one of {', '.join(JOB_EVENTS)}")
    for each in names:
        if not isinstance(each, str):
            raise ConfigurationError(f"{name} must be names such as {JOB_EVENTS[0]!r}, not {type(each).__name__}")
        if each not in (*JOB_EVENTS, ALL_EVENTS):
            near = difflib.get_close_matches(each, JOB_EVENTS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the API sends {', '.join(JOB_EVENTS)}"
            raise ConfigurationError(f"{name}: there is no event {each!r}: {hint}")
    return tuple(sorted(set(names), key=[*JOB_EVENTS, ALL_EVENTS].index))
