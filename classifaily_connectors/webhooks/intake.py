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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from classifaily_connectors.errors import ClassifailyError
from classifaily_connectors.models import Id, Instant  # noqa: TC001  # pydantic reads the annotations
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


class _Heading(BaseModel):
    """What a delivery is filed under: read in one step, as this is done for every one."""

    event: str
    id: Id = Field(validation_alias=AliasChoices("id", "job_id"))
    timestamp: Instant = None


def read(source: str, body: bytes, received_at: float) -> Arrival:
    """What the inbox keeps of a verified body; one that is no event is kept under its digest."""
    digest = hashlib.sha256(_TIME.sub(b"", body)).digest()
    try:
        heading = _Heading.model_validate_json(body)
    except ValidationError:
        heading = None
    if heading is None or not _is_name(heading.event) or not _is_name(heading.id):
        return Arrival(source, "", hashlib.sha256(body).hexdigest(), digest, received_at, None, body)
    sent_at = heading.timestamp.timestamp() if heading.timestamp else None
    return Arrival(source, heading.event, heading.id, digest, received_at, sent_at, body)


def _is_name(word: str) -> bool:
    return 0 < len(word) <= _LONGEST and word.isprintable()


class Intake:
    """The way into the inbox from one event loop; `put` is called in a thread, with a batch.

    `patience` is the seconds a commit may take before those who wait for it are told that the store is behind.
    """

    def __init__(self, put: Callable[[list[Arrival]], list[Landed]], *, patience: float) -> None:
        self.batches = 0
        self._put, self._patience = put, patience
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="classifaily-inbox")
        self._waiting: list[tuple[Arrival, asyncio.Future[Landed]]] = []
        self._weight = 0
        self.behind = self._down = False
        self._writer: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Deliveries that are not committed yet."""
        return len(self._waiting)

    async def keep(self, arrival: Arrival) -> Landed:
        """Returns when the delivery is on the disk. Raises UnavailableError when it may not be."""
        if self.behind:
            raise UnavailableError("behind")
        if self._weight + len(arrival.body) > ROOM:
            raise UnavailableError("full")
        kept: asyncio.Future[Landed] = self._loop.create_future()
        self._waiting.append((arrival, kept))
        self._weight += len(arrival.body)
        if self._writer is None:
            self._writer = self._loop.create_task(self._write())
        return await kept

    async def _write(self) -> None:
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            late = self._loop.call_later(self._patience, self._give_up, batch)
            try:
                landed = await self._loop.run_in_executor(self._thread, self._put, [each for each, _kept in batch])
            except Exception as error:  # noqa: BLE001  # whatever it was: nobody was told that it is kept
                self._say(down=True, error=error)
                _refuse(batch, "down")
            else:
                self._say(down=False)
                for (_each, kept), what in zip(batch, landed, strict=True):
                    if not kept.done():
                        kept.set_result(what)
            finally:
                late.cancel()
            self.batches += 1
            self.behind = False
            self._weight = sum(len(each.body) for each, _kept in self._waiting)
        self._writer = None

    def _give_up(self, batch: list[tuple[Arrival, asyncio.Future[Landed]]]) -> None:
        # The commit may still come about: then the sender's next attempt is a repeat.
        self.behind = True
        _refuse(batch, "behind")
        _refuse(self._waiting, "behind")
        self._waiting = []

    def _say(self, *, down: bool, error: Exception | None = None) -> None:
        if down != self._down:
            self._down = down
            if down:
                logger.error("the webhook store takes no deliveries (%s): senders are told 503", why(error))
            else:
                logger.warning("the webhook store takes deliveries again")


def why(error: Exception | None) -> str:
    """What may be said of a failed store: only our own message, as another may quote a statement and its values."""
    return error.message if isinstance(error, ClassifailyError) else type(error).__name__


def _refuse(batch: list[tuple[Arrival, asyncio.Future[Landed]]], reason: str) -> None:
    for _each, kept in batch:
        if not kept.done():
            kept.set_exception(UnavailableError(reason))
