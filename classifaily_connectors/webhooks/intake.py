"""From a verified body to the disk: what is read of a delivery, and the writer that commits many at once.

The law of this file: whoever is told that a delivery is kept is told so after its commit; while one commit is under
way the next batch gathers, so a busy receiver pays one commit for many. When the store fails, is slow or has too much
before it, everyone who waits is told at once, and the sender may come again.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import time
from collections import deque
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from classifaily_connectors.errors import why
from classifaily_connectors.fields import Instant
from classifaily_connectors.store.delivery import Arrival, Landed
from classifaily_connectors.webhooks.reading import read_body
from classifaily_connectors.wire import REPLACEMENT

if TYPE_CHECKING:
    from classifaily_connectors.store.lanes import Lane

logger = logging.getLogger("classifaily_connectors")

BATCH = 256
"""Deliveries in one commit."""
ROOM = 64 * 2**20
"""Bytes of bodies that may wait; a receiver further behind refuses."""
_LONGEST = 200
"""Characters in an event's word or a job's id: what both databases can index."""
# When a delivery is repeated its time may be the attempt's, and it says the same for all that (the API tells neither).
_TIME = re.compile(rb'"timestamp"\s*:\s*("[^"]*"|[^\s",}\]]*)')


class UnavailableError(Exception):
    """The store did not take a delivery: `reason` is `down`, `behind` or `full`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Failure(NamedTuple):
    """Why a commit failed, and when by the monotonic clock."""

    reason: str
    at: float


class _Heading(TypedDict, total=False):
    event: Any
    id: Any
    job_id: Any
    timestamp: Any


# The validator itself, without what a model or an adapter adds to each call: this is done for every delivery.
_heading = TypeAdapter(_Heading).validator.validate_json
_instant = TypeAdapter(Instant).validate_python


def read(source: str, body: bytes, received_at: float) -> Arrival:
    """What the inbox keeps of a verified body; one that is no event is kept under its digest."""
    digest = hashlib.sha256(_TIME.sub(b"", body)).digest()
    try:
        heading: _Heading = _heading(body)
    except ValidationError:
        heading = _slowly(body)
    event, job_id = _name(heading.get("event")), _name(heading.get("id")) or _name(heading.get("job_id"))
    if not event or not job_id:
        return Arrival(source, "", hashlib.sha256(body).hexdigest(), digest, received_at, None, body)
    return Arrival(source, event, job_id, digest, received_at, _moment(heading.get("timestamp")), body)


def _slowly(body: bytes) -> _Heading:
    """The same of what the validator does not read; empty for what nobody does."""
    try:
        wire = read_body(body)
    except ValueError:
        return {}
    return cast("_Heading", wire)


def _name(value: object) -> str:
    """What a delivery can be filed under (ids may be numbers), or nothing."""
    word = str(value) if type(value) is int else value
    if not isinstance(word, str) or len(word) > _LONGEST or not word.isprintable() or REPLACEMENT in word:
        return ""
    return word


def _moment(value: object) -> float | None:
    try:  # what the reference shows, which is all but always what comes
        sent: datetime | None = datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        sent = None
    if sent is None or sent.tzinfo is None:
        sent = _instant(value)
    return sent.timestamp() if sent else None


class Intake:
    """Takes deliveries in one event loop, batch after batch, through the `lane` to the inbox.

    `patience` is the seconds a commit may take before those who wait for it are told that the store is behind.
    """

    def __init__(self, lane: Lane, *, patience: float) -> None:
        self.batches = 0
        self.behind = False
        self.last_commit: float | None = None
        """Seconds since the epoch; None before the first."""
        self.failure: Failure | None = None
        """What the last commit failed of; None when it did not."""
        self._lane, self._patience = lane, patience
        self._loop = asyncio.get_running_loop()
        # The same deliveries, in the same order: the lane takes from the one, perhaps in a thread, and the loop from
        # the other, which also has those that are being committed.
        self._arrivals: deque[Arrival] = deque()
        self._waiting: deque[tuple[int, asyncio.Future[Landed]]] = deque()
        self._weight = 0
        self._writing = False
        self._late: asyncio.TimerHandle | None = None

    @property
    def waiting(self) -> int:
        """Deliveries that are not committed yet."""
        return len(self._waiting)

    def keep(self, arrival: Arrival) -> asyncio.Future[Landed]:
        """What becomes of a delivery, once it is on the disk. Raises UnavailableError when it may not be."""
        if self.behind:
            raise UnavailableError("behind")
        size = len(arrival.body)
        if self._weight + size > ROOM:
            raise UnavailableError("full")
        kept: asyncio.Future[Landed] = self._loop.create_future()
        self._weight += size
        self._waiting.append((size, kept))
        self._arrivals.append(arrival)
        if not self._writing:
            self._writing = True
            self._loop.call_soon(self._begin)  # after the others that came with this one
        return kept

    def _begin(self) -> None:
        self._late = self._loop.call_later(self._patience, self._give_up)
        self._lane.begin(self._take, self._tell)

    def _take(self) -> list[Arrival]:
        return [self._arrivals.popleft() for _ in range(min(BATCH, len(self._arrivals)))]

    def _tell(self, size: int, outcome: list[Landed] | Exception, more: bool) -> None:
        self.batches += 1
        self.behind = False
        if isinstance(outcome, list) and len(outcome) != size:
            outcome = ValueError(f"told of {len(outcome)} of {size} deliveries")
        self._note(outcome if isinstance(outcome, Exception) else None)
        for what in [None] * size if isinstance(outcome, Exception) else outcome:
            weight, kept = self._waiting.popleft()
            self._weight -= weight
            if kept.done():
                continue
            if what is None:
                kept.set_exception(UnavailableError("down"))
            else:
                kept.set_result(what)
        if self._late:
            self._late.cancel()
        if more:
            self._late = self._loop.call_later(self._patience, self._give_up)
        elif self._arrivals:
            self._begin()
        else:
            self._writing = False

    def _give_up(self) -> None:
        # Their commits may still come about: then the sender's next attempt is a repeat.
        self.behind = True
        for _weight, kept in self._waiting:
            if not kept.done():
                kept.set_exception(UnavailableError("behind"))

    def _note(self, problem: Exception | None) -> None:
        before = self.failure
        if problem is not None:
            self.failure = Failure(why(problem), time.monotonic())
            if before is None:
                logger.error("the webhook store takes no deliveries (%s): senders are told 503", self.failure.reason)
            return
        self.last_commit = time.time()
        if before is not None:
            self.failure = None
            logger.warning("the webhook store takes deliveries again")
