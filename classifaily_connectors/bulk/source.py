"""Where rows come from.

The law of this file: nothing is pulled before there is room for it, nothing that was pulled is lost, and a source that
thinks for a while holds up neither the answers nor the rows it gave before.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classifaily_connectors.bulk.engine import Engine

Rows = Iterable[object] | AsyncIterable[object]
CHUNK = 500
_FIRST = 50
_PULL = 0.05


class Tap:
    """An iterable's rows, pulled in parts that begin small: a source that stops to think holds back little."""

    def __init__(self, rows: Iterable[object]) -> None:
        self._rows = iter(rows)
        self._size = _FIRST

    def pull(self, room: int) -> tuple[list[object], bool]:
        """Up to `room` rows, none at the end; and whether the source is slow, so that there are fewer."""
        part: list[object] = []
        until = time.monotonic() + _PULL
        for row in itertools.islice(self._rows, min(self._size, room)):
            part.append(row)
            if time.monotonic() > until:
                self._size = _FIRST
                return part, True
        self._size = min(self._size * 2, CHUNK)
        return part, False


def again(rows: Rows) -> bool:
    """Whether `rows` can be gone through a second time."""
    return not isinstance(rows, Iterator | AsyncIterator)


async def asynchronous(rows: Rows) -> AsyncIterator[object]:
    """The rows of any source."""
    if isinstance(rows, AsyncIterable):
        async for row in rows:
            yield row
    else:
        for row in rows:
            yield row


class Pump:
    """Carries the rows of an asynchronous source to the engine, beside everything else on the loop."""

    def __init__(self, engine: Engine, source: AsyncIterable[object]) -> None:
        self._engine = engine
        self._source = source
        self._rows: list[object] = []
        self._ended = False
        self._moved = asyncio.Event()

    def start(self) -> None:
        """Carry until the source ends, an error of which ends the run."""
        self._engine.watch(self._read())
        self._engine.watch(self._feed())

    async def _read(self) -> None:
        async for row in self._source:
            self._rows.append(row)
            self._moved.set()
            while len(self._rows) >= CHUNK:
                await self._move()
        self._ended = True
        self._moved.set()

    async def _feed(self) -> None:
        while True:
            while not self._rows and not self._ended:
                await self._move()
            room = await self._engine.wait_for_room()
            part, self._rows = self._rows[:room], self._rows[room:]
            self._moved.set()
            if not part:
                self._engine.end()
                return
            await self._engine.feed(part, slow=len(part) < min(room, CHUNK))

    async def _move(self) -> None:
        self._moved.clear()
        await self._moved.wait()
