"""A bulk run as its user sees it: something to iterate, for threads and for event loops.

The law of this file: a request that may be paid for is never cancelled. Leaving early (an exception, `break`, Ctrl-C)
stops the buying at once, waits for what is under way so that its answers are kept, and says what stays open. The
synchronous run has an event loop of its own in a thread of its own, so it works where a loop is already running.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

from classifaily_connectors.bulk.desk import Book, Desk
from classifaily_connectors.bulk.engine import Engine, Options
from classifaily_connectors.bulk.memory import MemoryBook
from classifaily_connectors.bulk.plan import Plan, plan
from classifaily_connectors.bulk.progress import BulkStats
from classifaily_connectors.bulk.source import Pump, Rows, Tap, again, asynchronous
from classifaily_connectors.enums import member_for
from classifaily_connectors.models import L_co
from classifaily_connectors.operations import schemas
from classifaily_connectors.taxonomy import refuse

if TYPE_CHECKING:
    from classifaily_connectors.bulk.rows import Row
    from classifaily_connectors.bulk.terms import Terms
    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.operations.effects import Operation
    from classifaily_connectors.store import Ledger
    from classifaily_connectors.transport import AsyncTransport

T = TypeVar("T")
logger = logging.getLogger("classifaily_connectors")

DRAIN = 60.0
"""Seconds an early end waits for requests that are under way."""


@dataclass
class Request:
    """Everything a run needs but the wire."""

    rows: Rows
    terms: Terms
    options: Options
    ledger: Ledger | str | os.PathLike[str] | bool | None
    context: Context
    taxonomy: type[Enum] | None = None

    def book(self) -> tuple[Book, bool]:
        """The ledger this run writes to, and whether it is ours to close."""
        ledger = self.ledger
        if ledger is None:
            ledger = os.environ.get("CLASSIFAILY_STORE_URL") or None
            if ledger is None:
                logger.info("no ledger: equal rows are paid once within this run, but a rerun pays again")
        if ledger is None or ledger is False:
            return MemoryBook(), False
        if ledger is True:
            raise refuse("ledger must be a store URL, a Ledger, None or False")
        if isinstance(ledger, str | os.PathLike):
            from classifaily_connectors.store import Ledger

            return Ledger(ledger), True
        return ledger, False

    def named(self, rows: list[Row[Any]]) -> list[Row[Any]]:
        """The rows, with members for labels where the categories were an Enum."""
        if self.taxonomy is not None:
            for row in rows:
                row.label = member_for(self.taxonomy, row.label)
        return rows


class _Session:
    """One engine between its opening and its closing, on one event loop."""

    def __init__(self, request: Request, run: Callable[[Operation[Any]], Awaitable[Any]]) -> None:
        self._request = request
        self._run = run
        self.stats = BulkStats(total=request.options.total)
        self.engine: Engine | None = None
        self._desk: Desk | None = None
        self._owned: Book | None = None
        self._closing: asyncio.Task[None] | None = None

    async def open(self) -> Engine:
        terms = self._request.terms
        if terms.categories is None and "schema" in terms.shared:
            # The content of the schema is part of every key: an edited schema with the same id must be paid anew.
            schema = await self._run(schemas.get_schema(self._request.context, terms.shared["schema"]))
            terms.take_over(schema)
        book, ours = await asyncio.to_thread(self._request.book)
        self._owned = book if ours else None
        terms.namespace, terms.durable = book.namespace, book.durable
        self._desk = Desk(book)
        await self._desk.open()
        engine = Engine(self._run, self._request.context, terms, self._desk, self._request.options)
        engine.stats = self.stats
        self.engine = engine
        return engine

    async def guard(self) -> None:
        """Raise BudgetExceededError before anything is bought, where the rows can be gone through twice."""
        engine, rows, budget = self.engine, self._request.rows, self._request.options.budget
        if engine is None or budget is None or budget.on_exceeded != "raise" or not again(rows):
            return
        # A table remembers what it gave out until it comes back; what only looks ahead never does.
        foreseen = await plan(engine, asynchronous(getattr(rows, "rehearsal", rows)))
        available = engine.sender.purse.available
        if available is not None and foreseen.to_buy > available:
            raise engine.sender.purse.exceeded(foreseen.to_buy)

    def report(self, *, last: bool = False) -> None:
        """Tell the caller's `progress`, from the caller's own thread or task."""
        self.stats.report(self._request.options.progress, time.monotonic(), last=last)

    async def close(self, patience: float = DRAIN) -> None:
        """Drain and end, once, whoever asks first; being cancelled ends the waiting alone."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(patience))
        await asyncio.shield(self._closing)

    async def _close(self, patience: float) -> None:
        try:
            if self.engine is not None:
                left = await self.engine.stop(patience)
                if left:
                    logger.warning("%d keys are still being paid for; they stay open in the ledger", left)
        finally:
            try:
                if self._desk is not None:
                    await self._desk.close()
            finally:
                if self._owned is not None:
                    await asyncio.to_thread(cast("Ledger", self._owned).close)


class AsyncBulkRun(Generic[L_co]):
    """A run to go through with `async for`; `stats` grows meanwhile and is complete at the end."""

    def __init__(self, request: Request, run: Callable[[Operation[Any]], Awaitable[Any]]) -> None:
        self._request = request
        self._session = _Session(request, run)
        self._used = False

    @property
    def stats(self) -> BulkStats:
        """What has been done so far."""
        return self._session.stats

    async def __aiter__(self) -> AsyncIterator[Row[L_co]]:
        self._used = _once(self._used)
        rows = self._request.rows
        source = None if isinstance(rows, AsyncIterable) else Tap(rows)
        try:
            engine = await self._session.open()
            await self._session.guard()
            if isinstance(rows, AsyncIterable):
                Pump(engine, rows).start()
            while True:
                while source is not None and engine.room and not engine.has_rows:
                    part, slow = source.pull(engine.room)
                    if part:
                        await engine.feed(part, slow=slow)
                    else:
                        engine.end()
                        source = None
                    self._session.report()
                ready = await engine.take()
                self._session.report(last=ready is None)
                if ready is None:
                    return
                for row in self._request.named(ready):
                    yield row
        finally:
            await self._session.close()

    async def aclose(self) -> None:
        """Leave early: buy nothing more and wait for what is under way. Closing the client does it too."""
        await self._session.close()

    async def plan(self) -> Plan:
        """What this run would buy; spends nothing."""
        self._used = _once(self._used)
        try:
            return await plan(await self._session.open(), asynchronous(self._request.rows))
        finally:
            await self._session.close()


class BulkRun(Generic[L_co]):
    """A run to go through with `for`; `stats` grows meanwhile and is complete at the end."""

    def __init__(
        self,
        request: Request,
        connect: Callable[[], AsyncTransport],
    ) -> None:
        self._request = request
        self._connect = connect
        self._stats = BulkStats(total=request.options.total)
        self._used = False

    @property
    def stats(self) -> BulkStats:
        """What has been done so far."""
        return self._stats

    def __iter__(self) -> Iterator[Row[L_co]]:
        self._used = _once(self._used)
        if isinstance(self._request.rows, AsyncIterable):
            raise refuse("rows is asynchronous: use AsyncClassifailyClient.classify_many")
        source = Tap(self._request.rows)
        with _Loop() as loop:
            wire = self._connect()
            session = _Session(self._request, wire.run)
            self._stats = session.stats
            try:
                engine = loop.run(session.open)
                loop.run(session.guard)
                ended = False
                while True:
                    # Rows are pulled in the caller's thread: a database cursor may belong to it.
                    while not ended and engine.room and not engine.has_rows:
                        part, slow = source.pull(engine.room)
                        ended = not part
                        if ended:
                            loop.call(engine.end)
                        else:
                            loop.run(partial(engine.feed, part, slow=slow))
                        session.report()
                    rows = loop.run(engine.take)
                    session.report(last=rows is None)
                    if rows is None:
                        return
                    yield from self._request.named(rows)
            finally:
                try:
                    loop.run(session.close)
                finally:
                    loop.run(wire.close)

    def plan(self) -> Plan:
        """What this run would buy; spends nothing."""
        self._used = _once(self._used)
        with _Loop() as loop:
            wire = self._connect()
            session = _Session(self._request, wire.run)
            try:
                engine = loop.run(session.open)
                return loop.run(partial(plan, engine, asynchronous(self._request.rows)))
            finally:
                try:
                    loop.run(session.close)
                finally:
                    loop.run(wire.close)


class _Loop:
    """An event loop in a thread of its own."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name="classifaily-bulk", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _work(self) -> None:
        # All of the loop's life is in this thread: another loop may be running in the caller's.
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._tidy())
        finally:
            self._loop.close()

    async def _tidy(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        # The coroutine is made where it runs: Ctrl-C strikes this thread, and would leave it here, never awaited.
        begun: Future[Future[T]] = Future()
        self.call(lambda: begun.set_result(asyncio.run_coroutine_threadsafe(work(), self._loop)))
        try:
            return begun.result().result()
        except BaseException:
            # Ctrl-C ends the waiting; what the run has under way is drained by its close.
            begun.add_done_callback(lambda each: each.result().cancel())
            raise

    def call(self, work: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(work)


def _once(used: bool) -> bool:
    if used:
        raise refuse("a bulk run can be gone through once: call classify_many again for another")
    return True
