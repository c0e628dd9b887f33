"""The connections of one client: lanes, each alone in its pool, which are taken and given back.

The law of this file: a lane whose exchange did not end well is thrown away.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Generic, Protocol, TypeVar


class _Lane(Protocol):
    def close(self) -> None: ...


class _AsyncLane(Protocol):
    async def aclose(self) -> None: ...


Lane = TypeVar("Lane", bound=_Lane)
AsyncLane = TypeVar("AsyncLane", bound=_AsyncLane)


class SyncLanes(Generic[Lane]):
    """At most `size` connections, the last one used first, each alone in its pool."""

    def __init__(self, size: int, make: Callable[[], Lane]) -> None:
        self._make = make
        self._free: list[Lane] = []
        self._slots = threading.Semaphore(size)
        self._closed = False

    @contextmanager
    def lane(self) -> Generator[Lane]:
        """A lane of one's own; thrown away when the block does not end well."""
        with self._slots:
            try:
                lane = self._free.pop()
            except IndexError:
                lane = self._make()
            try:
                yield lane
            except BaseException:
                with suppress(OSError):  # a dead connection may fail to close
                    lane.close()
                raise
            self._free.append(lane)
            if self._closed:
                self.close()

    def close(self) -> None:
        """Close the free lanes now, and those in use when their block ends."""
        self._closed = True
        while self._free:
            with suppress(IndexError):  # another thread may have taken the last one
                self._free.pop().close()


class AsyncLanes(Generic[AsyncLane]):
    """See `SyncLanes`; lanes thrown away are closed by a task of their own, as a cancelled caller cannot wait."""

    def __init__(self, size: int, make: Callable[[], AsyncLane]) -> None:
        self._make = make
        self._free: list[AsyncLane] = []
        self._slots = asyncio.Semaphore(size)
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False
        self._end = self._close_at_the_end()

    async def open(self) -> None:
        """Have the running loop close the lanes when it ends, if nobody does before."""
        await anext(self._end)

    async def _close_at_the_end(self) -> AsyncGenerator[None]:
        # A loop that ends closes nothing of itself but the asynchronous generators begun on it.
        try:
            yield
        finally:
            self._closed = True
            while self._free:
                self._discard(self._free.pop())
            await asyncio.gather(*self._closing, return_exceptions=True)

    async def close(self) -> None:
        """Close the free lanes now, and those in use when their block ends."""
        await self._end.aclose()

    @asynccontextmanager
    async def lane(self) -> AsyncGenerator[AsyncLane]:
        """A lane of one's own; thrown away when the block does not end well."""
        async with self._slots:
            lane = self._free.pop() if self._free else self._make()
            try:
                yield lane
            except BaseException:
                self._discard(lane)
                raise
            if self._closed:
                self._discard(lane)
            else:
                self._free.append(lane)

    def _discard(self, lane: AsyncLane) -> None:
        task = asyncio.ensure_future(lane.aclose())
        self._closing.add(task)
        task.add_done_callback(self._discarded)

    def _discarded(self, task: asyncio.Task[None]) -> None:
        self._closing.discard(task)
        if not task.cancelled():
            task.exception()  # read, or asyncio reports it: a dead connection may fail to close
