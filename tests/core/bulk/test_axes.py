"""Several category sets over the same rows: one answer a row and axis, each paid once, all of them counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum, StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import (
    AxesRow,
    Budget,
    BudgetExceededError,
    ClassifailyClient,
    InvalidRequestError,
    PlanRestrictionError,
    RetryPolicy,
)

if TYPE_CHECKING:
    from conftest import Shop


class Urgency(StrEnum):
    HIGH = "high"
    LOW = "low"


class Team(Enum):
    billing = "Payments, refunds, invoices"
    technical = "Bugs and errors"


AXES: dict[str, Any] = {"topic": ["billing", "technical", "account"], "urgency": Urgency, "team": Team}
ROWS = [{"body": f"invoice {n % 30} was charged twice", "id": n} for n in range(100)]
OPTIONS: dict[str, Any] = {"text": "body"}
Ask = Callable[..., list[AxesRow]]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """A whole run on the sync or on the async client: `ask(shop, rows, axes, **options)`."""

    def sync(shop: Shop, rows: Any, axes: Any, **options: Any) -> list[AxesRow]:
        with shop.client() as client:
            run = client.classify_axes(rows, axes, **{"ledger": shop.ledger_url, **options})
            try:
                return list(run)
            finally:
                shop.stats = run.stats

    async def collect(shop: Shop, rows: Any, axes: Any, options: dict[str, Any]) -> list[AxesRow]:
        async with shop.async_client() as client:
            run = client.classify_axes(rows, axes, **{"ledger": shop.ledger_url, **options})
            try:
                return [row async for row in run]
            finally:
                shop.stats = run.stats

    def asynchronous(shop: Shop, rows: Any, axes: Any, **options: Any) -> list[AxesRow]:
        return asyncio.run(collect(shop, rows, axes, options))

    return sync if request.param == "sync" else asynchronous


@pytest.mark.parametrize("ordered", [True, False], ids=["in order", "as completed"])
def test_paid_is_unique_times_axes(shop: Shop, ask: Ask, ordered: bool) -> None:
    rows = ask(shop, ROWS, AXES, **OPTIONS, batch_size=7, ordered=ordered)
    found = [row.index for row in rows]
    assert (found if ordered else sorted(found)) == list(range(100))
    assert {tuple(row.axes) for row in rows} == {("topic", "urgency", "team")}
    assert all(row.columns is ROWS[row.index] and row["team"].index == row.index for row in rows)
    assert {row["topic"].label for row in rows} <= set(AXES["topic"])
    assert {row["urgency"].label for row in rows} <= set(Urgency)
    assert {row["team"].label for row in rows} == {Team.billing}
    assert shop.paid() == shop.stats.billed == 30 * 3
    assert (shop.stats.rows, shop.stats.duplicate) == (300, 210)
    ask(shop, ROWS, AXES, **OPTIONS)
    assert shop.stats.billed == 0
    assert shop.paid() == 30 * 3


def test_an_axis_is_what_classify_many_would_have_bought(shop: Shop, ask: Ask) -> None:
    alone = shop.buy(ROWS, **OPTIONS, categories=AXES["topic"])
    assert shop.paid() == 30
    rows = ask(shop, ROWS, AXES, **OPTIONS)
    assert shop.paid() == 30 * 3
    for one, row in zip(alone, rows, strict=True):
        assert {**one.as_dict(), "source": "ledger"} == {**row["topic"].as_dict(), "source": "ledger"}


def test_rows_are_read_once_and_as_there_is_room(shop: Shop) -> None:
    pulled = 0

    def source() -> Iterator[str]:
        nonlocal pulled
        for n in range(3_000):
            pulled += 1
            yield f"invoice {n % 50}"

    with shop.client() as client:
        run = iter(client.classify_axes(source(), AXES, batch_size=10, concurrency=2))
        next(run)
        assert pulled < 1_500
        assert len(list(run)) == 2_999
    assert pulled == 3_000
    assert shop.paid() == 150


def test_asynchronous_rows(shop: Shop) -> None:
    async def source() -> AsyncIterator[str]:
        for n in range(20):
            yield f"invoice {n}"

    async def collect() -> list[AxesRow]:
        async with shop.async_client() as client:
            return [row async for row in client.classify_axes(source(), AXES)]

    assert [row.index for row in asyncio.run(collect())] == list(range(20))
    assert shop.paid() == 60


def test_the_plan_is_right_to_the_item_and_spends_nothing(shop: Shop, ask: Ask) -> None:
    ask(shop, ROWS[:10], {"topic": AXES["topic"]}, **OPTIONS)
    assert shop.paid() == 10

    async def planned() -> Any:
        async with shop.async_client() as client:
            return await client.plan_axes(ROWS, AXES, **OPTIONS, ledger=shop.ledger_url)

    with shop.client() as client:
        plan = client.plan_axes(ROWS, AXES, **OPTIONS, ledger=shop.ledger_url)
    assert asyncio.run(planned()) == plan
    assert (plan.rows, plan.unique, plan.already_paid, plan.to_buy) == (300, 90, 10, 80)
    assert shop.paid() == 10
    ask(shop, ROWS, AXES, **OPTIONS)
    assert shop.paid() == 10 + plan.to_buy


def test_the_budget_counts_all_axes_before_the_first_paid_call(shop: Shop, ask: Ask) -> None:
    with pytest.raises(BudgetExceededError) as caught:
        ask(shop, ROWS, AXES, **OPTIONS, budget=Budget(max_requests=89))
    assert (caught.value.needed, caught.value.available) == (90, 89)
    assert shop.paid() == 0
    assert len(ask(shop, ROWS, AXES, **OPTIONS, budget=Budget(max_requests=90))) == 100


def test_a_partial_budget_says_which_axis_it_left_out(shop: Shop, ask: Ask) -> None:
    budget = Budget(max_requests=41, on_exceeded="partial")
    rows = ask(shop, [f"invoice {n}" for n in range(20)], AXES, budget=budget)
    statuses = [each.status for row in rows for each in row.axes.values()]
    assert (statuses.count("completed"), statuses.count("uncovered")) == (41, 19)
    assert all(each.label is None for row in rows for each in row.axes.values() if each.status == "uncovered")
    assert shop.paid() == 41


def test_a_row_as_plain_data(shop: Shop, ask: Ask) -> None:
    (row,) = ask(shop, ROWS[:1], {"topic": ["billing"], "team": Team}, **OPTIONS)
    plain = row.as_dict()
    assert (plain["id"], plain["topic_label"], plain["team_label"]) == (0, "billing", "billing")
    assert type(plain["team_label"]) is str
    assert json.loads(json.dumps(plain)) == plain


def test_a_row_that_cannot_be_sent_is_skipped_on_every_axis(shop: Shop, ask: Ask) -> None:
    rows = ask(shop, [{"input": " "}, {"input": "invoice", "categories": ["a"]}, {"input": "invoice"}], AXES)
    assert [{each.status for each in row.axes.values()} for row in rows] == [{"skipped"}, {"skipped"}, {"completed"}]
    assert "the axes say what is asked" in (rows[1]["topic"].error or "")
    assert shop.paid() == 3


def test_what_each_axis_got(shop: Shop) -> None:
    with shop.client() as client:
        run = client.classify_axes(ROWS, AXES, **OPTIONS)
        list(run)
    assert {axis: stats.rows for axis, stats in run.by_axis.items()} == dict.fromkeys(AXES, 100)
    assert run.by_axis["team"].labels == {"billing": 100}
    assert sum(stats.billed for stats in run.by_axis.values()) == run.stats.billed == 90


def test_a_label_of_another_axis_is_outside_the_set(canned: Any, tmp_path: Path) -> None:
    """An answer outside its own set is for review, whatever the other axes allow."""

    def respond(asked: Any) -> Any:
        if asked.method == "GET":
            return 200, {}, json.dumps({"limits": {"batch_size": 50}, "usage": {"requests": 0}}).encode()
        results = [{"id": each["id"], "result": {"label": "high", "confidence": 0.99}} for each in asked.json["items"]]
        return 200, {}, json.dumps({"id": "batch_1", "status": "completed", "results": results}).encode()

    canned.respond = respond
    with ClassifailyClient("cai_live_x", base_url=canned.url, retry=RetryPolicy(base=0.0)) as client:
        (row,) = client.classify_axes(["text"], AXES)
    found = {axis: (each.label, each.route) for axis, each in row.axes.items()}
    assert found == {"topic": ("high", "review"), "urgency": (Urgency.HIGH, "act"), "team": (None, "review")}
    assert row["team"].labels[0].label == "high"


def test_what_was_lost_is_found_under_its_own_axis(shop: Shop, ask: Ask, settle_at_once: None) -> None:
    """Sent one by one, the axes of a row look alike in the history but for their categories."""
    shop.inject("reset", after_work=True, times=None)
    rows = ask(shop, ["an urgent invoice"], AXES, mode="top_n", top_n=1)
    assert {each.status for each in rows[0].axes.values()} == {"unknown"}
    assert shop.paid() == 3
    shop.sandbox.clear_faults()
    (row,) = ask(shop, ["an urgent invoice"], AXES, mode="top_n", top_n=1, on_unknown="reconcile")
    assert {each.status for each in row.axes.values()} == {"completed"}
    assert row["topic"].label == "billing"
    assert row["urgency"].label in Urgency
    assert row["team"].label is Team.billing
    assert shop.paid() == 3


def test_what_no_plan_of_ours_includes_ends_the_run(open_shop: Callable[..., Shop], ask: Ask) -> None:
    shop = open_shop(plan="free")
    with pytest.raises(PlanRestrictionError, match="Starter"):
        ask(shop, ROWS, AXES, **OPTIONS)
    assert shop.paid() == 0


@pytest.mark.parametrize(
    ("axes", "options", "why"),
    [
        ({}, {}, "axes must map at least one name"),
        (["billing"], {}, "axes must map at least one name"),
        ({"topic": []}, {}, r"axes\['topic'\] is empty"),
        ({"topic": ["a", "a"]}, {}, r"axes\['topic'\]\[1\].name 'a' repeats"),
        (AXES, {"schema": 17}, r"classify_axes\(\) takes no option 'schema'"),
        (AXES, {"categories": ["a"]}, "categories"),
        (AXES, {"batch_size": 0}, "batch_size"),
    ],
)
def test_an_argument_that_cannot_work_is_refused_before_anything(
    shop: Shop, axes: Any, options: dict[str, Any], why: str
) -> None:
    with shop.client() as client, pytest.raises(InvalidRequestError, match=why):
        list(client.classify_axes(["text"], axes, **options))
    assert shop.sandbox.requests == []
