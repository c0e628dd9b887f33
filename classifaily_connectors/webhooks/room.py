"""The one thread in which a process waits, whoever waits and for whatever.

The law of this file: the thread is there while somebody waits, and not a moment longer; a caller's event loop, its
executor and its end have no part in it. So a thousand waiters on ten event loops and in twenty threads share one
poller, one that the caller's own work cannot starve, and a cancelled waiter leaves nothing behind. A forked child
starts with none.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Generator, Hashable
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

_PATIENCE = 10.0

T = TypeVar("T")
logger = logging.getLogger("classifaily_connectors")


class Fixture(Protocol):
    """What visitors of a room share. Made and used on the room's loop."""

    async def close(self) -> None:
        """End every task of its own."""
        ...


F = TypeVar("F", bound=Fixture)


class Room:
    """An event loop in a thread of its own, and what those inside share on it."""

    def __init__(self) -> None:
        self.visitors = 0
        self._fixtures: dict[Hashable, list[Any]] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self.thread = threading.Thread(
            target=lambda: asyncio.run(self._live()), name="classifaily-waiting", daemon=True
        )
        self.thread.start()
        self._ready.wait()

    async def _live(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.empty = asyncio.Event()
        self._ready.set()
        await self.empty.wait()
        # Visitors who were cancelled may still be on their way out, and what they shared is closed behind them.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)

    @contextmanager
    def share(self, key: Hashable, make: Callable[[], F]) -> Generator[F]:
        """The fixture under `key`: made for the first inside, closed behind the last, which waits for nothing."""
        entry = self._fixtures.get(key)
        if entry is None:
            entry = self._fixtures[key] = [make(), 0]
        entry[1] += 1
        try:
            yield entry[0]
        finally:
            entry[1] -= 1
            if not entry[1]:
                del self._fixtures[key]
                task = asyncio.ensure_future(entry[0].close())
                self._closing.add(task)
                task.add_done_callback(self._closed)

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            logger.info("what was shared by those who waited did not close well", exc_info=error)


_lock = threading.Lock()
_room: Room | None = None


def visit(work: Callable[[Room], Coroutine[Any, Any, T]]) -> T:
    """Run `work` in the room; whoever leaves last waits until what was shared is closed."""
    room, future = _enter(work)
    try:
        found = future.result()
    except BaseException:
        future.cancel()  # an interrupt must not leave it waiting
        _leave(room)
        raise
    if _leave(room):
        room.thread.join(_PATIENCE)
    return found


async def avisit(work: Callable[[Room], Coroutine[Any, Any, T]]) -> T:
    """See `visit`; for callers on an event loop of their own."""
    room, future = _enter(work)
    try:
        found = await asyncio.wrap_future(future)
    except BaseException:
        _leave(room)
        raise
    if _leave(room):
        await asyncio.to_thread(room.thread.join, _PATIENCE)
    return found


def _enter(work: Callable[[Room], Coroutine[Any, Any, T]]) -> tuple[Room, Future[T]]:
    global _room  # noqa: PLW0603  # one per process is the point
    with _lock:
        room = _room = _room or Room()
        room.visitors += 1
        return room, asyncio.run_coroutine_threadsafe(work(room), room.loop)


def _leave(room: Room) -> bool:
    """Whether that was the last one inside."""
    global _room  # noqa: PLW0603
    with _lock:
        room.visitors -= 1
        if room.visitors:
            return False
        if room is _room:
            _room = None
    room.loop.call_soon_threadsafe(room.empty.set)
    return True


def _forget() -> None:
    # The thread stayed with the parent, and another one may have held the lock.
    global _room, _lock
    _room, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
