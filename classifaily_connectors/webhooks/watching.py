"""Deliveries, as they come into the store: one poller for any number of waiters.

The law of this file: waiting is level-triggered. Whoever starts to wait is first looked up, then the feed is
followed, and now and then everybody is looked up again; so a delivery that came before, during an outage or out of
order is found. Reading consumes nothing. A store that is down is waited for, never a reason to give up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Coroutine, Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from classifaily_connectors.errors import why
from classifaily_connectors.events import ends_job

if TYPE_CHECKING:
    from classifaily_connectors.store.delivery import Delivery, SettledBy

logger = logging.getLogger("classifaily_connectors")

_SWEEP = 30.0
"""Seconds between two looks at everybody: what the feed said may have been missed, what the table holds cannot."""
_PATIENCE = 5.0
_MEANS: tuple[SettledBy, ...] = ("webhook", "poll")
_PAUSE, _LONGEST_PAUSE = 0.25, 15.0
"""Seconds before a store that failed is tried again, doubled each time."""


def report(error: Exception) -> None:
    """Say that deliveries cannot be read."""
    logger.warning("deliveries cannot be read, the API is asked for jobs instead: %s", why(error))


class Reader(Protocol):
    """One source's deliveries, read on an event loop."""

    async def open(self) -> None:
        """Connect; raises what the store raises."""
        ...

    async def head(self) -> int:
        """The feed's last number; 0 when it is empty."""
        ...

    async def news(self, seq: int) -> list[Delivery]:
        """Deliveries after `seq`, in order; returns after a while when there are none."""
        ...

    async def find(self, job_ids: Collection[str]) -> dict[str, Delivery]:
        """The deliveries of those jobs that have one."""
        ...

    async def expect(self, job_ids: Collection[str]) -> None:
        """Note that somebody waits for these jobs."""
        ...

    async def settle(self, job_ids: Collection[str], by: SettledBy) -> None:
        """Note by what they were settled."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...


class Waiter:
    """One who waits for the delivery of one job; `looked` comes once the store was looked up, or could not be."""

    __slots__ = ("arrival", "job_id", "looked")

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.arrival: asyncio.Future[Delivery] = asyncio.get_running_loop().create_future()
        self.looked: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class Watch:
    """The waiters of one source in one store, and the task that wakes them."""

    def __init__(self, reader: Reader, source: str) -> None:
        self._reader, self._source = reader, source
        self._waiters: dict[str, set[Waiter]] = {}
        self._fresh: set[str] = set()
        self._expected: set[str] = set()
        self._settled: dict[str, tuple[SettledBy, asyncio.Future[None]]] = {}
        self._readable = True
        self._stirred = asyncio.Event()
        self._task = asyncio.create_task(self._work())

    @contextmanager
    def waiting(self, job_id: str) -> Generator[Waiter]:
        """Wait for the delivery of this job, inside the block."""
        waiter = Waiter(job_id)
        self._waiters.setdefault(job_id, set()).add(waiter)
        self._fresh.add(job_id)
        self._stirred.set()
        try:
            yield waiter
        finally:
            same = self._waiters[job_id]
            same.discard(waiter)
            if not same:
                del self._waiters[job_id]
                self._fresh.discard(job_id)
                self._expected.discard(job_id)

    async def whole(self, delivery: Delivery) -> Delivery | None:
        """The delivery with its body, which the feed does not carry, or as it is where nothing has it; None while the
        store cannot be read."""
        if delivery.body is not None:
            return delivery
        try:
            return (await self._reader.find([delivery.job_id])).get(delivery.job_id, delivery)
        except Exception as error:  # noqa: BLE001  # whatever a store raises: the wait goes on
            report(error)
            return None

    async def came(self, waiter: Waiter) -> bool:
        """Whether the delivery is there, be it since this moment; False while the store cannot be read."""
        if not waiter.arrival.done() and self._readable:
            try:
                async with asyncio.timeout(_PATIENCE):
                    found = await self._reader.find([waiter.job_id])
            except Exception as error:  # noqa: BLE001  # whatever a store raises: the job has ended all the same
                report(error)
            else:
                for delivery in found.values():
                    self._wake(delivery)
        return waiter.arrival.done()

    async def settle(self, job_id: str, by: SettledBy) -> None:
        """Note by what the job was settled; a store that cannot be told is not waited for."""
        if not self._readable:
            return
        noted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._settled[job_id] = by, noted
        self._stirred.set()
        await asyncio.wait({noted}, timeout=_PATIENCE)

    async def close(self) -> None:
        """End the task, and disconnect."""
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._reader.close()

    async def _work(self) -> None:
        failures = 0
        while True:
            try:
                await self._reader.open()
                seq = await self._reader.head()
                failures = 0
                self._readable = True
                self._fresh = set(self._waiters)
                await self._both(self._follow(seq), self._look())
            except Exception as error:  # noqa: BLE001  # whatever a store raises: the wait goes on
                report(error)
            self._readable = False
            self._tell(self._waiters)
            self._noted(self._settled.copy())
            await asyncio.sleep(min(_PAUSE * 2**failures, _LONGEST_PAUSE))
            failures += 1

    @staticmethod
    async def _both(*work: Coroutine[Any, Any, None]) -> None:
        """Until one of them fails; raises what it raised."""
        tasks = [asyncio.create_task(each) for each in work]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, seq: int) -> None:
        while True:
            for delivery in await self._reader.news(seq):
                seq = delivery.seq
                self._wake(delivery)

    async def _look(self) -> None:
        while True:
            self._stirred.clear()
            if self._fresh:
                await self._look_up(set(self._fresh))
            await self._note()
            try:
                async with asyncio.timeout(_SWEEP):
                    await self._stirred.wait()
            except TimeoutError:
                self._fresh = set(self._waiters)

    async def _look_up(self, fresh: set[str]) -> None:
        # Expected first: a delivery that comes in between counts as one that was waited for.
        new = fresh - self._expected
        if new:
            await self._reader.expect(new)
            self._expected |= new & self._waiters.keys()
        for delivery in (await self._reader.find(fresh)).values():
            self._wake(delivery)
        self._fresh -= fresh
        self._tell(fresh)

    async def _note(self) -> None:
        settled = self._settled.copy()
        for means in _MEANS:
            ids = [job_id for job_id, (by, _) in settled.items() if by == means]
            if ids:
                await self._reader.settle(ids, means)
        self._noted(settled)

    def _noted(self, settled: dict[str, tuple[SettledBy, asyncio.Future[None]]]) -> None:
        for job_id, entry in settled.items():
            if self._settled.get(job_id) is entry:
                del self._settled[job_id]
            if not entry[1].done():
                entry[1].set_result(None)

    def _wake(self, delivery: Delivery) -> None:
        if delivery.source != self._source or delivery.state == "refuted" or not ends_job(delivery.event):
            return
        for waiter in self._waiters.get(delivery.job_id, ()):
            if not waiter.arrival.done():
                waiter.arrival.set_result(delivery)

    def _tell(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            for waiter in self._waiters.get(job_id, ()):
                if not waiter.looked.done():
                    waiter.looked.set_result(None)
