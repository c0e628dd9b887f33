"""Paying again on purpose: exactly once more, and never at the price of the answer that is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from classifaily_connectors import AuthenticationError, Budget, Row

if TYPE_CHECKING:
    from conftest import Shop

Buy = Callable[..., list[Row]]
ROWS = [f"invoice {n % 40}" for n in range(100)]


def test_refresh_pays_every_input_exactly_once_more(shop: Shop, buy: Buy) -> None:
    buy(shop, ROWS, batch_size=10)
    assert set(shop.sandbox.bill().by_input.values()) == {1}
    rows = buy(shop, ROWS, batch_size=10, refresh=True)
    assert set(shop.sandbox.bill().by_input.values()) == {2}
    assert (shop.stats.billed, shop.stats.duplicate, shop.stats.reused) == (40, 60, 0)
    assert {row.status for row in rows} == {"completed"}
    buy(shop, ROWS, batch_size=10)
    assert set(shop.sandbox.bill().by_input.values()) == {2}


def test_refresh_brings_the_new_answer(shop: Shop) -> None:
    shop.sandbox.script("invoice 1", "technical", times=1)
    shop.buy(["invoice 1"])
    shop.sandbox.script("invoice 1", "account")
    assert shop.buy(["invoice 1"])[0].label == "technical"
    assert shop.buy(["invoice 1"], refresh=True)[0].label == "account"
    assert shop.buy(["invoice 1"])[0].label == "account"


def test_refresh_failed_buys_the_failed_ones_only(shop: Shop, buy: Buy) -> None:
    shop.sandbox.script("invoice 3", error="cannot read it", times=1)
    rows = buy(shop, ROWS[:40])
    assert [row.index for row in rows if row.status == "failed"] == [3]
    assert [row.index for row in buy(shop, ROWS[:40]) if row.status == "failed"] == [3]
    assert shop.paid() == 40
    assert shop.plan(ROWS[:40], refresh="failed").to_buy == 1
    assert {row.status for row in buy(shop, ROWS[:40], refresh="failed")} == {"completed"}
    assert shop.paid() == 41
    buy(shop, ROWS[:40], refresh="failed")
    assert shop.paid() == 41


def test_a_refresh_that_is_refused_costs_no_answer(shop: Shop) -> None:
    shop.buy(ROWS)
    shop.sandbox.revoke(shop.sandbox.key)
    with pytest.raises(AuthenticationError):
        shop.buy(ROWS, refresh=True)
    shop.sandbox.add_key(shop.sandbox.key, plan="pro")
    shop.inject("answer", status=401, body={"error": {"code": "unauthorized", "message": "no"}}, times=None)
    with pytest.raises(AuthenticationError):
        shop.buy(ROWS, refresh=True, batch_size=10)
    shop.sandbox.clear_faults()
    assert {row.source for row in shop.buy(ROWS)} == {"ledger"}
    assert shop.paid() == 40
    assert shop.unsettled() == 0


def test_a_refresh_beyond_the_budget_keeps_the_old_answers(shop: Shop) -> None:
    shop.buy(ROWS[:40])
    rows = shop.buy(ROWS[:40], refresh=True, batch_size=10, budget=Budget(max_requests=15, on_exceeded="partial"))
    assert sum(row.status == "uncovered" for row in rows) == 25
    assert shop.unsettled() == 0
    assert {row.source for row in shop.buy(ROWS[:40])} == {"ledger"}
    assert shop.paid() == 55


def test_a_refresh_that_is_left_early_keeps_the_old_answers(shop: Shop) -> None:
    shop.buy(ROWS[:40])
    with shop.client() as client:
        for _row in client.classify_many(ROWS[:40], **shop.options({"refresh": True, "batch_size": 2})):
            break
    assert {row.status for row in shop.buy(ROWS[:40])} == {"completed"}
    assert shop.unsettled() == 0
    assert max(shop.sandbox.bill().by_input.values()) == 2


def test_a_refresh_whose_answer_is_lost_keeps_the_old_answer(shop: Shop) -> None:
    shop.buy(ROWS[:10])
    shop.inject("reset", times=1)
    assert {row.status for row in shop.buy(ROWS[:10], refresh=True)} == {"unknown"}
    assert shop.unsettled() == 10
    assert {(row.status, row.source) for row in shop.buy(ROWS[:10])} == {("completed", "ledger")}
    assert shop.plan(ROWS[:10]).already_paid == 10
    assert shop.paid() == 20
