"""A thousand waiters are one poller: one query a tick, never one a waiter."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import sqlalchemy as sa

from classifaily_connectors.webhooks import await_for_job, readers

from .conftest import NEVER, Yard, until

pytestmark = pytest.mark.slow

MANY = 1000
POLL = 0.05
SLACK = 20
"""Queries beside the ticks: newcomers are looked up in batches, and what was delivered comes in pages."""


@contextmanager
def queries() -> Iterator[list[str]]:
    """Every statement about deliveries that this process executes, on any engine and on PostgreSQL's line."""
    seen: list[str] = []
    news = readers.Line.news

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "classifaily_delivery" in statement:
            seen.append(statement)

    async def noted_news(line: readers.Line, seq: int, patience: float) -> Any:
        seen.append("SELECT")
        return await news(line, seq, patience)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    readers.Line.news = noted_news  # type: ignore[method-assign]
    try:
        yield seen
    finally:
        readers.Line.news = news  # type: ignore[method-assign]
        sa.event.remove(sa.Engine, "before_cursor_execute", note)


def test_one_query_a_tick_whoever_waits(yard: Yard) -> None:
    ids = yard.submit(MANY)

    async def wait() -> list[str]:
        async with yard.aclient() as client:
            options = {"store": yard.store, "poll": POLL, "reconcile": NEVER}
            waiting = [asyncio.create_task(await_for_job(client, each, **options)) for each in ids]  # type: ignore[arg-type]
            await asyncio.to_thread(until, lambda: yard.inbox.stats().expected == MANY)
            with queries() as seen:
                began = time.monotonic()
                await asyncio.to_thread(until, lambda: len(seen) >= 20)
                assert len(seen) <= (time.monotonic() - began) / POLL + SLACK
                await asyncio.to_thread(yard.deliver, *ids)
                yard.finish()
                settled = await asyncio.gather(*waiting)
                written = sum(not each.lstrip().startswith("SELECT") for each in seen)
                assert len(seen) - written <= (time.monotonic() - began) / POLL + SLACK
            return [each.job_id for each in settled]

    assert asyncio.run(wait()) == ids
    assert yard.inbox.stats().expected == 0
    # Each webhook is confirmed by a question to the API; what was asked besides is no more than that again.
    assert yard.asked() <= 2 * MANY
