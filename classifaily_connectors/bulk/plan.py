"""The price before the run.

The law of this file: it spends nothing. It asks what a run would ask (the ledger, the usage, the jobs and the history
where an open question depends on them) and decides by the same table. A run over the same rows with the same options
buys exactly `to_buy`, or at most that where `perhaps` is not 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifaily_connectors.bulk.decisions import decide
from classifaily_connectors.bulk.plan_limits import features_of, restrictions
from classifaily_connectors.bulk.reconcile import answers_of, by_job, examine, seconds_back
from classifaily_connectors.errors import ClassifailyError, InvalidRequestError, NotFoundError
from classifaily_connectors.operations import jobs
from classifaily_connectors.operations.history import read_history

if TYPE_CHECKING:
    from datetime import datetime

    from classifaily_connectors.bulk.engine import Engine
    from classifaily_connectors.bulk.terms import Unit
    from classifaily_connectors.store import Entry

_CHUNK = 500
_COUNTS = ("rows", "unique", "already_paid", "parked", "skipped", "to_buy", "perhaps")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do; all counts but `rows` and `batches` are of distinct inputs.

    `already_paid` are answered by the ledger, `parked` may have been paid and are not bought again unless asked for,
    `skipped` rows hold nothing to classify. `to_buy` is what the run costs, in requests, sent in `batches` calls; of
    these, `perhaps` need not be bought: another run is at them, or the API cannot tell yet whether they were executed.
    `remaining` is the month's quota now (None: unlimited or unknown), starting anew at `resets_at`. `characters` are
    those of the inputs to buy, `longest` those of the longest. `categories` are the names that may be answered; empty
    for several axes and where the API chooses. `restrictions` say what the account's plan does not include.
    """

    rows: int
    unique: int
    already_paid: int
    parked: int
    skipped: int
    to_buy: int
    batches: int
    remaining: int | None
    resets_at: datetime | None
    perhaps: int = 0
    characters: int = 0
    longest: int = 0
    categories: tuple[str, ...] = ()
    restrictions: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether quota and plan cover it."""
        return not self.restrictions and self.has_quota

    @property
    def has_quota(self) -> bool:
        """Whether the quota covers it."""
        return self.remaining is None or self.to_buy <= self.remaining


async def plan(engine: Engine, source: AsyncIterable[object]) -> Plan:
    """What the engine's run over `source` would buy."""
    forecast = _Forecast(engine)
    counts = forecast.counts
    seen: set[bytes] = set()
    waiting: list[Unit] = []
    async for row in source:
        counts["rows"] += 1
        try:
            unit = engine.terms.unit(counts["rows"] - 1, row)
        except InvalidRequestError:
            counts["skipped"] += 1
            continue
        if unit.key not in seen:
            seen.add(unit.key)
            waiting.append(unit)
        if len(waiting) >= _CHUNK:
            await forecast.look_up(waiting)
            waiting = []
    await forecast.look_up(waiting)
    await forecast.ask()
    counts["unique"] = len(seen)
    await engine.sender.prepare()
    usage = engine.sender.purse.usage
    return Plan(
        **{name: counts[name] for name in _COUNTS},
        batches=-(-counts["to_buy"] // engine.batch_size),
        remaining=usage.remaining if usage else None,
        resets_at=usage.limits.resets_at if usage else None,
        characters=forecast.characters,
        longest=forecast.longest,
        categories=tuple(each.name for each in engine.terms.categories or ()),
        restrictions=restrictions(usage.plan if usage else None, forecast.features),
    )


class _Forecast:
    """Counts what the run will do, and keeps the open questions until the API can be asked about all of them."""

    def __init__(self, engine: Engine) -> None:
        self.counts: Counter[str] = Counter()
        self.characters = self.longest = 0
        self.features: set[str] = set()
        self._engine = engine
        self._choices = engine.options.choices
        self._with_job: dict[bytes, tuple[Unit, Entry]] = {}
        self._to_ask: list[tuple[Unit, Entry]] = []
        self._old = -math.inf

    async def look_up(self, units: list[Unit]) -> None:
        """Count `units` by what the ledger says of them."""
        if not units:
            return
        desk = self._engine.desk
        found = await desk.lookup([unit.key for unit in units])
        owners = {each.run_id for each in found.values() if each.state == "open"} - {desk.run_id}
        live = await desk.do(desk.book.live_runs, owners) if owners else set[str]()
        if self._choices.on_unknown is None and any(each.answer is None for each in found.values()):
            self._old = await desk.do(desk.book.now) - self._engine.options.settle_after
        for unit in units:
            entry = found.get(unit.key)
            self._count(unit, entry, is_live=entry is not None and entry.run_id in live)

    def _count(self, unit: Unit, entry: Entry | None, *, is_live: bool = False, job_is_gone: bool = False) -> None:
        is_old = entry is not None and entry.claimed_at <= self._old
        decision = decide(entry, self._choices, is_live=is_live, is_old=is_old, job_is_gone=job_is_gone)
        if decision == "buy" or entry is None:
            self.counts["to_buy"] += 1
            size = len(unit.item["input"])
            self.characters += size
            self.longest = max(self.longest, size)
            self.features |= features_of(self._engine.terms, unit.item)
        elif decision == "fetch_job":
            self._with_job[unit.key] = unit, entry
        elif decision == "ask_history":
            self._to_ask.append((unit, entry))
        elif decision == "wait":
            self._count_perhaps(1)
        else:
            self.counts["already_paid" if decision == "reuse" else "parked"] += 1

    def _count_perhaps(self, number: int) -> None:
        self.counts["to_buy"] += number
        self.counts["perhaps"] += number

    async def ask(self) -> None:
        """Ask the API about what the ledger leaves open."""
        for job_id, members in by_job(entry for _unit, entry in self._with_job.values()).items():
            await self._ask_job(job_id, members)
        if self._to_ask:
            await self._ask_history()

    async def _ask_job(self, job_id: str, members: list[Entry]) -> None:
        try:
            job = await self._engine.run(jobs.get_job(self._engine.context, job_id))
        except NotFoundError:
            told: Collection[bytes] = ()
        except ClassifailyError:
            told = self._count_unended(members)
        else:
            keys = [entry.key for entry in members]
            told = answers_of(job, keys).keys() if job.done else self._count_unended(members)
            self.counts["already_paid"] += len(told) if job.done else 0
        for entry in members:
            if entry.key not in told:
                self._count(self._with_job[entry.key][0], entry, job_is_gone=True)

    def _count_unended(self, members: list[Entry]) -> Collection[bytes]:
        """Count claims whose job may still say anything, or nothing of them."""
        for entry in members:
            if decide(entry, self._choices, job_is_gone=True) == "buy":
                self._count_perhaps(1)
            else:
                self.counts["already_paid"] += 1
        return [entry.key for entry in members]

    async def _ask_history(self) -> None:
        engine, desk = self._engine, self._engine.desk
        now = await desk.do(desk.book.now)
        try:
            history = await engine.run(read_history(engine.context, seconds_back(self._to_ask, now)))
        except ClassifailyError:
            self._count_perhaps(len(self._to_ask))
            return
        findings = examine(history, self._to_ask, now, engine.options.settle_after)
        self.counts["already_paid"] += len(findings.answered)
        self.counts["parked"] += len(findings.unsure)
        self.counts["to_buy"] += len(findings.absent)
        self._count_perhaps(len(findings.too_early))
