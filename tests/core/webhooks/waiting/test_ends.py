"""Only the end of a job ends a wait: an event that tells of its beginning or progress ends none, and keeps what is
expected."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import JobTimeoutError
from classifaily_connectors.events import ends_job
from classifaily_connectors.models import WebhookEvent
from classifaily_connectors.webhooks import check_job, parse_event, wait_for_job
from classifaily_connectors.webhooks.intake import read
from classifaily_connectors.webhooks.reconciling import reconcile

if TYPE_CHECKING:
    from classifaily_connectors.store import Inbox

BEGINNINGS = ("job.started", "job.progress", "batch.progress", "job.completed.partial", "completed", "job.retried", "")


def put(inbox: Inbox, event: str, job_id: str, **more: object) -> None:
    body = json.dumps({"event": event, "id": job_id, **more}).encode()
    inbox.put([read("default", body, time.time())])


@pytest.mark.parametrize("event", ["job.completed", "job.failed", "batch.completed", "batch.failed", "video.completed"])
def test_ends(event: str) -> None:
    assert ends_job(event)
    job = parse_event(json.dumps({"event": event, "id": 1, "result": None}).encode()).job
    assert job.done
    assert job.failed == event.endswith("failed")


@pytest.mark.parametrize("event", BEGINNINGS)
def test_what_is_no_end(event: str) -> None:
    assert not ends_job(event)
    assert not WebhookEvent(event=event, id="1").job.done


def test_progress_ends_no_wait(yard: Any) -> None:
    inbox = yard.inbox
    put(inbox, "batch.progress", "batch_1", meta={"done": 1, "total": 500})
    assert check_job(yard.client, "batch_1", store=yard.store) is None
    with pytest.raises(JobTimeoutError):
        wait_for_job(yard.client, "batch_1", store=yard.store, deadline=time.time() + 1)
    assert [each.job_id for each in inbox.expected()] == ["batch_1"]
    put(inbox, "batch.completed", "batch_1", result=None)
    put(inbox, "batch.progress", "batch_1", meta={"done": 499, "total": 500})  # late, and after the end
    found = check_job(yard.client, "batch_1", store=yard.store)
    assert found is not None
    assert found.job.status == "completed"
    assert inbox.expected() == []


def test_a_beginning_settles_no_expectation(yard: Any) -> None:
    job_id = yard.submit()[0]  # the sandbox's clock stands: it runs on
    yard.inbox.expect("default", [job_id])
    put(yard.inbox, "job.started", job_id)
    done = reconcile(yard.client, yard.inbox)
    assert (done.settled, done.left) == (0, 1)
    assert [each.job_id for each in yard.inbox.expected()] == [job_id]
