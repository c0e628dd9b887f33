"""The thread in which a run lives, whoever waits for it.

The law of this file: a request that may be paid for is never cancelled. An engine has an event loop of its own, in a
thread of its own, so that no cancelled task, no closed loop and no exception of the caller's reaches what is under
way. Whoever leaves early stops the buying at once; what is under way lands, and only then does the thread end. A
client that closes waits for its runs, and so does the process.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from classifaily_connectors.bulk.session import Request, Session
from classifaily_connectors.bulk.waiting import outlast
from classifaily_connectors.concurrency import check_threads
from classifaily_connectors.errors import ConfigurationError

if TYPE_CHECKING:
    from classifaily_connectors.bulk.progress import BulkStats
    from classifaily_connectors.bulk.rows import Row
    from classifaily_connectors.transport import AsyncTransport

T = TypeVar("T")
DRAIN = 60.0
"""Seconds an early end waits for requests that are under way."""
_PREFIX = "classifaily-"
logger = logging.getLogger("classifaily_connectors")


class Runner:
    """One run's engine and its thread. `owner` is whose run it is: see `close_runs`."""

    def __init__(self, request: Request, connect: Callable[[], AsyncTransport], owner: object) -> None:
        check_threads(busy=bool(_live))
        self.request, self.owner = request, owner
        self._wire = connect()
        self.session = Session(request, self._wire.run)
        self.ended: Future[None] = Future()
        """Done once the thread is; raises what kept the ledger from its end."""
        self.rest: list[Row[Any]] = []
        """Rows that were answered and that nobody took; complete at the end."""
        self.failed: BaseException | None = None
        """What is to end the run early."""
        self._pid = os.getpid()
        self._taking: Future[list[Row[Any]] | None] | None = None
        self._tasks: dict[asyncio.Task[Any], Future[Any]] = {}
        self._pending: set[Future[Any]] = set()
        self._ending: asyncio.Task[None] | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._work, name=f"{_PREFIX}bulk", daemon=True)
        _live.add(self)
        try:
            self._thread.start()
        except BaseException:
            _live.discard(self)
            self._loop.close()
            raise

    @property
    def stats(self) -> BulkStats:
        """What has been done so far."""
        return self.session.stats

    def submit(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
        """Run what `work` makes on the engine's loop. Whoever stops waiting for it does not cancel it."""
        future: Future[T] = Future()
        self._pending.add(future)
        # The coroutine is made where it runs: Ctrl-C strikes the caller's thread, and would leave it there unawaited.
        if not self.call(lambda: self._begin(work, future)):
            self._settle(future, error=_closed())
        return future

    def call(self, work: Callable[[], object]) -> bool:
        """Call `work` on the engine's loop, soon; False when that has ended."""
        try:
            self._loop.call_soon_threadsafe(work)
        except RuntimeError:  # closed
            return False
        return True

    def fail(self, error: BaseException) -> None:
        """Buy nothing more; what was paid is given out first, then `error` is raised. Safe in a signal handler."""
        if self.failed is None:
            self.failed = error
        if self.session.engine is not None:
            self.call(partial(self.session.engine.fail, error))

    def check(self) -> None:
        """Raise what is to end the run, before anything is bought."""
        if self.failed is not None:
            raise self.failed

    def abandon(self) -> None:
        """Wait for nothing any more: what is under way loses its answers."""
        if self.session.engine is not None:
            self.call(self.session.engine.abandon)

    @property
    def under_way(self) -> int:
        """How many inputs may be being paid for."""
        return 0 if self.session.engine is None else self.session.engine.sender.under_way

    def take(self) -> Future[list[Row[Any]] | None]:
        """The next rows; the same future until they were `taken`."""
        if self._taking is None:
            self._taking = self.submit(self._take)
        return self._taking

    def taken(self) -> None:
        """What the last `take` gave has arrived."""
        self._taking = None

    def stop(self) -> Future[None]:
        """Buy nothing more, and end once what is under way has landed; does not wait for it."""
        self.call(self._begin_the_end)
        return self.ended

    def close(self) -> None:
        """Stop, and wait for the end."""
        if self._pid != os.getpid():
            return  # the thread stayed behind in the process that forked
        self.stop()
        if threading.current_thread().name.startswith(_PREFIX):
            return  # collected as garbage by a thread that the end itself may need
        self.ended.result()
        self._thread.join()

    # --- on the loop --------------------------------------------------------------------------

    def _work(self) -> None:
        # All of the loop's life is in this thread: another loop may be running in the caller's.
        error: BaseException | None = None
        try:
            self._loop.run_forever()
            self._loop.run_until_complete(self._tidy())
            error = None if self._ending is None else self._ending.exception()
        except BaseException as caught:  # noqa: BLE001  # whoever waits for the end gets it
            error = caught
        finally:
            self._loop.close()
            _live.discard(self)
            for future in self._pending.copy():
                self._settle(future, error=_closed())
            if error is None:
                self.ended.set_result(None)
            else:
                self.ended.set_exception(error)

    async def _tidy(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    def _begin(self, work: Callable[[], Coroutine[Any, Any, T]], future: Future[T]) -> None:
        if self._ending is not None:
            self._settle(future, error=_closed())
            return
        task = self._loop.create_task(work())
        self._tasks[task] = future
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        future = self._tasks.pop(task)
        if task.cancelled():
            self._settle(future, error=_closed())
        elif (error := task.exception()) is not None:
            self._settle(future, error=error)
        else:
            self._settle(future, task.result())

    def _settle(self, future: Future[Any], result: object = None, *, error: BaseException | None = None) -> None:
        self._pending.discard(future)
        if future.done():
            return
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)

    async def _take(self) -> list[Row[Any]] | None:
        assert self.session.engine is not None  # noqa: S101
        rows = await self.session.engine.take()
        return None if rows is None else self.request.named(rows)

    def _begin_the_end(self) -> None:
        if self._ending is None:
            self._ending = self._loop.create_task(self._end())

    async def _end(self) -> None:
        try:
            taking = next((task for task, future in self._tasks.items() if future is self._taking), None)
            others = [task for task in self._tasks if task is not taking]
            for task in others:  # rows on their way in, a plan, a beginning
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            await self.session.stop(DRAIN)
            if taking is not None:
                await asyncio.wait([taking])
            if self.session.engine is not None:
                self.rest = [*self._untaken(), *self.request.named(self.session.engine.rest())]
        finally:
            try:
                await self.session.close()
            finally:
                await self._wire.close()
                self._loop.stop()

    def _untaken(self) -> list[Row[Any]]:
        if self._taking is None or not self._taking.done() or self._taking.exception() is not None:
            return []
        return self._taking.result() or []


class Handover:
    """Rows of the caller's, on their way to a reader on the engine's loop, which asks for no more than it can hold."""

    def __init__(self) -> None:
        self._parts: asyncio.Queue[list[object]] = asyncio.Queue(2)
        self._closed = False

    async def put(self, part: list[object]) -> None:
        """Hand over rows; none are the end."""
        if not self._closed:
            await self._parts.put(part)

    async def read(self, work: Callable[[AsyncIterator[object]], Coroutine[Any, Any, T]]) -> T:
        """What `work` makes of the rows; whoever puts more of them afterwards waits for nobody."""
        try:
            return await work(self._rows())
        finally:
            self._closed = True
            while not self._parts.empty():
                self._parts.get_nowait()

    async def _rows(self) -> AsyncIterator[object]:
        while part := await self._parts.get():
            for row in part:
                yield row


# --- all runs of a client, or of the process ------------------------------------------------------

_live: set[Runner] = set()


def close_runs(owner: object) -> None:
    """Stop all runs of `owner`, and wait for what they have under way."""
    runs = [run for run in _live.copy() if run.owner is owner]
    for run in runs:
        run.stop()
    for run in runs:
        run.close()


async def aclose_runs(owner: object) -> None:
    """`close_runs` on an event loop."""
    for ended in [run.stop() for run in _live.copy() if run.owner is owner]:
        await outlast(ended)


def live_runs() -> set[Runner]:
    """Every run of this process that has not ended."""
    return _live.copy()


def _at_exit() -> None:
    runs = _live.copy()
    for run in runs:
        run.stop()
    for run in runs:
        with contextlib.suppress(Exception):  # nobody is left to tell
            run.close()


def _closed() -> ConfigurationError:
    return ConfigurationError("the run was closed before its end")


# Before `concurrent.futures` ends its threads, in which the ledger is written: hooks run from the last to the first,
# and `bulk.desk` has imported it. What `atexit` knows comes after that.
with contextlib.suppress(RuntimeError):  # the process is ending already
    getattr(threading, "_register_atexit", atexit.register)(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_live.clear)  # the threads stayed in the parent
