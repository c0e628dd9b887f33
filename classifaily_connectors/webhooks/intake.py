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
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError
from typing_extensions import TypedDict

from classifaily_connectors.errors import why
from classifaily_connectors.models import Instant
from classifaily_connectors.store.delivery import Arrival, Landed

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
        heading = {}
    event, job_id = _name(heading.get("event")), _name(heading.get("id")) or _name(heading.get("job_id"))
    if not event or not job_id:
        return Arrival(source, "", hashlib.sha256(body).hexdigest(), digest, received_at, None, body)
    return Arrival(source, event, job_id, digest, received_at, _moment(heading.get("timestamp")), body)


def _name(value: object) -> str:
    """What a delivery can be filed under (ids may be numbers), or nothing."""
    word = str(value) if type(value) is int else value
    return word if isinstance(word, str) and len(word) <= _LONGEST and word.isprintable() else ""


def _moment(value: object) -> float | None:
    try:  # what the reference shows, which is all but always what comes
        sent: datetime | None = datetime.fromisoformat(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        sent = None
    if sent is None or sent.tzinfo is None:
        sent = _instant(value)
    return sent.timestamp() if sent else None


class Intake:
    """The way into the inbox from one event loop; `put` keeps a batch, and is awaited before the next.

    `patience` is the seconds a commit may take before those who wait for it are told that the store is behind.
    """

    def __init__(self, put: Callable[[list[Arrival]], Awaitable[list[Landed]]], *, patience: float) -> None:
        self.batches = 0
        self.behind = self._down = False
        self._put, self._patience = put, patience
        self._loop = asyncio.get_running_loop()
        self._arrivals: deque[Arrival] = deque()
        self._waiting: deque[tuple[int, asyncio.Future[Landed]]] = deque()  # for these and those being committed
        self._weight = 0
        self._writing: asyncio.Task[None] | None = None

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
        if self._writing is None:
            self._writing = self._loop.create_task(self._write())  # it begins after the others that came with this one
        return kept

    async def _write(self) -> None:
        while self._arrivals:
            batch = [self._arrivals.popleft() for _ in range(min(BATCH, len(self._arrivals)))]
            landed: Sequence[Landed | None] = [None] * len(batch)
            problem = None
            late = self._loop.call_later(self._patience, self._give_up)
            try:
                landed = [what for _arrival, what in zip(batch, await self._put(batch), strict=True)]
            except Exception as error:  # noqa: BLE001  # whatever it was: nobody was told that it is kept
                problem = error
            late.cancel()
            self._tell(landed, problem)
        self._writing = None

    def _tell(self, landed: Sequence[Landed | None], problem: Exception | None) -> None:
        self.batches += 1
        self.behind = False
        self._say(problem)
        for what in landed:
            weight, kept = self._waiting.popleft()
            self._weight -= weight
            if kept.done():
                continue
            if what is None:
                kept.set_exception(UnavailableError("down"))
            else:
                kept.set_result(what)

    def _give_up(self) -> None:
        # Their commits may still come about: then the sender's next attempt is a repeat.
        self.behind = True
        for _weight, kept in self._waiting:
            if not kept.done():
                kept.set_exception(UnavailableError("behind"))

    def _say(self, problem: Exception | None) -> None:
        if (problem is not None) != self._down:
            self._down = problem is not None
            if problem is not None:
                logger.error("the webhook store takes no deliveries (%s): senders are told 503", why(problem))
            else:
                logger.warning("the webhook store takes deliveries again")
