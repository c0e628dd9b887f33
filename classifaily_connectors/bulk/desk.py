"""The ledger as the engine sees it: awaitable, and with the small commits of many batches made one.

The law of this file: nothing here waits for a disk on the event loop; and while one commit is being written, all that
arrives is gathered into the next. A database in trouble that may pass is waited for, and nothing is bought meanwhile,
because nothing can be claimed; what was paid and still cannot be written is put into a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol, TypeVar

from classifaily_connectors.errors import StoreError, why
from classifaily_connectors.store.entry import Changes

if TYPE_CHECKING:
    from classifaily_connectors.store.entry import Committed, Entry

T = TypeVar("T")
_BEATS_PER_LEASE = 6
PATIENCE = 60.0
"""Seconds for which a run waits for a database in trouble."""
_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
logger = logging.getLogger("classifaily_connectors")


class Book(Protocol):
    """What keeps entries: the SQL `Ledger`, or `MemoryBook`. `durable` ones outlive the run, and have a `place`."""

    lease: float
    namespace: str
    durable: bool

    @property
    def place(self) -> str | None: ...
    def now(self) -> float: ...
    def lookup(self, keys: Collection[bytes]) -> dict[bytes, Entry]: ...
    def live_runs(self, run_ids: Collection[str]) -> set[str]: ...
    def start_run(self) -> str: ...
    def beat(self, run_id: str) -> None: ...
    def end_run(self, run_id: str) -> None: ...
    def commit(self, run_id: str, changes: Changes) -> Committed: ...
    def attach(self, run_id: str, keys: Collection[bytes], job_id: str) -> None: ...
    def park(self, keys: Collection[bytes]) -> None: ...
    def counts(self, run_id: str, names: Collection[str]) -> tuple[dict[str, int], int]: ...
    def rescue(self, run_id: str, answers: Mapping[bytes, str]) -> str | None: ...


def patiently(work: Callable[..., T], *arguments: object) -> T:
    """`work(*arguments)`, done again while its database is in trouble that may pass: it may be done twice. Blocks.

    Raises StoreError when that takes longer than our patience.
    """
    until, pause = time.monotonic() + PATIENCE, _PAUSE
    while True:
        try:
            return work(*arguments)
        except StoreError as error:
            if not error.passing or time.monotonic() + pause > until:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


class _Gathering:
    """What the next commit will write, and the future of those who wait for it."""

    def __init__(self) -> None:
        self.changes = Changes()
        self.waiting: asyncio.Future[Committed] | None = None

    def take(self) -> tuple[asyncio.Future[Committed], Changes]:
        """Everything so far; what comes later is for the commit after."""
        assert self.waiting is not None  # noqa: S101
        taken = self.waiting, self.changes
        self.waiting, self.changes = None, Changes()
        return taken


class Desk:
    """One run's access to a book, from one event loop."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.run_id = ""
        self.limits: dict[str, int] = {}
        """The most that shared counts may come to, by name."""
        self.counts: dict[str, int] = {}
        """The shared counts as the last commit found them."""
        self.cap: int | None = None
        """The most that this run may spend, whatever the shared counts say."""
        self.spent = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="classifaily-ledger")
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="classifaily-ledger-reader")
        self._next = _Gathering()
        self._writer: asyncio.Task[None] | None = None
        self._heart: asyncio.Task[None] | None = None
        self._troubled: dict[str, float] = {}
        self._silent_until = 0.0

    async def open(self) -> None:
        """Start the run and keep it alive."""
        self.run_id = await self._once(self._thread, self.book.start_run)
        self._heart = asyncio.create_task(self._beat())

    async def close(self) -> None:
        """End the run: what it still holds becomes open to others.

        Raises StoreError when answers that were paid could not be written; it says where they are.
        """
        try:
            if self._heart:
                self._heart.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await self._heart
            if self._writer:
                await self._writer
            if self._next.changes.answers:  # could not be written before
                await self._write_or_rescue(self._next.changes)
            if self.run_id:
                await self._end()
        finally:
            for each in (self._thread, self._reader):  # which may be at work for somebody who was cancelled
                await asyncio.to_thread(each.shutdown)

    async def _write_or_rescue(self, changes: Changes) -> None:
        try:
            await self._once(self._thread, self._write, changes)
        except StoreError as error:
            problem = error
        else:
            return
        number = len(changes.answers)
        path = await self._once(self._thread, self.book.rescue, self.run_id, changes.answers)
        place = (
            f"kept in {path}, and the next run with this ledger, or `classifaily ledger stats`, on this machine takes "
            "them in"
            if path
            else "lost, as no disk has room for them: `classifaily ledger settle` asks the API for them"
        )
        message = f"{problem.message}. {number} paid answers could not be written; they are {place}"
        raise StoreError(message, passing=problem.passing, unwritten=number, rescue=path) from None

    async def _end(self) -> None:
        try:
            await self._once(self._thread, self.book.end_run, self.run_id)
        except StoreError as error:  # its lease ends by itself
            logger.warning("the ledger could not be told that run %s has ended: %s", self.run_id, error.message)

    async def do(self, work: Callable[..., T], *arguments: object) -> T:
        """`work(*arguments)` on the ledger's own thread; it is done again while the database is in trouble, so it must
        be something that may be done twice."""
        return await self._patiently(self._thread, work, *arguments)

    async def lookup(self, keys: Collection[bytes]) -> dict[bytes, Entry]:
        """The entries of those `keys` that have one, without waiting for what is being written."""
        return await self._patiently(self._reader, self.book.lookup, keys)

    async def _once(self, thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
        if not self.book.durable:
            return work(*arguments)
        return await asyncio.get_running_loop().run_in_executor(thread, work, *arguments)

    async def _patiently(self, thread: ThreadPoolExecutor, work: Callable[..., T], *arguments: object) -> T:
        pause = _PAUSE
        while True:
            try:
                done = await self._once(thread, work, *arguments)
            except StoreError as error:
                if not self._may_wait(work.__name__, error, pause):
                    raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                self._troubled.pop(work.__name__, None)
                return done

    def _may_wait(self, work: str, error: StoreError, pause: float) -> bool:
        """Whether there is patience left; a disk that is full can be read all the same, so each work has its own."""
        now = time.monotonic()
        since = self._troubled.setdefault(work, now)
        if error.passing and now >= self._silent_until:
            self._silent_until = now + PATIENCE
            logger.warning("%s. Nothing is bought meanwhile; waiting up to %d s", error.message, PATIENCE)
        return error.passing and now + pause - since <= PATIENCE

    async def claim(self, keys: Collection[bytes], stale: Collection[Entry]) -> Committed:
        """Which of `keys` and of the `stale` entries are now ours, and which of these the limits let us pay for."""
        self._next.changes.claim(keys, stale)
        return await self._commit()

    async def finish(self, answers: Mapping[bytes, str]) -> None:
        """Committed answers."""
        if answers:
            self._next.changes.answers.update(answers)
            await self._commit()

    async def release(self, keys: Collection[bytes], returned: int = 0) -> None:
        """Give claims back, and `returned` requests that were counted.

        Both at once, because who opens a purse takes a claim that is open for a request that was counted.
        """
        if keys or returned:
            self._next.changes.released.update(keys)
            self._next.changes.returned += returned
            await self._commit()

    async def look_at_counts(self, names: Collection[str]) -> int:
        """Bring `counts` up to date; how many requests of other live runs they hold that may not be paid yet."""
        counts, under_way = await self.do(self.book.counts, self.run_id, names)
        self.counts.update(counts)
        return under_way

    async def _commit(self) -> Committed:
        if not self.book.durable:
            changes, self._next.changes = self._next.changes, Changes()
            return self._write(changes)  # memory is quicker than a gathering
        if self._next.waiting is None:
            self._next.waiting = asyncio.get_running_loop().create_future()
        mine = self._next.waiting
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write_all())
        return await asyncio.shield(mine)

    async def _write_all(self) -> None:
        while self._next.waiting is not None:
            await asyncio.sleep(0)  # let the others of this moment join
            waiting, changes = self._next.take()
            try:
                done = await self._patiently(self._thread, self._write, changes)
            except Exception as error:  # noqa: BLE001  # whoever waits for this commit gets it
                # Answers were paid for: the next commit, at the latest the one of `close`, tries them again.
                self._next.changes.answers = {**changes.answers, **self._next.changes.answers}
                waiting.set_exception(error)
                waiting.exception()  # also when its waiters were cancelled
            else:
                waiting.set_result(done)

    def _write(self, changes: Changes) -> Committed:
        changes.limits = self.limits
        changes.at_most = None if self.cap is None else max(0, self.cap - self.spent)
        try:
            done = self.book.commit(self.run_id, changes)
        except StoreError:
            changes.again = True
            raise
        self.counts.update(done.counts)
        self.spent += len(done.covered) - changes.returned
        return done

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self.book.lease / _BEATS_PER_LEASE)
            try:
                await self._once(self._thread, self.book.beat, self.run_id)
            except Exception as error:  # noqa: BLE001  # a missed beat is made up by the next; the lease allows several
                logger.warning("the ledger could not be told that run %s is alive: %s", self.run_id, why(error))
