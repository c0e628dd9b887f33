"""Settling by the API what the store cannot know by itself.

The law of this file: `GET /jobs` is the truth. Of deliveries that contradict each other it says which one holds; of a
job that somebody expected, and perhaps nobody waits for any more, whether it has ended. What the API does not know
stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifaily_connectors.errors import NotFoundError
from classifaily_connectors.webhooks.waiting import told

if TYPE_CHECKING:
    from classifaily_connectors.client import ClassifailyClient
    from classifaily_connectors.models import Job
    from classifaily_connectors.store import Delivery, Inbox

_PAGE = 500
_MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a reconciliation did: `confirmed` and `refuted` deliveries of conflicts, expectations `settled` (of them
    `lost` without a webhook), and how many questions are `left` open, as their jobs run on or are unknown."""

    confirmed: int
    refuted: int
    settled: int
    lost: int
    left: int


def reconcile(client: ClassifailyClient, inbox: Inbox, *, source: str | None = None) -> Reconciled:
    """Ask the API about every conflict and every open expectation, of one source or (with one account) of all."""
    confirmed, refuted, open_conflicts = _conflicts(client, inbox, source)
    settled = lost = left = 0
    for each in inbox.expected(source, limit=_MOST):
        if inbox.find(each.source, [each.job_id]):
            settled += inbox.settle(each.source, [each.job_id], by="webhook")
        elif _ended(client, each.job_id):
            ours = inbox.settle(each.source, [each.job_id], by="poll")
            settled, lost = settled + ours, lost + ours
        else:
            left += 1
    return Reconciled(confirmed, refuted, settled, lost, open_conflicts + left)


def _conflicts(client: ClassifailyClient, inbox: Inbox, source: str | None) -> tuple[int, int, int]:
    rivals: dict[tuple[str, str, str], list[Delivery]] = {}
    for each in _all(inbox, source):
        rivals.setdefault((each.source, each.job_id, each.event), []).append(each)
    confirmed = refuted = left = 0
    for (_source, job_id, _event), deliveries in rivals.items():
        job = _ended(client, job_id)
        if job is None:
            left += len(deliveries)
            continue
        true = next((each for each in deliveries if _agrees(inbox.get(each.seq), job)), None)
        if true is not None and inbox.resolve(true.seq):
            confirmed, refuted = confirmed + 1, refuted + len(deliveries) - 1
        else:
            refuted += sum(inbox.resolve(each.seq, holds=False) for each in deliveries)
    return confirmed, refuted, left


def _all(inbox: Inbox, source: str | None) -> Iterator[Delivery]:
    seq = 0
    while page := inbox.entries(after=seq, source=source, state="conflict", limit=_PAGE):
        yield from page
        seq = page[-1].seq


def _ended(client: ClassifailyClient, job_id: str) -> Job | None:
    try:
        job = client.jobs.get(job_id)
    except NotFoundError:
        return None
    return job if job.done else None


def _agrees(delivery: Delivery | None, job: Job) -> bool:
    """Whether a delivery says of the job what the job says; one without a result need only know how it ended."""
    if delivery is None:
        return False
    said = told(delivery)
    return said.failed == job.failed and (not said.labels or said.labels == job.labels)
