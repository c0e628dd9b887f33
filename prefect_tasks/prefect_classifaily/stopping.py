"""Whether the flow run that a task belongs to is being stopped.

Prefect stops the main thread only. A task that was submitted runs in another thread, for which Prefect then waits, so
it has to find out for itself: from the state of its flow run, and from the main thread.
"""

from __future__ import annotations

import sys
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Self

from prefect import get_client
from prefect.client.schemas.objects import StateType
from prefect.context import FlowRunContext
from prefect.exceptions import CancelledRun, TerminationSignal
from prefect.runtime import flow_run as runtime

if TYPE_CHECKING:
    from types import FrameType
    from uuid import UUID

EVERY = 1.0
"""Seconds between two looks."""
_STOPPED = (StateType.CANCELLING, StateType.CANCELLED)


class StopWatch:
    """Looks once a second, in a thread of its own, whether the flow run is being stopped; call `check` in between.

    A context manager. A server that cannot be reached is no reason to stop.
    """

    def __init__(self) -> None:
        self._stopped = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if FlowRunContext.get() is not None:
            work = copy_context()  # names the flow run, and the server it is known to
            self._thread = threading.Thread(target=work.run, args=(self._look,), name="classifaily-stop", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop looking."""
        self._ended.set()

    def check(self) -> None:
        """Raise Prefect's CancelledRun once the flow run is being stopped; returns at once."""
        if self._stopped.is_set():
            raise CancelledRun("the flow run is being stopped: nothing more is bought, what was paid is kept")

    def _look(self) -> None:
        while not self._ended.wait(EVERY):
            if is_stopping():
                self._stopped.set()
                return


def is_stopping() -> bool:
    """Whether the current flow run, or the one that all began with, is being cancelled or its process was terminated.

    Asks the Prefect server once for each of the two; False where it cannot be reached, and outside a flow run.
    """
    return _is_unwinding() or _is_cancelled()


def _is_unwinding() -> bool:
    """Whether the main thread holds the exception that Prefect's handler of SIGTERM raises there.

    It does so for as long as it waits for its task threads; nothing else in this process tells them of the signal.
    """
    main = threading.main_thread().ident or 0
    # Documented, its underscore notwithstanding.
    frame: FrameType | None = sys._current_frames().get(main)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]
    while frame is not None:
        if any(isinstance(value, TerminationSignal) for value in frame.f_locals.values()):
            return True
        frame = frame.f_back
    return False


def _is_cancelled() -> bool:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return False
    run_ids: set[UUID | str] = {context.flow_run.id}
    try:
        if context.flow_run.parent_task_run_id is not None and (root := runtime.root_flow_run_id) is not None:
            run_ids.add(root)
        with get_client(sync_client=True) as client:
            states = [client.read_flow_run(run_id).state for run_id in run_ids]  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001  # whatever Prefect's client raises
        return False
    return any(state is not None and state.type in _STOPPED for state in states)
