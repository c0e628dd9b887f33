"""Settling without the rows: free, and never taking for unpaid what may have been paid."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from classifaily_connectors.bulk.settling import Settled, reconcile
from classifaily_connectors.store.migrations import entry

if TYPE_CHECKING:
    from conftest import Shop

    from classifaily_connectors.store import Ledger

ROWS = [f"invoice {n}" for n in range(20)]


def _age(ledger: Ledger, seconds: float) -> None:
    with ledger._begin() as connection:
        connection.execute(sa.update(entry).values(claimed_at=entry.c.claimed_at - seconds))


def _settle(shop: Shop, *, age: float = 70.0) -> Settled:
    ledger = shop.ledger()
    try:
        _age(ledger, age)
        with shop.client() as client:
            return reconcile(client, ledger)
    finally:
        ledger.close()


def _statuses(rows: list[Any]) -> set[str]:
    return {row.status for row in rows}


def test_what_was_executed_is_answered_and_what_was_not_is_dropped(shop: Shop) -> None:
    shop.inject("reset", nth=1)
    shop.inject("reset", nth=2, after_work=False)
    shop.buy(ROWS, batch_size=10, concurrency=1)
    assert _settle(shop) == Settled(answered=10, dropped=10, left=0)
    assert _statuses(shop.buy(ROWS)) == {"completed"}
    assert shop.paid() == 20


def test_what_is_older_than_the_history_is_not_dropped(shop: Shop) -> None:
    """Starter keeps 30 days and Free 7: that a job of 40 days ago is not listed says nothing."""
    shop.inject("reset", after_work=False)
    shop.buy(ROWS)
    assert _settle(shop, age=40 * 86_400) == Settled(answered=0, dropped=0, left=20)


def test_what_has_just_left_is_not_dropped(shop: Shop) -> None:
    shop.inject("reset", after_work=False)
    shop.buy(ROWS)
    assert _settle(shop, age=0.0) == Settled(answered=0, dropped=0, left=20)


@pytest.mark.parametrize("executed", [True, False])
def test_an_interrupted_refresh_keeps_the_answer_from_before(shop: Shop, executed: bool) -> None:
    shop.buy(ROWS)
    before = shop.sandbox.bill().charged
    shop.sandbox.clock.advance(minutes=5)
    ledger = shop.ledger()
    _age(ledger, 300)
    ledger.close()
    shop.inject("reset", after_work=executed)
    shop.buy(ROWS, refresh=True)
    settled = _settle(shop)
    assert settled == (Settled(20, 0, 0) if executed else Settled(0, 20, 0))
    rows = shop.buy(ROWS)
    assert {(row.status, row.source) for row in rows} == {("completed", "ledger")}
    assert shop.paid() == before + (20 if executed else 0)


def test_what_another_run_finishes_meanwhile_is_left_as_it_is(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history is read while another run buys what had not been executed."""
    shop.inject("reset", after_work=False)
    shop.buy(ROWS)
    from classifaily_connectors.client import Jobs

    read = Jobs.history

    def meanwhile(self: Jobs, seconds: float) -> Any:
        history = read(self, seconds)
        assert _statuses(shop.buy(ROWS, on_unknown="resend")) == {"completed"}
        return history

    monkeypatch.setattr(Jobs, "history", meanwhile)
    assert _settle(shop) == Settled(answered=0, dropped=0, left=20)
    assert _statuses(shop.buy(ROWS)) == {"completed"}
    assert shop.paid() == 20


def test_a_job_that_names_none_of_its_rows_leaves_them_unknown(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop()
    shop.buy(ROWS[:2])
    with shop.client() as client:
        (job,) = [each for each in client.jobs.list() if each.results]
    ledger = shop.ledger()
    keys = [bytes([n]) * 16 for n in range(3)]
    run_id = ledger.start_run()
    ledger.claim(run_id, keys)
    ledger.attach(run_id, keys, str(job.id))
    ledger.end_run(run_id)
    ledger.close()
    assert _settle(shop) == Settled(answered=0, dropped=0, left=3)
