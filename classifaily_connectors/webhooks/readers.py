"""How a watch reads its source: from the database, with calls in threads, or from the receiver, by long poll.

The law of this file: a reader's threads are its own, so that nobody else's work delays a wake-up; and PostgreSQL's
notifications are only a hint to look at once, with the poll as the floor beneath them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from classifaily_connectors.operations.context import Context
from classifaily_connectors.store.address import is_postgresql, store_url
from classifaily_connectors.store.delivery import CHANNEL
from classifaily_connectors.transport import AsyncTransport
from classifaily_connectors.webhooks import feed

if TYPE_CHECKING:
    from classifaily_connectors.settings import Settings
    from classifaily_connectors.store.delivery import Delivery, SettledBy
    from classifaily_connectors.store.inbox import Inbox
    from classifaily_connectors.store.postgres import PatientAsyncConnection

T = TypeVar("T")
logger = logging.getLogger("classifaily_connectors")

_AGAIN = 30.0
"""Seconds until another attempt to listen, where notifications do not come through."""
_REST = 0.02
"""Seconds between two looks that notifications ask for: a busy store is looked at fifty times a second, not for each
delivery."""


class StoreReader:
    """Reads a store by polling it every `poll` seconds, and at once when PostgreSQL says that something came."""

    def __init__(self, store: str, source: str, *, poll: float, owner: str) -> None:
        self._store, self._source, self._poll, self._owner = store, source, poll, owner
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="classifaily-store")
        self._inbox: Inbox | None = None
        self._line: Line | None = Line(store_url(store)) if is_postgresql(store_url(store)) else None

    async def open(self) -> None:
        """Connect, and listen where the database can speak up."""
        if self._inbox is None:
            self._inbox = await self._call(partial(feed.open_inbox, self._store))
        if self._line is not None:
            await self._line.open()

    async def head(self) -> int:
        """See `Reader`."""
        return await self._call(self._opened.head)

    async def news(self, seq: int) -> list[Delivery]:
        """See `Reader`: what came within the poll interval."""
        if self._line is not None and (heard := await self._line.news(seq, self._poll)) is not None:
            return heard
        await asyncio.sleep(self._poll)
        return await self._call(partial(self._opened.after, seq))

    async def find(self, job_ids: Collection[str]) -> dict[str, Delivery]:
        """See `Reader`."""
        return await self._call(partial(self._opened.find, self._source, job_ids))

    async def expect(self, job_ids: Collection[str]) -> None:
        """See `Reader`."""
        await self._call(partial(self._opened.expect, self._source, job_ids, owner=self._owner))

    async def settle(self, job_ids: Collection[str], by: SettledBy) -> None:
        """See `Reader`."""
        await self._call(partial(self._opened.settle, self._source, job_ids, by=by))

    async def close(self) -> None:
        """Disconnect, once no call is under way."""
        if self._line is not None:
            await self._line.close()
        await asyncio.to_thread(self._threads.shutdown)
        if self._inbox is not None:
            await asyncio.to_thread(self._inbox.close)

    @property
    def _opened(self) -> Inbox:
        assert self._inbox is not None, "opened first"  # noqa: S101
        return self._inbox

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


class Line:
    """A connection on which PostgreSQL says that something came, and is asked what: a thread would cost more than the
    question.

    Behind a pooler nothing may be heard, as the connection to the server is not ours alone: then it is not listened to,
    which is said once, and asking is left to the poll.
    """

    def __init__(self, store: str) -> None:
        self._store = store
        self._connection: PatientAsyncConnection | None = None
        self._due = self._rested = 0.0
        self._pooled = False

    async def open(self) -> None:
        """Listen; where that does not work, not now."""
        import psycopg
        import sqlalchemy as sa

        from classifaily_connectors.store.postgres import connect

        if self._pooled or self._connection is not None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _AGAIN
        try:
            self._connection = await connect(sa.make_url(self._store))
            # The number that the server gave as the connection began: a pooler gives one of its own.
            (pid,) = (await self._connection.ask("SELECT pg_backend_pid()"))[0]
            self._pooled = pid != self._connection.info.backend_pid
            if self._pooled:
                logger.info("a pooler stands before PostgreSQL, so that it cannot be listened to: polling alone")
                await self.close()
                return
            await self._connection.execute(f"LISTEN {CHANNEL}")
        except (psycopg.Error, OSError) as error:
            _say(error)
            await self.close()

    async def news(self, seq: int, patience: float) -> list[Delivery] | None:
        """What came after `seq`, as soon as something did and at the latest after `patience`; None without a line."""
        import psycopg

        from classifaily_connectors.store.delivery import Delivery
        from classifaily_connectors.store.inbox import FOLLOWING

        await self.open()
        if self._connection is None:
            return None
        try:
            await asyncio.sleep(self._rested - time.monotonic())
            async for _ in self._connection.notifies(timeout=patience, stop_after=1):
                pass
            rows = await self._connection.ask(FOLLOWING, (seq,))
            self._rested = time.monotonic() + _REST
        except (psycopg.Error, OSError) as error:
            _say(error)
            await self.close()
            return None
        return [Delivery(*row) for row in rows]

    async def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.close()


def _say(error: Exception) -> None:
    logger.info("no notifications from PostgreSQL (%s): polling alone", type(error).__name__)


class ReceiverReader:
    """Reads one source from its receiver, which answers as soon as there is something to tell."""

    def __init__(self, settings: Settings) -> None:
        self._transport = AsyncTransport(settings, max_connections=2, application="feed")
        self._context = Context()

    async def open(self) -> None:
        """Nothing to do: every question is a request."""

    async def head(self) -> int:
        """See `Reader`."""
        return await self._transport.run(feed.head(self._context))

    async def news(self, seq: int) -> list[Delivery]:
        """See `Reader`: what came within the long poll."""
        return await self._transport.run(feed.after(self._context, seq, wait=feed.LONG_POLL))

    async def find(self, job_ids: Collection[str]) -> dict[str, Delivery]:
        """See `Reader`."""
        return await self._transport.run(feed.find(self._context, job_ids))

    async def expect(self, job_ids: Collection[str]) -> None:
        """Nothing: the receiver takes no orders from a reader, so expectations are kept by readers of the store."""

    async def settle(self, job_ids: Collection[str], by: SettledBy) -> None:
        """Nothing; see `expect`."""

    async def close(self) -> None:
        """Disconnect."""
        await self._transport.close()
