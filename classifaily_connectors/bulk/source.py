"""Where rows come from.

The law of this file: nothing is pulled before there is room for it, nothing that was pulled is lost, and a source that
thinks for a while holds up neither the answers nor the rows it gave before.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from classifaily_connectors.bulk.waiting import arrived
from classifaily_connectors.errors import ConfigurationError

if TYPE_CHECKING:
    from classifaily_connectors.bulk.engine import Engine
    from classifaily_connectors.bulk.runner import Runner

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


class Pump:
    """Carries the rows of an asynchronous source to the engine, beside everything else on the source's own loop."""

    def __init__(self, runner: Runner, engine: Engine, source: AsyncIterable[object]) -> None:
        self._runner, self._engine = runner, engine
        self._source = source
        self._rows: list[object] = []
        self._ended = self._stopped = False
        self._moved = asyncio.Event()
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Carry until the source ends, an error of which ends the run."""
        for work in (self._read(), self._feed()):
            task = asyncio.create_task(work)
            task.add_done_callback(self._done)
            self.tasks.append(task)

    def stop(self) -> None:
        """Carry nothing more."""
        self._stopped = True
        for task in self.tasks:
            task.cancel()

    def _done(self, task: asyncio.Task[None]) -> None:
        if task.cancelled():
            if not self._stopped:
                self._runner.fail(ConfigurationError("the source of the rows was cancelled"))
        elif (error := task.exception()) is not None:
            self._runner.fail(error)

    async def _read(self) -> None:
        async for row in self._source:
            self._rows.append(row)
            self._moved.set()
            while len(self._rows) >= CHUNK:
                await self._move()
        self._ended = True
        self._moved.set()

    async def _feed(self) -> None:
        runner, engine = self._runner, self._engine
        while True:
            while not self._rows and not self._ended:
                await self._move()
            room = await arrived(runner.submit(engine.wait_for_room))
            part, self._rows = self._rows[:room], self._rows[room:]
            self._moved.set()
            if not part:
                runner.call(engine.end)
                return
            await arrived(runner.submit(partial(engine.feed, part, slow=len(part) < min(room, CHUNK))))

    async def _move(self) -> None:
        self._moved.clear()
        await self._moved.wait()


def parts(rows: Iterable[object]) -> Iterator[list[object]]:
    """The rows in lists of `CHUNK`."""
    each = iter(rows)
    while part := list(itertools.islice(each, CHUNK)):
        yield part


async def aparts(rows: Rows) -> AsyncIterator[list[object]]:
    """The same of any source, on an event loop."""
    if not isinstance(rows, AsyncIterable):
        for part in parts(rows):
            yield part
        return
    gathered: list[object] = []
    async for row in rows:
        gathered.append(row)
        if len(gathered) == CHUNK:
            yield gathered
            gathered = []
    if gathered:
        yield gathered
