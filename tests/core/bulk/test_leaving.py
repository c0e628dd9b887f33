"""Leaving early buys nothing more, keeps what was paid, and says what stays open."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from classifaily_connectors import AuthenticationError
from classifaily_connectors.bulk import runner

if TYPE_CHECKING:
    from conftest import Shop

ROWS = [f"invoice {n}" for n in range(400)]


class BrokenSourceError(Exception):
    pass


async def _until_paid(shop: Shop) -> None:
    while not shop.paid():  # noqa: ASYNC110  # the sandbox is another thread, and has no event to wait for
        await asyncio.sleep(0.005)


def _check_nothing_is_lost(shop: Shop) -> None:
    before = shop.paid()
    assert shop.unsettled() == 0
    rows = shop.buy(ROWS)
    assert {row.status for row in rows} == {"completed"}
    assert sum(row.source == "ledger" for row in rows) == before
    assert shop.paid() == len(ROWS)
    assert shop.paid_twice() == 0


def test_break_drains_what_is_under_way(shop: Shop) -> None:
    shop.sandbox.script(ROWS[15], "billing", delay=0.5)
    with shop.client() as client:
        for row in client.classify_many(ROWS, **shop.options({"batch_size": 10, "concurrency": 3})):
            assert row.index == 0
            break
    assert 10 <= shop.paid() < 400
    _check_nothing_is_lost(shop)


def test_break_drains_on_the_async_client(shop: Shop) -> None:
    async def leave() -> None:
        async with shop.async_client() as client:
            run = client.classify_many(ROWS, **shop.options({"batch_size": 10, "concurrency": 3}))
            rows = aiter(run)
            await anext(rows)
            await rows.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert 10 <= shop.paid() < 400
    _check_nothing_is_lost(shop)


def test_a_break_just_before_the_loop_ends_drains_with_the_client(shop: Shop) -> None:
    """`asyncio.run` cancels every task at its end, the one that finalises an abandoned generator too."""
    shop.sandbox.script(ROWS[15], "billing", delay=0.5)

    async def leave() -> None:
        async with shop.async_client() as client:
            async for _row in client.classify_many(ROWS, **shop.options({"batch_size": 10, "concurrency": 3})):
                return

    asyncio.run(leave())
    _check_nothing_is_lost(shop)


def test_a_cancelled_task_drains(shop: Shop) -> None:
    async def leave() -> None:
        async with shop.async_client() as client:
            run = client.classify_many(ROWS, **shop.options({"batch_size": 10, "concurrency": 3}))

            async def consume() -> None:
                async for _row in run:
                    await asyncio.sleep(0.001)

            task = asyncio.create_task(consume())
            await _until_paid(shop)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(leave())
    _check_nothing_is_lost(shop)


def test_a_source_that_breaks_midway_keeps_what_was_paid(shop: Shop) -> None:
    def source() -> Iterator[str]:
        yield from ROWS[:300]
        while not shop.paid():
            time.sleep(0.005)
        raise BrokenSourceError

    with pytest.raises(BrokenSourceError):
        shop.buy(source(), batch_size=10, concurrency=2)
    assert 0 < shop.paid() <= 300
    _check_nothing_is_lost(shop)


def test_an_asynchronous_source_that_breaks_gives_out_what_was_paid(shop: Shop) -> None:
    async def source() -> AsyncIterator[str]:
        for row in ROWS[:300]:
            yield row
        await _until_paid(shop)
        raise BrokenSourceError

    given: list[int] = []

    async def consume() -> None:
        async with shop.async_client() as client:
            async for row in client.classify_many(source(), **shop.options({"batch_size": 10, "concurrency": 2})):
                given.append(row.index)  # noqa: PERF401  # what came before the error counts

    with pytest.raises(BrokenSourceError):
        asyncio.run(consume())
    assert len(given) == shop.paid() > 0
    _check_nothing_is_lost(shop)


def test_an_error_in_the_loop_body_drains(shop: Shop) -> None:
    def consume() -> None:
        with shop.client() as client:
            for _row in client.classify_many(ROWS, **shop.options({"batch_size": 10})):
                raise BrokenSourceError

    with pytest.raises(BrokenSourceError):
        consume()
    _check_nothing_is_lost(shop)


def test_ctrl_c_drains(shop: Shop) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job begins with it ignored
    shop.sandbox.script(ROWS[5], "billing", delay=0.7)

    def interrupt() -> None:
        while not shop.paid():
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with shop.client() as client, pytest.raises(KeyboardInterrupt):
        for _row in client.classify_many(ROWS, **shop.options({"batch_size": 10, "concurrency": 2})):
            pass
    thread.join()
    assert threading.active_count() < 20
    _check_nothing_is_lost(shop)


def test_what_is_still_open_after_the_patience_is_said(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runner, "DRAIN", 0.2)
    shop.sandbox.script(ROWS[15], "billing", delay=3.0)
    with caplog.at_level(logging.WARNING), shop.client() as client:
        for _row in client.classify_many(ROWS[:20], **shop.options({"batch_size": 10})):
            break
    assert "10 keys are still being paid for" in caplog.text
    assert shop.unsettled() == 10
    assert {row.status for row in shop.buy(ROWS[:10])} == {"completed"}
    assert {row.status for row in shop.buy(ROWS[10:20])} == {"unknown"}
    assert shop.paid() == 20


def test_what_ends_the_run_gives_out_what_was_paid_first(shop: Shop) -> None:
    shop.sandbox.script(ROWS[45], "billing", delay=0.4)
    body = {"error": {"code": "unauthorized", "message": "revoked"}}
    shop.inject("answer", status=401, body=body, contains="invoice 300", times=None)
    given: list[int] = []

    def consume() -> None:
        with shop.client() as client:
            for row in client.classify_many(ROWS, **shop.options({"batch_size": 10, "concurrency": 8})):
                given.append(row.index)  # noqa: PERF401  # what came before the error counts

    with pytest.raises(AuthenticationError):
        consume()
    assert len(given) == shop.paid()
    assert given == sorted(given)
    shop.sandbox.clear_faults()
    _check_nothing_is_lost(shop)


def test_a_bad_key_is_said_at_once(shop: Shop) -> None:
    shop.sandbox.revoke(shop.sandbox.key)
    with pytest.raises(AuthenticationError):
        shop.buy(ROWS)
    assert shop.posts() == 0
