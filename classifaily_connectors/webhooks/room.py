"""The one thread in which a process waits, whoever waits and for whatever.

The law of this file: the thread is there while somebody waits, and not a moment longer; a caller's event loop, its
executor and its end have no part in it. So a thousand waiters on ten event loops and in twenty threads share one
poller, one that the caller's own work cannot starve, and a cancelled waiter leaves nothing behind. A forked child
starts with none.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine, Generator, Hashable
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


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
        threading.Thread(target=lambda: asyncio.run(self._live()), name="classifaily-waiting", daemon=True).start()
        self._ready.wait()

    async def _live(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._empty = asyncio.Event()
        self._ready.set()
        await self._empty.wait()
        while self._closing:
            await asyncio.gather(*self._closing, return_exceptions=True)

    def leave_it(self) -> None:
        """Let the thread end, once what was shared is closed."""
        self.loop.call_soon_threadsafe(self._empty.set)

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
                task.add_done_callback(self._closing.discard)


_lock = threading.Lock()
_room: Room | None = None


def visit(work: Callable[[Room], Coroutine[Any, Any, T]]) -> Future[T]:
    """Run `work` in the room; cancelling the future cancels it."""
    global _room  # noqa: PLW0603  # one per process is the point
    with _lock:
        room = _room = _room or Room()
        room.visitors += 1
        future = asyncio.run_coroutine_threadsafe(work(room), room.loop)
    future.add_done_callback(lambda _: _gone(room))
    return future


async def avisit(work: Callable[[Room], Coroutine[Any, Any, T]]) -> T:
    """See `visit`; for callers on an event loop of their own."""
    return await asyncio.wrap_future(visit(work))


def _gone(room: Room) -> None:
    global _room  # noqa: PLW0603
    with _lock:
        room.visitors -= 1
        if room.visitors:
            return
        if room is _room:
            _room = None
    room.leave_it()


def _forget() -> None:
    # The thread stayed with the parent, and another one may have held the lock.
    global _room, _lock
    _room, _lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget)
