"""Rows in, rows out, each paid for once.

The law of this file: a key is in one place at a time (waiting for a batch, under way, or waiting for another run), and
every row that was taken in is given out exactly once. Nothing here knows HTTP or SQL: `sending` pays, `recovery`
settles what others left open, the `Desk` remembers.

    feed -> unit, key -> equal rows join -> ledger -> basket -> batch -> claim -> send -> record -> take
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

from classifaily_connectors.bulk.decisions import Choices
from classifaily_connectors.bulk.limiter import Limiter
from classifaily_connectors.bulk.progress import BulkStats
from classifaily_connectors.bulk.reconcile import SETTLE_AFTER
from classifaily_connectors.bulk.recovery import Recovery
from classifaily_connectors.bulk.rows import Row, Verdict
from classifaily_connectors.bulk.sending import Sender
from classifaily_connectors.bulk.source import CHUNK
from classifaily_connectors.errors import ConfigurationError, InvalidRequestError
from classifaily_connectors.routing import ConfidencePolicy

if TYPE_CHECKING:
    from classifaily_connectors.bulk.budget import Budget
    from classifaily_connectors.bulk.decisions import OnUnknown
    from classifaily_connectors.bulk.desk import Desk
    from classifaily_connectors.bulk.progress import Progress
    from classifaily_connectors.bulk.rows import Source, Status
    from classifaily_connectors.bulk.terms import Terms, Unit
    from classifaily_connectors.models import Usage
    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.operations.effects import Operation

DEFAULT_BATCH = 25
MAX_BATCH_BYTES = 900_000
"""A batch's size in bytes stays below this: the smallest body limit we know of is 1 MiB."""
MAX_HELD_BYTES = 64 * 1024 * 1024
"""Rows held at once, until they are given out, stay about below this, however many the window has room for."""
_NOTHING: dict[str, Any] = {}


@dataclass(frozen=True)
class Options:
    """How a run behaves; see `ClassifailyClient.classify_many`."""

    batch_size: int | None = None
    concurrency: int = 16
    ordered: bool = True
    on_unknown: OnUnknown | None = None
    refresh: bool | Literal["failed"] = False
    budget: Budget | None = None
    policy: ConfidencePolicy = field(default_factory=ConfidencePolicy)
    progress: Callable[[Progress], None] | None = None
    total: int | None = None
    settle_after: float = SETTLE_AFTER

    @property
    def choices(self) -> Choices:
        """What is asked of `decisions`."""
        return Choices(self.refresh, self.on_unknown)


class Engine:
    """One run on one event loop; `run` drives an operation over the wire."""

    def __init__(
        self,
        run: Callable[[Operation[Any]], Awaitable[Any]],
        context: Context,
        terms: Terms,
        desk: Desk,
        options: Options,
    ) -> None:
        self.run, self.context, self.terms, self.desk, self.options = run, context, terms, desk, options
        self.stats = BulkStats(total=options.total)
        self.fatal: BaseException | None = None
        self.ending = False
        self.batch_size = options.batch_size or DEFAULT_BATCH
        self._widen()
        self.pending: dict[bytes, list[Unit]] = {}
        self.basket: deque[Unit] = deque()
        self._basket_bytes = 0
        self._held_bytes = 0
        self._paying: set[asyncio.Task[None]] = set()
        self._watching: set[asyncio.Task[None]] = set()
        self._rows: dict[int, tuple[Row, int]] = {}
        self._ready: list[Row] = []
        self._next = 0
        self._taken_in = 0
        self._given_out = 0
        self._ended = False
        self._slow = False
        self._changed, self._wound_up = asyncio.Event(), asyncio.Event()
        self._fingerprint = options.policy.fingerprint(terms.taxonomy)
        self.limiter = Limiter(options.concurrency)
        self.sender = Sender(self)
        self.recovery = Recovery(self)

    # --- the outside --------------------------------------------------------------------------

    @property
    def room(self) -> int:
        """How many more rows may be held: none while those that are held are too large."""
        if self._held_bytes > MAX_HELD_BYTES:
            return 0
        return max(0, self.window - (self._taken_in - self._given_out))

    @property
    def has_rows(self) -> bool:
        """Whether `take` would return at once."""
        return bool(self._ready)

    async def wait_for_room(self) -> int:
        """How many more rows may be held, at least one."""
        while not self.room:
            await self._change()
        return self.room

    async def feed(self, rows: Sequence[object], *, slow: bool = False) -> None:
        """Take rows in; returns once they are waiting, under way or settled.

        `slow` says that the next rows are not there yet: these need not wait for them while nothing is under way.
        """
        self._slow = slow
        units: list[Unit] = []
        for row in rows:
            unit = self._take_in(row)
            if unit is not None and self._lead(unit):
                units.append(unit)
            if self._held_bytes > MAX_HELD_BYTES:
                await self._place(units)
                units = []
                await self._lighten()
        await self._place(units)

    def end(self) -> None:
        """No more rows will come."""
        self._ended = True
        self._changed.set()

    async def take(self) -> list[Row] | None:
        """The rows that are ready; None when all have been given out. There are none while the buying has to wait for
        somebody who goes through the rows first: see `begin_buying`.

        Raises what ended the run early, once everything under way has landed and been given out.
        """
        while True:
            if self.fatal is not None and not self._paying:
                # No gap will be filled any more: what came after it was paid for as well.
                self._ready.extend(self._rows.pop(index)[0] for index in sorted(self._rows))
            if self._ready:
                rows, self._ready = self._ready, []
                self._given_out += len(rows)
                self._changed.set()
                return rows
            if self.fatal is not None and not self._paying:
                raise self.fatal
            if self._ended and self._given_out == self._taken_in:
                self.stats.check()
                return None
            if self.sender.undecided:
                return []
            self._dispatch()
            stuck = self._ended or not self.room
            if stuck and not (self._paying or self._watching or self._ready):
                raise RuntimeError(f"{self._taken_in - self._given_out} rows were lost on their way: a defect")
            await self._change()

    def begin_buying(self) -> None:
        """Buy from now on: what all rows need was found to be within what may be bought."""
        self.sender.prepared, self.sender.undecided = True, False
        self._changed.set()

    async def stop(self, patience: float) -> int:
        """Send nothing more, wait up to `patience` seconds for what is under way; how many keys stay open."""
        self.fail(ConfigurationError("the run was closed before its end"))  # for whoever still waits for its rows
        self.basket.clear()
        until = time.monotonic() + patience
        # An answer that lands is recorded by a task of its own, begun meanwhile.
        while self._paying and (left := until - time.monotonic()) > 0:
            await asyncio.wait(self._paying, timeout=left)
        open_keys = self.sender.under_way
        tasks = [*self._paying, *self._watching]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return open_keys

    def abandon(self) -> None:
        """Wait for nothing any more: what is under way loses its answers."""
        for task in self._paying:
            task.cancel()

    def rest(self) -> list[Row]:
        """The rows that were answered and that nobody took, once the run was stopped."""
        rows = [*self._ready, *(self._rows[index][0] for index in sorted(self._rows))]
        self._ready, self._rows = [], {}
        return rows

    # --- for sending and recovery -------------------------------------------------------------

    def pay(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, which is part of a purchase and is let end, beside the others; an error ends the run."""
        self._start(work, self._paying)

    def watch(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work`, which buys nothing and may be cancelled, beside the others; an error ends the run."""
        self._start(work, self._watching)

    def fail(self, error: BaseException) -> None:
        """End the run with `error`; what is under way still lands."""
        if self.fatal is None:
            self.fatal = error
        self._wind_up()
        self._changed.set()

    async def pause(self, seconds: float) -> None:
        """Wait, at most until the run winds up."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._wound_up.wait(), seconds)

    def put_in_basket(self, unit: Unit) -> None:
        """Queue a unit for the next batch."""
        self.basket.append(unit)
        self._basket_bytes += unit.size
        self._changed.set()

    def settle(self, key: bytes, verdict: Verdict, source: Source) -> None:
        """Give out the row of `key` and all rows equal to it, with one verdict."""
        leader, *followers = self._leave(key)
        self._put(self._row(leader, verdict, source), leader.size)
        for unit in followers:
            # Equal to what was there before is there before: else the numbers of a rerun hung on who met whom.
            self._put(self._row(unit, verdict, "duplicate" if source == "api" else source), unit.size)

    def close_without(self, key: bytes, status: Status, error: str) -> None:
        """Give out the rows of `key` without a verdict."""
        for unit in self._leave(key):
            row = Row(index=unit.index, columns=unit.columns, status=status, error=error, policy=self._fingerprint)
            self._put(row, unit.size)

    def quota(self, usage: Usage | None) -> None:
        """Take over what the usage report says of batch size and quota."""
        if usage is None:
            return
        self.stats.remaining = usage.remaining
        if self.options.batch_size is None and usage.limits.batch_size:
            self.batch_size = usage.limits.batch_size
            self._widen()

    # --- inside -------------------------------------------------------------------------------

    def _widen(self) -> None:
        # Once for what is under way, once for what waits; the rest is on its way through the ledger.
        self.window = 2 * self.options.concurrency * max(self.batch_size, DEFAULT_BATCH) + 2 * CHUNK

    def _take_in(self, row: object) -> Unit | None:
        index, self._taken_in = self._taken_in, self._taken_in + 1
        try:
            return self.terms.unit(index, row)
        except InvalidRequestError as error:
            columns = cast("Mapping[str, Any]", row) if isinstance(row, Mapping) else None
            reason = error.message
        self._put(Row(index=index, columns=columns, status="skipped", error=reason, policy=self._fingerprint))
        return None

    def _lead(self, unit: Unit) -> bool:
        """Whether `unit` is the first of its key; the others wait for it, and need no input of their own."""
        equals = self.pending.setdefault(unit.key, [])
        equals.append(unit)
        if len(equals) > 1:
            unit.item = _NOTHING
            unit.size = 0 if unit.columns is None else unit.size  # its columns may hold the input all the same
        self._held_bytes += unit.size
        return len(equals) == 1

    def _leave(self, key: bytes) -> list[Unit]:
        return self.pending.pop(key)

    async def _place(self, units: Sequence[Unit]) -> None:
        if not units:
            return
        found = await self.desk.lookup([unit.key for unit in units])
        for unit in units:
            self.recovery.place(unit, found.get(unit.key))
        if self.basket:
            await self.sender.get_ready()
            self._dispatch()

    async def _lighten(self) -> None:
        """Let large inputs go before more are taken in."""
        while self._held_bytes > MAX_HELD_BYTES and self.fatal is None:
            self._dispatch(hurry=True)
            if not self._paying:
                return
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _dispatch(self, *, hurry: bool = False) -> None:
        """Send full batches; also one that is not, when nothing else is under way or no more rows can join it."""
        if not self.sender.prepared:
            if self.basket and self.fatal is None and not self._paying and not self.sender.undecided:
                self._start(self.sender.get_ready(), self._paying)
            return
        while self.basket and not self.ending and self.limiter.free:
            full = len(self.basket) >= self.batch_size or self._basket_bytes >= MAX_BATCH_BYTES
            idle = self._slow and not self._paying
            if not (full or hurry or idle or self._ended or not self.room):
                return
            self.limiter.take()
            self._start(self.sender.send(self._fill()), self._paying)

    def _fill(self) -> list[Unit]:
        batch: list[Unit] = []
        size = 0
        while self.basket and len(batch) < self.batch_size:
            if batch and size + self.basket[0].size > MAX_BATCH_BYTES:
                break
            unit = self.basket.popleft()
            size += unit.size
            batch.append(unit)
        self._basket_bytes = max(0, self._basket_bytes - size) if self.basket else 0
        return batch

    def _row(self, unit: Unit, verdict: Verdict, source: Source) -> Row:
        row = Row(
            index=unit.index, columns=unit.columns, policy=self._fingerprint, job_id=verdict.job_id, source=source
        )
        if verdict.failed:
            row.status, row.error = "failed", verdict.error
            return row
        row.route = self.options.policy.decide(verdict.labels, allowed=unit.allowed).route
        row.labels = verdict.labels
        row.decided_by = "model"
        if verdict.labels:
            best = verdict.labels[0]
            row.label, row.confidence, row.explanation = best.label, best.confidence, best.explanation
        return row

    def _put(self, row: Row, size: int = 0) -> None:
        self.stats.count(row)
        if self.options.ordered:
            self._rows[row.index] = row, size
            while (ready := self._rows.pop(self._next, None)) is not None:
                self._ready.append(ready[0])
                self._held_bytes -= ready[1]
                self._next += 1
        else:
            self._ready.append(row)
            self._held_bytes -= size
        self._changed.set()

    def _start(self, work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._paying.discard(task)
        self._watching.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)
        self._dispatch()
        self._changed.set()

    def _wind_up(self) -> None:
        self.ending = True
        self._wound_up.set()
        self.recovery.stop()
        for task in self._watching:
            task.cancel()
