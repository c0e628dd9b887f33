"""A bulk run as its user sees it: something to iterate, for threads and for event loops.

The law of this file: rows are pulled and given out where the caller is, and everything else happens in the run's own
thread (`runner`). What ends a run early (an error of the rows' own source, the budget, the quota) is raised once
everything that was paid has been given out; who leaves early (`break`, an exception, Ctrl-C, a cancelled task) waits
for what is under way, and finds it in the ledger and in `leftover`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from classifaily_connectors.bulk.endings import Told
from classifaily_connectors.bulk.runner import Handover, Runner
from classifaily_connectors.bulk.source import Pump, Rows, Tap, aparts, parts
from classifaily_connectors.bulk.waiting import arrived, outlast
from classifaily_connectors.concurrency import check_loop
from classifaily_connectors.errors import StoppedError, refuse
from classifaily_connectors.models import L_co

if TYPE_CHECKING:
    from collections.abc import Iterable

    from classifaily_connectors.bulk.engine import Engine
    from classifaily_connectors.bulk.plan import Plan
    from classifaily_connectors.bulk.progress import BulkStats
    from classifaily_connectors.bulk.rows import Row
    from classifaily_connectors.bulk.session import Request
    from classifaily_connectors.transport import AsyncTransport, SyncTransport

T = TypeVar("T")


class _Run(Generic[L_co]):
    """What the two runs share."""

    def __init__(self, request: Request, transport: SyncTransport | AsyncTransport) -> None:
        self._request = request
        self._transport = transport
        self._runner: Runner | None = None
        self._ready: deque[Row[Any]] = deque()
        self._told: StoppedError | None = None

    @property
    def stats(self) -> BulkStats:
        """What has been done so far; complete at the end."""
        return self._request.stats

    @property
    def leftover(self) -> list[Row[L_co]]:
        """Rows that were answered but not given out, because the loop over the run was left early; complete once the
        run is closed."""
        rest = [] if self._runner is None else self._runner.rest
        return list({row.index: row for row in (*self._ready, *rest)}.values())

    def stop(self) -> None:
        """Buy nothing more: the loop goes on with what is under way, and then raises StoppedError. Returns at once; may
        be called from any thread, and from a signal handler."""
        self._told = StoppedError("the run was told to stop: what came back is kept, the rest was not bought")
        if self._runner is not None:
            self._runner.fail(self._told)

    @property
    def closed(self) -> bool:
        """Whether the run has come to its end, or was left and nothing is under way any more."""
        return self._runner is not None and self._runner.ended.done()

    def _start(self) -> Runner:
        if self._runner is not None:
            raise refuse("a bulk run can be gone through once: call classify_many again for another")
        if self._told is not None:
            raise self._told
        self._runner = Runner(self._request, self._transport.for_loop, self._transport)
        return self._runner

    def _report(self, runner: Runner, *, last: bool = False) -> None:
        """Tell the caller's `progress`, from the caller's own thread or task; an error of it ends the run."""
        try:
            self._request.stats.report(self._request.options.progress, time.monotonic(), last=last)
        except Exception as error:
            if last:
                raise
            runner.fail(error)

    def _pull(self, runner: Runner, source: Tap, engine: Engine) -> tuple[list[object], bool] | None:
        """The next rows, None when there are no more; an error of their source ends the run."""
        try:
            part, slow = source.pull(engine.room)
        except Exception as error:  # noqa: BLE001  # raised once everything that was paid has been given out
            runner.fail(error)
            return None
        if not part:
            runner.call(engine.end)
            return None
        return part, slow


class AsyncBulkRun(_Run[L_co]):
    """A run to go through with `async for`; `stats` grows meanwhile and is complete at the end."""

    async def __aiter__(self) -> AsyncIterator[Row[L_co]]:
        check_loop("AsyncClassifailyClient")
        runner = self._start()
        left = _Left(runner)
        rows, ready, pump = self._request.rows, self._ready, None
        source = None if isinstance(rows, AsyncIterable) else Tap(rows)
        with Told(self):
            try:
                engine = await arrived(runner.submit(runner.session.open))
                runner.check()
                while True:
                    if engine.sender.undecided:
                        await _hand(runner, runner.session.guard, self._request.rehearsal)
                    if isinstance(rows, AsyncIterable) and pump is None:
                        pump = Pump(runner, engine, rows)
                        pump.start()
                    while source is not None and not engine.ending and engine.room and not engine.has_rows:
                        pulled = self._pull(runner, source, engine)
                        if pulled is None:
                            source = None
                        else:
                            await arrived(runner.submit(partial(engine.feed, pulled[0], slow=pulled[1])))
                        self._report(runner)
                    found = await arrived(runner.take())
                    ready.extend(found or ())
                    runner.taken()
                    self._report(runner, last=found is None)
                    if found is None:
                        return
                    while ready:
                        yield ready.popleft()
            finally:
                if pump is not None:
                    pump.stop()
                await outlast(runner.stop(), () if pump is None else pump.tasks)
                del left

    async def aclose(self) -> None:
        """Leave early: buy nothing more and wait for what is under way. Closing the client does it too."""
        if self._runner is not None:
            await outlast(self._runner.stop())

    async def plan(self) -> Plan:
        """What this run would buy; spends nothing."""
        check_loop("AsyncClassifailyClient")
        runner = self._start()
        try:
            await arrived(runner.submit(runner.session.open))
            return await _hand(runner, runner.session.plan, self._request.rows)
        finally:
            await outlast(runner.stop())


class BulkRun(_Run[L_co]):
    """A run to go through with `for`; `stats` grows meanwhile and is complete at the end."""

    def __iter__(self) -> Iterator[Row[L_co]]:
        rows = self._rows()
        runner, ready = self._start(), self._ready
        source, begun = None, False
        with Told(self):
            try:
                engine = runner.submit(runner.session.open).result()
                runner.check()
                while True:
                    if engine.sender.undecided:
                        _hand_over(runner, runner.session.guard, _here(self._request.rehearsal))
                    if source is None and not begun:
                        source, begun = Tap(rows), True
                    # Rows are pulled in the caller's thread: a database cursor may belong to it.
                    while source is not None and not engine.ending and engine.room and not engine.has_rows:
                        pulled = self._pull(runner, source, engine)
                        if pulled is None:
                            source = None
                        else:
                            runner.submit(partial(engine.feed, pulled[0], slow=pulled[1])).result()
                        self._report(runner)
                    found = runner.take().result()
                    ready.extend(found or ())
                    runner.taken()
                    self._report(runner, last=found is None)
                    if found is None:
                        return
                    while ready:
                        yield ready.popleft()
            finally:
                runner.close()

    def close(self) -> None:
        """Leave early: buy nothing more and wait for what is under way. Closing the client does it too."""
        if self._runner is not None:
            self._runner.close()

    def plan(self) -> Plan:
        """What this run would buy; spends nothing."""
        rows = self._rows()
        runner = self._start()
        try:
            runner.submit(runner.session.open).result()
            return _hand_over(runner, runner.session.plan, rows)
        finally:
            runner.close()

    def _rows(self) -> Iterable[object]:
        return _here(self._request.rows)


class _Left:
    """Stops a run whose generator is gone without having been closed: its event loop may have ended before it."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __del__(self) -> None:
        self._runner.stop()


def _here(rows: Rows) -> Iterable[object]:
    if isinstance(rows, AsyncIterable):
        raise refuse("rows is asynchronous: use AsyncClassifailyClient.classify_many")
    return rows


Reading = Callable[[AsyncIterator[object]], Coroutine[Any, Any, T]]


def _hand_over(runner: Runner, work: Reading[T], rows: Iterable[object]) -> T:
    """What `work`, in the run's thread, makes of rows that are pulled in this one."""
    handover = Handover()
    found = runner.submit(partial(handover.read, work))
    for part in parts(rows):
        runner.check()
        if found.done():
            break
        runner.submit(partial(handover.put, part)).result()
    runner.submit(partial(handover.put, [])).result()
    return found.result()


async def _hand(runner: Runner, work: Reading[T], rows: Rows) -> T:
    """`_hand_over` on an event loop."""
    handover = Handover()
    found = runner.submit(partial(handover.read, work))
    async for part in aparts(rows):
        runner.check()
        if found.done():
            break
        await arrived(runner.submit(partial(handover.put, part)))
    await arrived(runner.submit(partial(handover.put, [])))
    return await arrived(found)
