"""Which events end a job, and which names of events are taken."""

from __future__ import annotations

from typing import Any

import pytest

from classifaily_connectors import ConfigurationError
from classifaily_connectors.events import JOB_EVENTS, checked_event_names, ends_job


@pytest.mark.parametrize("event", [*JOB_EVENTS, "video.completed", "import.failed"])
def test_what_ends_a_job(event: str) -> None:
    assert ends_job(event)


@pytest.mark.parametrize(
    "event", ["job.started", "batch.progress", "job.completed.soon", "completed", "failed", "", "*"]
)
def test_what_does_not(event: str) -> None:
    assert not ends_job(event)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("job.completed", ("job.completed",)),
        (["batch.completed", "job.completed", "job.completed"], ("job.completed", "batch.completed")),
        ({"job.failed", "job.completed"}, ("job.completed", "job.failed")),
        (iter(["*"]), ("*",)),
    ],
)
def test_names_have_one_order(given: Any, names: tuple[str, ...]) -> None:
    assert checked_event_names(given) == names


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "on is empty"),
        ("", "there is no event ''"),
        ("job.complete", "did you mean 'job.completed'"),
        (["Job.Completed"], "there is no event 'Job.Completed'"),
        ([7], "not int"),
        (7, "not int"),
        (None, "not NoneType"),
    ],
)
def test_anything_else_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        checked_event_names(given, name="on")
