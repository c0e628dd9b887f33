"""The ways into the inbox from an event loop.

The law of this file: the loop goes on while the database works, and the next batch is on its way as soon as the last
one is in. SQLite has a thread, which does little but wait for it: whenever it needs the interpreter it has to take it
from the loop, which holds up both. PostgreSQL is spoken to by the loop itself.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Protocol, cast

import sqlalchemy as sa

from classifaily_connectors.store import forks
from classifaily_connectors.store.inbox_landing import Batch, Statement, counted, told
from classifaily_connectors.store.trouble import is_foreign, store_error, trouble_of

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable

    from classifaily_connectors.store.database import StoreFile
    from classifaily_connectors.store.delivery import Arrival, Landed
    from classifaily_connectors.store.postgres import PatientAsyncConnection

    Take = Callable[[], list[Arrival]]
    Tell = Callable[[int, list[Landed] | Exception, bool], None]
    Settle = Callable[[Batch, range], list[Landed]]


PATIENCE = 12.0
"""Seconds without a word from PostgreSQL after which a batch is tried on another connection."""


class Lane(Protocol):
    """What an event loop gets its batches through."""

    def begin(self, take: Take, tell: Tell) -> None:
        """Keep batch after batch. `take` gives the next one, in any thread; an empty one is the end. `tell` is called
        in the loop for each: how many there were, what became of them, and whether there is another one."""

    def close(self) -> None:
        """Disconnect; nothing is under way any more, and the loop may have ended."""


class ThreadLane:
    """Calls `put` in a thread of its own."""

    # Not an executor, which does more for each call than there is to do here.
    def __init__(self, put: Callable[[list[Arrival]], list[Landed]], close: Callable[[], None]) -> None:
        self._put, self._close = put, close
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[tuple[Take, Tell] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="classifaily-inbox", daemon=True)
        self._thread.start()

    def begin(self, take: Take, tell: Tell) -> None:
        """See `Lane`."""
        self._calls.put((take, tell))

    def close(self) -> None:
        """See `Lane`."""
        self._calls.put(None)
        self._thread.join()
        self._close()

    def _run(self) -> None:
        while call := self._calls.get():
            take, tell = call
            batch = take()
            while batch:
                outcome: list[Landed] | Exception
                try:
                    outcome = self._put(batch)
                except Exception as error:  # noqa: BLE001  # told to whoever waits
                    outcome = error
                size, batch = len(batch), take()
                with suppress(RuntimeError):  # the loop has ended, and with it whoever waits
                    self._loop.call_soon_threadsafe(tell, size, outcome, bool(batch))


class TaskLane:
    """Awaits `put` in the loop."""

    def __init__(self, put: Callable[[list[Arrival]], Awaitable[list[Landed]]], close: Callable[[], None]) -> None:
        self._put = put
        self.close = close
        self._running: asyncio.Task[None] | None = None

    def begin(self, take: Take, tell: Tell) -> None:
        """See `Lane`."""
        self._running = asyncio.get_running_loop().create_task(self._run(take, tell))

    async def _run(self, take: Take, tell: Tell) -> None:
        batch = take()
        while batch:
            outcome: list[Landed] | Exception
            try:
                outcome = await self._put(batch)
            except Exception as error:  # noqa: BLE001  # told to whoever waits
                outcome = error
            size, batch = len(batch), take()
            tell(size, outcome, bool(batch))


def sqlite_lane(engine: sa.Engine, file: StoreFile, settle: Settle) -> Lane:
    """A lane on a connection of its own; `settle` is called for a batch of which not all was new."""
    put = _PutSqlite(engine, file, settle)
    return ThreadLane(put, put.close)


def postgres_lane(url: str, settle: Settle) -> Lane:
    """A lane on a connection of its own; `settle` is called, in a thread, for a batch of which not all was new."""
    put = _PutPostgres(url, settle)
    return TaskLane(put, put.close)


class _PutSqlite:
    def __init__(self, engine: sa.Engine, file: StoreFile, settle: Settle) -> None:
        self._engine, self._file, self._settle = engine, file, settle
        self._connection: sa.PoolProxiedConnection | None = None
        self._place: object = None
        forks.put_away(self, _PutSqlite._disconnect)

    def __call__(self, arrivals: list[Arrival]) -> list[Landed]:
        try:
            with forks.at_work:
                return self._put(arrivals)
        except Exception as error:
            if not is_foreign(error):
                raise
            self.close()
            raise self._file.error(error) from None

    def _put(self, arrivals: list[Arrival]) -> list[Landed]:
        if self._connection is not None and self._place != self._file.seen():
            self._disconnect()
        if self._connection is None:
            self._connection = self._engine.raw_connection()
            self._place = self._connection.info["file"]
            self._connection.detach()  # closed by us, and not kept by the pool
            self._cursor = cast("sqlite3.Cursor", self._connection.cursor())
        batch = Batch(arrivals)
        self._cursor.execute(*batch.insertion("sqlite"))
        inserted = counted(self._cursor)
        if self._place != self._file.seen():  # nobody may be told that it is kept
            raise self._file.moved()
        landed = batch.landed(inserted)
        return self._settle(batch, inserted) if landed is None else landed

    def close(self) -> None:
        with forks.at_work:
            self._disconnect()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._cursor.close()
            self._connection.close()
            self._connection = None


class _PutPostgres:
    def __init__(self, url: str, settle: Settle) -> None:
        self._url, self._settle = url, settle
        self._connection: PatientAsyncConnection | None = None

    async def __call__(self, arrivals: list[Arrival]) -> list[Landed]:
        batch = Batch(arrivals)
        try:
            inserted = await self._insert(batch.insertion("postgresql"))
        except Exception as error:
            self.close()
            if not is_foreign(error):
                raise
            raise store_error(self._url, error) from None
        landed = batch.landed(inserted)
        return await asyncio.to_thread(self._settle, batch, inserted) if landed is None else landed

    async def _insert(self, insertion: Statement) -> range:
        # A connection that was lost while it was idle is noticed here, as nobody pings it; and one whose server has
        # become read-only is no use any more.
        idle = self._connection
        if idle is not None and not idle.closed:
            try:
                return await _ask(idle, insertion)
            except Exception as error:
                if not (idle.closed or trouble_of(error).elsewhere):
                    raise
                self.close()
        from classifaily_connectors.store.postgres import connect

        self._connection = await connect(sa.make_url(self._url), patience=PATIENCE)
        return await _ask(self._connection, insertion)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.pgconn.finish()
            self._connection = None


async def _ask(connection: PatientAsyncConnection, insertion: Statement) -> range:
    rows = await connection.ask(*insertion)
    return told(rows[0])
