"""One engine between its opening and its closing, on the event loop that runs it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from classifaily_connectors.bulk.desk import Book, Desk
from classifaily_connectors.bulk.engine import Engine, Options
from classifaily_connectors.bulk.memory import MemoryBook
from classifaily_connectors.bulk.plan import Plan, plan
from classifaily_connectors.bulk.progress import BulkStats
from classifaily_connectors.bulk.source import Rows, again
from classifaily_connectors.enums import member_for
from classifaily_connectors.errors import refuse
from classifaily_connectors.operations import schemas

if TYPE_CHECKING:
    from classifaily_connectors.bulk.rows import Row
    from classifaily_connectors.bulk.terms import Terms
    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.operations.effects import Operation
    from classifaily_connectors.store import Ledger

logger = logging.getLogger("classifaily_connectors")


@dataclass
class Request:
    """Everything a run needs but the wire."""

    rows: Rows
    terms: Terms
    options: Options
    ledger: Ledger | str | os.PathLike[str] | bool | None
    context: Context
    taxonomy: type[Enum] | None = None
    stats: BulkStats = field(init=False)

    def __post_init__(self) -> None:
        self.stats = BulkStats(total=self.options.total, pays_anew=self.options.refresh is True)

    def book(self) -> tuple[Book, bool]:
        """The ledger this run writes to, and whether it is ours to close."""
        ledger = self.ledger
        if ledger is None:
            ledger = os.environ.get("CLASSIFAILY_STORE_URL") or None
            if ledger is None:
                logger.info("no ledger: equal rows are paid once within this run, but a rerun pays again")
        if ledger is None or ledger is False:
            return MemoryBook(), False
        if ledger is True:
            raise refuse("ledger must be a store URL, a Ledger, None or False")
        if isinstance(ledger, str | os.PathLike):
            from classifaily_connectors.store import Ledger

            return Ledger(ledger), True
        return ledger, False

    def named(self, rows: list[Row[Any]]) -> list[Row[Any]]:
        """The rows, with members for labels where the categories were an Enum."""
        if self.taxonomy is not None:
            for row in rows:
                row.label = member_for(self.taxonomy, row.label)
        return rows

    @property
    def foreseeable(self) -> bool:
        """Whether what is too much is to be refused before anything is bought, and the rows can be gone through twice.

        What has no length may be there only once, whatever its type says: a cursor of a database is such a thing.
        """
        budget = self.options.budget
        if budget is None:
            return self.options.total is not None and again(self.rows)
        return budget.on_exceeded == "raise" and again(self.rows)

    @property
    def rehearsal(self) -> Rows:
        """The rows for somebody who only looks ahead."""
        # A table remembers what it gave out until it comes back; what only looks ahead never does.
        return getattr(self.rows, "rehearsal", self.rows)


class Session:
    """The engine, the desk it writes at, and the ledger that may be ours to close."""

    def __init__(self, request: Request, run: Callable[[Operation[Any]], Awaitable[Any]]) -> None:
        self._request = request
        self._run = run
        self.stats = request.stats
        self.engine: Engine | None = None
        self._desk: Desk | None = None
        self._owned: Book | None = None

    async def open(self) -> Engine:
        """The engine, ready for rows."""
        terms = self._request.terms
        if terms.categories is None and "schema" in terms.shared:
            # The content of the schema is part of every key: an edited schema with the same id must be paid anew.
            schema = await self._run(schemas.get_schema(self._request.context, terms.shared["schema"]))
            terms.take_over(schema)
        opening = asyncio.ensure_future(asyncio.to_thread(self._request.book))
        try:
            book, ours = await asyncio.shield(opening)
        except asyncio.CancelledError:
            book, ours = await opening
            self._owned = book if ours else None
            raise
        self._owned = book if ours else None
        terms.namespace, terms.durable = book.namespace, book.durable
        self.stats.ledger = book.place
        self._desk = Desk(book)
        await self._desk.open()
        engine = Engine(self._run, self._request.context, terms, self._desk, self._request.options)
        engine.stats = self.stats
        engine.sender.foreseeable = self._request.foreseeable
        # With a budget at once; else before the first purchase, as a run that buys nothing asks for no quota.
        engine.sender.undecided = self._request.foreseeable and self._request.options.budget is not None
        self.engine = engine
        return engine

    async def plan(self, rows: AsyncIterable[object]) -> Plan:
        """What a run over `rows` would buy; spends nothing."""
        assert self.engine is not None  # noqa: S101
        return await plan(self.engine, rows)

    async def guard(self, rows: AsyncIterable[object]) -> None:
        """Let the buying begin. Raises BudgetExceededError when the rows need more than may be bought."""
        assert self.engine is not None  # noqa: S101
        sender = self.engine.sender
        await sender.check_plan()
        if await sender.is_scarce():
            foreseen = await self.plan(rows)
            self.stats.foreseen = foreseen.to_buy
            needed = sender.purse.foreseen = foreseen.to_buy - foreseen.perhaps
            if needed > (sender.purse.available or 0):
                raise sender.purse.exceeded(needed)
        self.engine.begin_buying()

    async def stop(self, patience: float) -> None:
        """Buy nothing more, and wait for what is under way."""
        if self.engine is not None:
            left = await self.engine.stop(patience)
            if left:
                logger.warning("%d keys are still being paid for; they stay open in the ledger", left)

    async def close(self) -> None:
        """End the run in the ledger."""
        try:
            if self._desk is not None:
                await self._desk.close()
        finally:
            if self._owned is not None:
                await asyncio.to_thread(cast("Ledger", self._owned).close)
