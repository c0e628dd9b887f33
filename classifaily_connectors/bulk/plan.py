"""The price before the run.

The law of this file: it spends nothing. What it says comes from the ledger and GET /usage alone, and a run over the
same rows with the same options buys exactly `to_buy` (unless somebody else buys some of them first).
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifaily_connectors.bulk.rows import Verdict
from classifaily_connectors.errors import InvalidRequestError

if TYPE_CHECKING:
    from datetime import datetime

    from classifaily_connectors.bulk.engine import Engine
    from classifaily_connectors.bulk.terms import Unit
    from classifaily_connectors.store import Entry

_CHUNK = 500
_COUNTS = ("rows", "unique", "already_paid", "parked", "skipped", "to_buy")


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run would do; all counts but `rows` and `batches` are of distinct inputs.

    `already_paid` are answered by the ledger, `parked` may have been paid and are not bought again unless asked for,
    `skipped` rows hold nothing to classify. `to_buy` is what the run costs, in requests, sent in `batches` calls.
    `remaining` is the month's quota now (None: unlimited or unknown), starting anew at `resets_at`.
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

    @property
    def fits(self) -> bool:
        """Whether the quota covers it."""
        return self.remaining is None or self.to_buy <= self.remaining


async def plan(engine: Engine, source: AsyncIterable[object]) -> Plan:
    """What the engine's run over `source` would buy."""
    counts: dict[str, int] = dict.fromkeys(_COUNTS, 0)
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
            await _look_up(engine, waiting, counts)
            waiting = []
    await _look_up(engine, waiting, counts)
    counts["unique"] = len(seen)
    await engine.sender.prepare()
    usage = engine.sender.purse.usage
    return Plan(
        **counts,
        batches=-(-counts["to_buy"] // engine.batch_size),
        remaining=usage.remaining if usage else None,
        resets_at=usage.limits.resets_at if usage else None,
    )


async def _look_up(engine: Engine, units: list[Unit], counts: dict[str, int]) -> None:
    if not units:
        return
    found = await engine.desk.lookup([unit.key for unit in units])
    for unit in units:
        counts[_fate(engine, found.get(unit.key))] += 1


def _fate(engine: Engine, entry: Entry | None) -> str:
    refresh = engine.options.refresh
    if entry is None:
        return "to_buy"
    if entry.answer is None:
        return "to_buy" if engine.options.on_unknown == "resend" or refresh is True else "parked"
    failed = refresh == "failed" and Verdict.load(entry.answer).failed
    return "to_buy" if refresh is True or failed else "already_paid"
