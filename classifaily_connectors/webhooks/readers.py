"""How a watch reads its source: from the database, with calls in threads, or from the receiver, by long poll.

The law of this file: a reader's threads are its own, so that nobody else's work delays a wake-up; and PostgreSQL's
notifications are only a hint to look at once, with the poll as the floor beneath them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from classifaily_connectors.operations.context import Context
from classifaily_connectors.store.delivery import CHANNEL
from classifaily_connectors.transport import AsyncTransport
from classifaily_connectors.webhooks import feed

if TYPE_CHECKING:
    from classifaily_connectors.settings import Settings
    from classifaily_connectors.store.delivery import Delivery, SettledBy
    from classifaily_connectors.store.inbox import Inbox

T = TypeVar("T")
logger = logging.getLogger("classifaily_connectors")

_AGAIN = 30.0
"""Seconds until another attempt to listen, where notifications do not come through."""


class StoreReader:
    """Reads a store by polling it every `poll` seconds, and at once when PostgreSQL says that something came."""

    def __init__(self, store: str, source: str, *, poll: float, owner: str) -> None:
        self._store, self._source, self._poll, self._owner = store, source, poll, owner
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="classifaily-store")
        self._inbox: Inbox | None = None
        self._hint = asyncio.Event()
        self._listener: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Connect, and listen where the database can speak up."""
        if self._inbox is None:
            self._inbox = await self._call(partial(feed.open_inbox, self._store))
        if self._listener is None and self._store.startswith("postgres"):
            self._listener = asyncio.create_task(self._listen())

    async def head(self) -> int:
        """See `Reader`."""
        return await self._call(self._opened.head)

    async def news(self, seq: int) -> list[Delivery]:
        """See `Reader`: what came within the poll interval."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._poll):
                await self._hint.wait()
        self._hint.clear()
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
        if self._listener is not None:
            self._listener.cancel()
            await asyncio.wait({self._listener})
        await asyncio.to_thread(self._threads.shutdown)
        if self._inbox is not None:
            await asyncio.to_thread(self._inbox.close)

    @property
    def _opened(self) -> Inbox:
        assert self._inbox is not None, "opened first"  # noqa: S101
        return self._inbox

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def _listen(self) -> None:
        import psycopg
        import sqlalchemy as sa

        address = sa.make_url(self._store).set(drivername="postgresql").render_as_string(hide_password=False)
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(address, autocommit=True) as connection:
                    await connection.execute(f"LISTEN {CHANNEL}")
                    self._hint.set()  # what came before we listened
                    async for _ in connection.notifies():
                        self._hint.set()
            except (psycopg.Error, OSError) as error:
                logger.info("no notifications from PostgreSQL (%s): polling alone", type(error).__name__)
            await asyncio.sleep(_AGAIN)


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
