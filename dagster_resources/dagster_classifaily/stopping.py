"""A run that is being terminated buys nothing more.

Dagster answers an interrupt (Terminate, Ctrl-C, SIGTERM) with the step's retry policy: in the process that was told to
stop, the step begins anew. And it interrupts the main thread only.

The law of this file: whoever stops a run has the last word. Its status is looked at before anything is paid, and once
a second while a table is bought; an interrupt leads to a retry only where another process makes it and the ledger has
it pay nothing twice.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any, Self

from dagster import DagsterError, DagsterExecutionInterruptedError, DagsterRunStatus

from dagster_classifaily.steps import current_step

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

    from dagster import DagsterInstance

EVERY = 1.0
"""Seconds between two looks at the run's status."""
INTERRUPTS = (KeyboardInterrupt, DagsterExecutionInterruptedError)
_STOPPING = (DagsterRunStatus.CANCELING, DagsterRunStatus.CANCELED)


class StepStoppedError(DagsterError, DagsterExecutionInterruptedError):
    """The run is being terminated: nothing more is bought, and what was paid is kept.

    To Dagster it is the interrupt that it is, but no retry policy applies to it: the run ends as CANCELED. `stats` is
    what a table's run had done (a `BulkStats`).
    """

    stats: Any = None


class RunWatch:
    """Tells whether a run is being terminated, from the instance that keeps its status; for all threads.

    It asks at most once a second. An instance that cannot be reached is no reason to stop.
    """

    def __init__(self, instance: DagsterInstance, run_id: str) -> None:
        self._instance, self._run_id = instance, run_id
        self._due = 0.0
        self._stopping = False

    def is_stopping(self, *, now: bool = False) -> bool:
        """Whether it is; `now` asks the instance whenever it was asked last."""
        moment = time.monotonic()
        if not self._stopping and (now or moment >= self._due):
            self._due = moment + EVERY
            try:
                run = self._instance.get_run_by_id(self._run_id)
            except Exception:  # noqa: BLE001  # whatever its storage raises
                return False
            self._stopping = run is not None and run.status in _STOPPING
        return self._stopping

    def check(self) -> None:
        """Raise StepStoppedError once the run is being terminated."""
        if self.is_stopping():
            raise StepStoppedError("the run is being terminated: nothing more is bought")


class TableWatch:
    """A context manager for a table that is being bought; `check` in between costs nothing.

    The instance is asked in a thread of its own, as its answer may take a while.
    """

    def __init__(self, run: RunWatch | None) -> None:
        self._run = run
        self._stopped, self._ended = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        if self._run is not None:
            self._run.check()
            threading.Thread(target=self._look, args=(self._run,), name="classifaily-stop", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()

    def check(self) -> None:
        """Raise StepStoppedError once the run is being terminated."""
        if self._stopped.is_set():
            raise StepStoppedError("the run is being terminated: nothing more is bought, what was paid is kept")

    def _look(self, run: RunWatch) -> None:
        while not self._ended.wait(EVERY):
            if run.is_stopping(now=True):
                self._stopped.set()
                return


@contextmanager
def interruptible(*, repeatable: bool) -> Generator[None]:
    """Decides what an interrupt of the step leads to; `repeatable` is work of which a retry pays nothing twice.

    Raises StepStoppedError, unless the step may be retried, and by another process.
    """
    try:
        yield
    except StepStoppedError:
        raise
    except INTERRUPTS as interrupt:
        if _retried_here(repeatable=repeatable):
            stopped = StepStoppedError(f"interrupted ({type(interrupt).__name__}): nothing more is bought")
            stopped.stats = getattr(interrupt, "stats", None)
            raise stopped from None  # or a traceback printed with its locals would show the rows
        raise


def _retried_here(*, repeatable: bool) -> bool:
    """Whether Dagster's answer to an interrupt would be a retry that is not wanted."""
    context = current_step()
    if context is None:
        return False
    step = context.get_step_execution_context()
    if not repeatable or not step.retry_mode.deferred:
        return True
    return RunWatch(step.instance, step.run_id).is_stopping()


async def uninterrupted(work: Awaitable[Any]) -> Any:
    """What `work` returns. An interrupt cancels it and lets it end, so that it keeps what is paid for; then it is told.

    Dagster's own way is to raise in the middle of the event loop, which leaves the coroutine behind, half done.
    """
    if _guarded.get() or threading.current_thread() is not threading.main_thread():
        return await work
    inside = copy_context()
    inside.run(_guarded.set, True)
    task = asyncio.get_running_loop().create_task(_awaited(work), context=inside)
    with _signals.cancelling(task):
        return await task


async def _awaited(work: Awaitable[Any]) -> Any:
    try:
        return await work
    except asyncio.CancelledError as error:
        if not _signals.came:
            raise
        interrupt: Any = DagsterExecutionInterruptedError()
        interrupt.stats = getattr(error, "stats", None)
    raise interrupt


class _Signals:
    """The handlers of SIGINT and SIGTERM while tasks are under way; in the main thread only."""

    def __init__(self) -> None:
        self.came = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._before: dict[signal.Signals, Any] = {}

    @contextmanager
    def cancelling(self, task: asyncio.Task[Any]) -> Generator[None]:
        """A signal that comes meanwhile cancels the task."""
        if not self._tasks:
            self.came = False
            self._before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
            for each in self._before:
                signal.signal(each, self._stop)
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)
            if not self._tasks:
                for each, handler in self._before.items():
                    signal.signal(each, signal.SIG_DFL if handler is None else handler)

    def _stop(self, *_: object) -> None:
        self.came = True
        for task in self._tasks:
            task.get_loop().call_soon_threadsafe(task.cancel)


_guarded: ContextVar[bool] = ContextVar("classifaily_guarded", default=False)
_signals = _Signals()
