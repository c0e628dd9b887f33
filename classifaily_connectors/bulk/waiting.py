"""Waiting on an event loop for what a thread does.

The law of this file: whoever is cancelled while they wait cancels nothing but the waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


async def arrived(future: Future[T]) -> T:
    """The result of a future of another thread; being cancelled ends the waiting alone."""
    await _waiter(future)
    return future.result()


async def outlast(future: Future[T], tasks: Iterable[asyncio.Task[Any]] = ()) -> T:
    """The result of a future of another thread, whatever cancels the waiting: that is raised afterwards.

    `tasks` have been cancelled; they are waited for as well.
    """
    cancelled: asyncio.CancelledError | None = None
    everything = [_waiter(future), *tasks]
    with _shielded():
        while not all(each.done() for each in everything):
            try:
                await asyncio.wait(everything)
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
    return future.result()


def _waiter(future: Future[Any]) -> asyncio.Future[None]:
    loop = asyncio.get_running_loop()
    waiter: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not waiter.done():
            waiter.set_result(None)

    def wake(_future: Future[Any]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop may have ended
            loop.call_soon_threadsafe(end)

    future.add_done_callback(wake)
    return waiter


def _shielded() -> contextlib.AbstractContextManager[object]:
    # A cancelled scope of anyio cancels its tasks on every turn of their loop until they have left it: a task that
    # goes on waiting would keep a processor busy with it. Whoever uses scopes has imported anyio.
    scope = getattr(sys.modules.get("anyio"), "CancelScope", None)
    return contextlib.nullcontext() if scope is None else scope(shield=True)
