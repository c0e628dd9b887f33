"""What the inbox keeps and tells; needs no database to be imported."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Landed = Literal["new", "repeat", "conflict", "dead"]
"""What became of an arrival: stored, known already, kept beside another of its name, or kept though unreadable."""
SettledBy = Literal["webhook", "poll"]

PROBE = "-health"
"""The consumer whose mark is set to find out whether the store can be written to; no reader."""
CHANNEL = "classifaily_delivery"
"""PostgreSQL's NOTIFY channel: one notification, without a payload, for every commit that brought something new."""


class Arrival(NamedTuple):
    """A verified delivery on its way into the inbox.

    `digest` tells two deliveries of one name apart; `event` is empty when the body could not be read, and the
    delivery is then known by its digest. Times are seconds since the epoch; `sent_at` is the sender's word.
    """

    source: str
    event: str
    job_id: str
    digest: bytes
    received_at: float
    sent_at: float | None
    body: bytes


class FeedEnd(NamedTuple):
    """Where a feed ends: the `identity` of its store, and the number of the newest delivery (0 when there is none)."""

    store: str
    head: int


@dataclass(frozen=True, slots=True)
class Delivery:
    """A stored delivery.

    `seq` orders the feed and is never used twice. `state` is `ok`; `conflict` (another body came under the same name,
    the job must tell which one holds); `refuted` (the job said otherwise); `dead` (signed, but unreadable) or a word
    still to come. `repeats` counts further arrivals of the same, `redriven` how often it was put into the feed again.
    `body` is None once it is pruned, and in listings, which do not read it. Times are seconds since the epoch.
    """

    seq: int
    source: str
    event: str
    job_id: str
    state: str
    received_at: float
    sent_at: float | None
    repeats: int
    redriven: int
    digest: bytes
    body: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Expectation:
    """A job somebody waits for: `owner` says who, `settled_by` what told them first (None while they wait)."""

    source: str
    job_id: str
    owner: str
    expected_at: float
    settled_at: float | None = None
    settled_by: str | None = None


@dataclass(frozen=True, slots=True)
class InboxStats:
    """Counts: deliveries by state, their repeats, and expectations that are open or were settled by each means.

    `settled_by_poll` are the lost webhooks: the API had to be asked.
    """

    head: int
    ok: int
    conflict: int
    refuted: int
    dead: int
    repeats: int
    expected: int
    settled_by_webhook: int
    settled_by_poll: int
