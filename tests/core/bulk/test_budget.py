"""A limit is met before it is crossed: before the first paid call where that can be known, else as soon as it can."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import (
    Budget,
    BudgetExceededError,
    ConfigurationError,
    QuotaExceededError,
    Row,
)
from classifaily_connectors.store.entry import Changes

if TYPE_CHECKING:
    from conftest import Shop

Buy = Callable[..., list[Row]]
ROWS = [f"invoice {n}" for n in range(200)]


def _statuses(rows: list[Row]) -> dict[str, int]:
    return {status: sum(row.status == status for row in rows) for status in {row.status for row in rows}}


def test_nothing_is_bought_when_the_need_is_known_to_be_too_much(shop: Shop, buy: Buy) -> None:
    with pytest.raises(BudgetExceededError) as caught:
        buy(shop, ROWS, budget=Budget(max_requests=199))
    assert (caught.value.needed, caught.value.available) == (200, 199)
    assert caught.value.resets_at is not None
    assert shop.posts() == 0
    assert {row.status for row in buy(shop, ROWS, budget=Budget(max_requests=200))} == {"completed"}


def test_only_a_quota_that_was_the_limit_is_said_to_start_anew(open_shop: Callable[..., Shop]) -> None:
    """A cap of one's own is no larger next month."""
    shop = open_shop(plan="starter")
    shop.sandbox.add_key(shop.sandbox.key, plan="starter", used=9900)
    with pytest.raises(BudgetExceededError) as own:
        shop.buy(ROWS, budget=Budget(max_requests=50, reserve=10))
    assert own.value.message == "200 requests are needed and 50 may be spent"
    with pytest.raises(
        BudgetExceededError, match=r"200 .* needed and 90 may be spent; the quota starts anew at 20"
    ) as of_all:
        shop.buy(ROWS, budget=Budget(max_requests=150, reserve=10))
    assert own.value.resets_at == of_all.value.resets_at is not None
    assert shop.paid() == 0


def test_what_is_in_the_ledger_needs_no_budget(shop: Shop) -> None:
    shop.buy(ROWS)
    assert len(shop.buy([*ROWS, "new"], budget=Budget(max_requests=1))) == 201
    assert shop.paid() == 201


def test_a_stream_stops_when_the_budget_ends_and_keeps_what_was_paid(shop: Shop, buy: Buy) -> None:
    with pytest.raises(BudgetExceededError):
        buy(shop, iter(ROWS), budget=Budget(max_requests=70), batch_size=20)
    assert 0 < shop.paid() <= 70
    assert shop.unsettled() == 0
    assert _statuses(shop.buy(ROWS)) == {"completed": 200}
    assert shop.paid_twice() == 0


@pytest.mark.parametrize("limit", [0, 1, 70, 199, 200, 500])
def test_partial_goes_exactly_as_far_as_the_budget_goes(shop: Shop, buy: Buy, limit: int) -> None:
    rows = buy(shop, ROWS, budget=Budget(max_requests=limit, on_exceeded="partial"), batch_size=30)
    bought = min(limit, 200)
    assert shop.paid() == bought
    assert _statuses(rows) == {
        name: number for name, number in (("completed", bought), ("uncovered", 200 - bought)) if number
    }
    assert [row.index for row in rows] == list(range(200))
    assert shop.unsettled() == 0
    assert all(row.label is None and row.route == "review" for row in rows if row.status == "uncovered")


def test_without_a_ledger_the_budget_holds_as_well(shop: Shop, buy: Buy) -> None:
    budget = Budget(max_requests=70, on_exceeded="partial")
    assert _statuses(buy(shop, ROWS, budget=budget, ledger=False, batch_size=7)) == {"completed": 70, "uncovered": 130}


def test_a_reserve_is_left_of_the_months_quota(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(plan="starter")
    shop.sandbox.add_key(shop.sandbox.key, plan="starter", used=9900)
    with pytest.raises(BudgetExceededError):
        shop.buy(ROWS, budget=Budget(reserve=60))
    rows = shop.buy(ROWS, budget=Budget(reserve=60, on_exceeded="partial"))
    assert _statuses(rows) == {"completed": 40, "uncovered": 160}
    with shop.client() as client:
        assert client.usage().remaining == 60


def test_the_months_quota_is_a_limit_without_any_budget(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(plan="starter")
    shop.sandbox.add_key(shop.sandbox.key, plan="starter", used=9950)
    with pytest.raises(BudgetExceededError):
        shop.buy(iter(ROWS), batch_size=20)
    assert 0 < shop.paid() <= 50


@pytest.mark.parametrize("on_exceeded", ["raise", "partial"])
def test_a_quota_that_ends_midway(open_shop: Callable[..., Shop], on_exceeded: Any) -> None:
    """Somebody else used the quota up while we ran: the server says so, and nothing is lost."""
    shop = open_shop(plan="starter")
    body = {"error": {"code": "rate_limit_exceeded", "message": "used up", "limit": 10000, "used": 10000}}
    shop.inject("answer", status=429, body=body, nth=4, times=None)
    options: dict[str, Any] = {"budget": Budget(on_exceeded=on_exceeded), "batch_size": 20, "concurrency": 2}
    if on_exceeded == "raise":
        with pytest.raises(QuotaExceededError, match="used up"):
            shop.buy(ROWS, **options)
    else:
        assert _statuses(shop.buy(ROWS, **options)) == {"completed": 60, "uncovered": 140}
    assert shop.paid() == 60
    assert shop.unsettled() == 0
    shop.sandbox.clear_faults()
    assert _statuses(shop.buy(ROWS)) == {"completed": 200}
    assert shop.paid_twice() == 0


def _until_some_are_paid(shop: Shop, more_than: int = 0) -> None:
    """The quota has been read once something is paid; a pause lets the rows so far leave."""
    time.sleep(0.3)
    until = time.monotonic() + 5
    while shop.paid() <= more_than:
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("on_exceeded", ["raise", "partial"])
@pytest.mark.parametrize("change", ["month", "upgrade"])
def test_a_quota_that_has_grown_is_noticed_before_the_run_stops(
    open_shop: Callable[..., Shop], buy: Buy, change: str, on_exceeded: Any
) -> None:
    shop = open_shop(plan="starter")
    shop.sandbox.add_key(shop.sandbox.key, plan="starter", used=9900)
    shop.sandbox.clock.set(datetime(2026, 11, 30, 23, 59, tzinfo=UTC))

    def rows() -> Iterator[str]:
        for n, row in enumerate(ROWS):
            if n == 60:
                _until_some_are_paid(shop)
            if n == 60 and change == "month":
                shop.sandbox.clock.set(datetime(2026, 12, 1, tzinfo=UTC))
            elif n == 60:
                shop.sandbox.add_key(shop.sandbox.key, plan="pro", used=9960)
            yield row

    budget = Budget(on_exceeded=on_exceeded)
    assert _statuses(buy(shop, rows(), budget=budget, batch_size=20)) == {"completed": 200}
    assert shop.paid() == 200


def test_a_quota_that_has_not_grown_ends_the_run_after_one_more_look(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(plan="starter")
    shop.sandbox.add_key(shop.sandbox.key, plan="starter", used=9950)
    budget = Budget(on_exceeded="partial")
    assert _statuses(shop.buy(ROWS, budget=budget, batch_size=20)) == {"completed": 50, "uncovered": 150}
    looks = [each for each in shop.sandbox.requests if each.path.endswith("/usage")]
    assert 2 <= len(looks) <= 5


def test_rows_bought_anew_are_queued_again_when_the_quota_has_grown(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(plan="starter")
    shop.buy(ROWS)
    shop.sandbox.add_key(shop.sandbox.key, plan="starter", used=9900)

    def rows() -> Iterator[str]:
        for n, row in enumerate(ROWS):
            if n == 60:
                _until_some_are_paid(shop, 200)
                shop.sandbox.add_key(shop.sandbox.key, plan="pro", used=9960)
            yield row

    found = shop.buy(rows(), refresh=True, batch_size=20, concurrency=1)
    assert {(row.status, row.source) for row in found} == {("completed", "api")}
    assert shop.paid() == 400


def test_an_own_cap_is_no_quota_and_does_not_grow(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(plan="starter")
    with pytest.raises(BudgetExceededError):
        shop.buy(iter(ROWS), budget=Budget(max_requests=40), batch_size=20)
    assert shop.paid() <= 40


def test_the_need_is_that_of_the_whole_run(open_shop: Callable[..., Shop]) -> None:
    """Somebody else spends the shared budget while we run: more is left to buy than what found no room just now."""
    shop = open_shop()
    ledger = shop.ledger()
    shop.inject("delay", seconds=0.5, times=1)
    spend = threading.Timer(0.2, lambda: ledger.spend("budget|shared", 150))
    spend.start()
    budget = Budget(max_requests=200, name="shared")
    with pytest.raises(BudgetExceededError) as caught:
        shop.buy(ROWS, budget=budget, batch_size=10, concurrency=1)
    spend.join()
    ledger.close()
    assert caught.value.needed == 200
    with pytest.raises(BudgetExceededError, match="at least") as caught:
        shop.buy(iter(["new", *ROWS]), budget=budget, batch_size=10)
    assert caught.value.needed >= 1


def test_a_budget_of_a_period_starts_anew(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def of(per: Any, name: str | None = "n") -> Budget:
        return Budget(max_requests=50, on_exceeded="partial", name=name, per=per)

    moment = datetime(2026, 12, 31, 23, tzinfo=UTC).timestamp()
    names = {per: of(per).counter(moment) for per in ("day", "week", "month", None)}
    assert names == {
        "day": "budget|n|2026-12-31",
        "week": "budget|n|2026-W53",
        "month": "budget|n|2026-12",
        None: "budget|n",
    }
    assert _statuses(shop.buy(ROWS, budget=of("day"))) == {"completed": 50, "uncovered": 150}
    assert _statuses(shop.buy(ROWS, budget=of("day"))) == {"completed": 50, "uncovered": 150}
    from classifaily_connectors.store import Ledger

    tomorrow = time.time() + 86_400
    monkeypatch.setattr(Ledger, "now", lambda _self: tomorrow)
    assert _statuses(shop.buy(ROWS, budget=of("day"))) == {"completed": 100, "uncovered": 100}
    with pytest.raises(ConfigurationError, match="needs a name"):
        of("day", name=None)


def test_runs_of_one_name_share_one_budget(shop: Shop) -> None:
    budget = Budget(max_requests=150, on_exceeded="partial", name="nightly")
    found: list[Row] = []
    halves = (ROWS[:100], ROWS[100:])
    threads = [
        threading.Thread(target=lambda half=half: found.extend(shop.buy(half, budget=budget, batch_size=10)))
        for half in halves
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert shop.paid() == 150
    assert _statuses(found) == {"completed": 150, "uncovered": 50}
    assert _statuses(shop.buy(ROWS, budget=budget)) == {"completed": 150, "uncovered": 50}
    assert shop.plan(ROWS, budget=budget).to_buy == 50


def test_a_cap_without_a_name_is_the_runs_own(shop: Shop) -> None:
    found: list[Row] = []
    budget = Budget(max_requests=100)
    threads = [
        threading.Thread(target=lambda half=half: found.extend(shop.buy(iter(half), budget=budget, batch_size=10)))
        for half in (ROWS[:100], ROWS[100:])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert _statuses(found) == {"completed": 200}


def test_concurrent_runs_do_not_overrun_the_quota(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(plan="starter")
    shop.sandbox.add_key(shop.sandbox.key, plan="starter", used=9900)
    budget = Budget(reserve=20, on_exceeded="partial")
    found: list[Row] = []
    threads = [
        threading.Thread(target=lambda half=half: found.extend(shop.buy(half, budget=budget, batch_size=5)))
        for half in (ROWS[:100], ROWS[100:])
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # What the other run has under way while we read the quota is counted twice, never missed.
    assert 0 < shop.paid() <= 80
    assert len(found) == 200


def test_what_another_run_has_under_way_is_counted_though_the_quota_does_not_show_it_yet(
    open_shop: Callable[..., Shop],
) -> None:
    shop = open_shop(plan="starter")
    shop.sandbox.add_key(shop.sandbox.key, plan="starter", used=9800)
    shop.inject("delay", seconds=2.0, after_work=False, times=1)
    budget = Budget(reserve=120, on_exceeded="partial")
    first = threading.Thread(target=lambda: shop.buy(ROWS[:40], budget=budget, batch_size=40))
    first.start()
    ledger = shop.ledger()
    while ledger.stats().open < 40:  # claimed, and not on the bill before the delay is over
        time.sleep(0.005)
    ledger.close()
    found = shop.buy(ROWS[40:], budget=budget, batch_size=5)
    first.join()
    assert len(found) == 160
    assert 40 <= shop.paid() <= 80
    # Both have ended, and the quota's own count is the truth again.
    shop.buy(ROWS, budget=budget)
    assert shop.paid() == 80


@pytest.mark.parametrize("state", ["open", "parked", "done", "ended"])
def test_exactly_the_unsettled_claims_of_live_runs_are_counted_beside_the_quota(
    open_shop: Callable[..., Shop], state: str
) -> None:
    shop = open_shop(plan="starter")
    shop.sandbox.add_key(shop.sandbox.key, plan="starter", used=9900)
    ledger = shop.ledger()
    other, keys = ledger.start_run(), [bytes([n]) * 16 for n in range(30)]
    ledger.commit(other, Changes(keys=dict.fromkeys(keys), limits={f"requests|{shop.sandbox.base_url}|": 100}))
    if state == "parked":
        ledger.park(keys)
    elif state == "done":
        ledger.finish(other, dict.fromkeys(keys, "{}"))
    elif state == "ended":
        ledger.end_run(other)
    rows = shop.buy(ROWS, budget=Budget(on_exceeded="partial"), ledger=ledger, batch_size=7)
    bought = 70 if state in ("open", "parked") else 100
    assert _statuses(rows) == {"completed": bought, "uncovered": 200 - bought}
    assert shop.paid() == bought
    ledger.close()


def test_a_refused_request_gives_its_budget_back(shop: Shop) -> None:
    body = {"error": {"code": "invalid_request", "message": "bad"}}
    shop.inject("answer", status=400, body=body, contains="poison", times=None)
    rows = [*(f"poison {n}" for n in range(5)), *ROWS[:20]]
    found = shop.buy(rows, budget=Budget(max_requests=20, on_exceeded="partial", name="n"), batch_size=5, concurrency=1)
    assert _statuses(found) == {"failed": 5, "completed": 20}
    ledger = shop.ledger()
    assert ledger.spend("budget|n", 0) == 20
    ledger.close()


@pytest.mark.parametrize("bad", [{"max_requests": -1}, {"reserve": -1}, {"on_exceeded": "never"}, {"per": "year"}])
def test_nonsense_is_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(bad))):
        Budget(**bad)


def test_a_plan_is_right_to_the_item_and_spends_nothing(shop: Shop, settle_at_once: None) -> None:
    shop.buy(ROWS[:50])
    shop.inject("reset", times=1)
    shop.buy(ROWS[50:60], batch_size=10)
    rows = [*ROWS, *ROWS[:20], "", 17]
    before = shop.paid()
    for options in ({}, {"refresh": True}, {"on_unknown": "resend"}):
        plan = shop.plan(rows, batch_size=20, **options)
        assert shop.paid() == before
        assert (plan.rows, plan.unique, plan.skipped) == (222, 200, 2)
        assert plan.unique == plan.already_paid + plan.parked + plan.to_buy
        assert plan.fits
    plan = shop.plan(rows, batch_size=20)
    assert (plan.already_paid, plan.parked, plan.to_buy, plan.batches) == (60, 0, 140, 7)
    shop.buy(rows, batch_size=20)
    assert shop.paid() - before == plan.to_buy
    assert shop.plan(rows).to_buy == 0
