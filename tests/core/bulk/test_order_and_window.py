"""Rows are streamed: pulled as far ahead as the window allows, given out in order or as they come."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import InvalidRequestError, Row
from classifaily_connectors.bulk.limiter import START
from classifaily_connectors.bulk.source import CHUNK
from classifaily_connectors.store import Ledger

if TYPE_CHECKING:
    from conftest import Shop

    from classifaily_connectors.store.entry import Changes

Buy = Callable[..., list[Row]]


def test_every_row_once_and_in_order(shop: Shop, buy: Buy) -> None:
    rows = buy(shop, (f"invoice {n % 700}" for n in range(1000)), batch_size=30)
    assert [row.index for row in rows] == list(range(1000))
    assert {row.status for row in rows} == {"completed"}
    assert shop.stats.billed == shop.paid() == 700
    assert shop.stats.duplicate == 300
    assert shop.paid_twice() == 0


def test_as_completed_gives_every_row_once(shop: Shop, buy: Buy) -> None:
    shop.sandbox.script("slow invoice", "billing", delay=0.5)
    rows = buy(shop, ["slow invoice", *(f"invoice {n}" for n in range(300))], batch_size=10, ordered=False)
    assert sorted(row.index for row in rows) == list(range(301))
    assert rows[0].index != 0


def test_no_rows_cost_nothing_and_ask_nothing(shop: Shop, buy: Buy) -> None:
    assert buy(shop, []) == []
    assert shop.sandbox.requests == []


@pytest.mark.parametrize("ordered", [True, False])
def test_the_source_is_pulled_only_as_far_as_the_window_reaches(shop: Shop, ordered: bool) -> None:
    pulled = 0

    def source() -> Iterator[str]:
        nonlocal pulled
        for n in range(5000):
            pulled += 1
            yield f"invoice {n}"

    window = 2 * 2 * 25 + 2 * CHUNK
    ahead = 0
    given = 0
    with shop.client() as client:
        many = shop.options({"batch_size": 20, "concurrency": 2, "ordered": ordered})
        for given, _row in enumerate(client.classify_many(source(), **many), 1):
            ahead = max(ahead, pulled - given + 1)
    assert given == 5000
    # The rows of one take are counted as given out before the caller has seen them all.
    assert ahead <= 2 * window


def test_a_window_full_of_equal_rows_does_not_block(shop: Shop, buy: Buy) -> None:
    shop.sandbox.script("the same", "billing", delay=0.2)
    rows = buy(shop, ["the same"] * 4000 + ["another"], batch_size=10, concurrency=1)
    assert len(rows) == 4001
    assert shop.paid() == 2
    assert (shop.stats.billed, shop.stats.duplicate) == (2, 3999)


def test_more_is_under_way_once_the_first_answers_are_kept(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is answered and not yet kept is lost to a kill: a ledger that lags lets no more of it come."""
    kept = threading.Event()
    commit = Ledger.commit

    def stalled(ledger: Ledger, run_id: str, changes: Changes) -> Any:
        if changes.answers:
            kept.wait(20)
        return commit(ledger, run_id, changes)

    monkeypatch.setattr(Ledger, "commit", stalled)
    with shop.client() as client, ThreadPoolExecutor(1) as pool:
        run = client.classify_many([f"invoice {n}" for n in range(1000)], **shop.options({"batch_size": 10}))
        bought = pool.submit(lambda: [row.label for row in run])
        while shop.paid() < START * 10:
            time.sleep(0.01)
        time.sleep(0.3)  # the answers are on their way
        runner = run._runner
        assert runner is not None
        assert runner.session.engine is not None
        limiter = runner.session.engine.limiter
        while_it_lags = limiter.size
        kept.set()
        assert len(bought.result()) == 1000
    assert while_it_lags == START
    assert limiter.size > START


def test_asynchronous_rows(shop: Shop) -> None:
    async def source() -> AsyncIterator[str]:
        for n in range(100):
            await asyncio.sleep(0)
            yield f"invoice {n}"

    async def run() -> list[int]:
        async with shop.async_client() as client:
            return [row.index async for row in client.classify_many(source(), **shop.options({}))]

    assert asyncio.run(run()) == list(range(100))
    with pytest.raises(InvalidRequestError, match="AsyncClassifailyClient"):
        shop.buy(source())


def test_a_slow_source_is_not_kept_waiting_for_a_full_batch(shop: Shop) -> None:
    """Rows that trickle in are answered while the source still thinks about the next ones."""

    async def asynchronous() -> AsyncIterator[str]:
        yield "first"
        while not shop.paid():  # noqa: ASYNC110  # the sandbox is another thread
            await asyncio.sleep(0.01)
        yield "second"

    async def run() -> list[Row]:
        async with shop.async_client() as client:
            many = shop.options({"batch_size": 50})
            async with asyncio.timeout(20):
                return [row async for row in client.classify_many(asynchronous(), **many)]

    assert len(asyncio.run(run())) == 2


def test_the_sync_client_works_inside_a_running_loop(shop: Shop) -> None:
    async def notebook() -> list[Row]:
        return shop.buy(["invoice one", "invoice two"])

    assert [row.status for row in asyncio.run(notebook())] == ["completed", "completed"]


def test_a_run_is_gone_through_once(shop: Shop) -> None:
    with shop.client() as client:
        run = client.classify_many(["invoice"], **shop.options({}))
        assert len(list(run)) == 1
        with pytest.raises(InvalidRequestError, match="once"):
            list(run)
        with pytest.raises(InvalidRequestError, match="once"):
            run.plan()


@pytest.mark.parametrize("rows", ["one text", b"bytes"])
def test_one_text_is_not_many(shop: Shop, rows: Any) -> None:
    with pytest.raises(InvalidRequestError, match="use classify for one"):
        shop.buy(rows)


def test_rows_leave_in_the_callers_thread(shop: Shop) -> None:
    """A database cursor and a progress bar may belong to it."""
    here = threading.get_ident()
    threads: set[int] = set()

    def source() -> Iterator[str]:
        for n in range(100):
            threads.add(threading.get_ident())
            yield f"invoice {n}"

    shop.buy(source(), progress=lambda _: threads.add(threading.get_ident()))
    assert threads == {here}
