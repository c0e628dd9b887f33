"""However a run ends, it says what was billed, where the answers are and what a rerun costs; the bill says the same."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import (
    AuthenticationError,
    Budget,
    BudgetExceededError,
    ClassifailyError,
    QuotaExceededError,
    Row,
)
from classifaily_connectors.bulk.progress import BulkStats

if TYPE_CHECKING:
    from .conftest import Shop

Buy = Callable[..., list[Row]]
ROWS = [f"text {number % 300}" for number in range(400)]


class SourceError(Exception):
    """What the rows' own source raises."""


def told(error: BaseException) -> str:
    """What somebody reads who is shown the error."""
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


def scarce(open_shop: Callable[..., Shop], left: int, **options: Any) -> Shop:
    shop = open_shop(plan="starter", **options)
    shop.sandbox.add_key(shop.sandbox.key, plan="starter", used=10_000 - left)
    return shop


@pytest.mark.parametrize("left", [0, 299])
def test_more_than_is_left_of_the_month_is_refused_before_anything_is_paid(
    open_shop: Callable[..., Shop], buy: Buy, left: int
) -> None:
    shop = scarce(open_shop, left)
    with pytest.raises(BudgetExceededError) as refused:
        buy(shop, ROWS)
    assert (shop.paid(), shop.posts()) == (0, 0)
    assert (refused.value.needed, refused.value.available) == (300, left)
    assert refused.value.resets_at is not None
    assert "Nothing was billed" in told(refused.value)
    assert refused.value.stats is shop.stats
    assert (shop.stats.billed, shop.stats.remaining, shop.stats.foreseen) == (0, left, 300)


def test_what_fits_but_for_repeats_and_what_is_known_is_bought(open_shop: Callable[..., Shop], buy: Buy) -> None:
    shop = scarce(open_shop, 310)
    buy(shop, ROWS[:10])
    buy(shop, ROWS)  # 400 rows, 300 distinct, 10 known
    assert shop.paid() == shop.stats.billed + 10 == 300
    assert shop.stats.foreseen == 290
    buy(shop, ROWS)
    assert shop.stats.billed == 0


def test_partial_and_rows_that_come_once_go_as_far_as_the_quota(open_shop: Callable[..., Shop], buy: Buy) -> None:
    shop = scarce(open_shop, 120)
    buy(shop, ROWS, budget=Budget(on_exceeded="partial"))
    assert shop.paid() == shop.stats.billed == 120
    shop = scarce(open_shop, 120)
    with pytest.raises(BudgetExceededError) as ended:
        buy(shop, iter(ROWS), ledger=False)
    assert 0 < shop.paid() == shop.stats.billed <= 120
    assert f"{shop.paid()} requests were billed. Their answers are not kept" in told(ended.value)


def test_several_category_sets_are_refused_by_what_they_need_together(open_shop: Callable[..., Shop]) -> None:
    shop = scarce(open_shop, 500)
    with shop.client() as client, pytest.raises(BudgetExceededError) as refused:
        list(client.classify_axes(ROWS, {"one": ["a", "b"], "two": ["c", "d"]}, ledger=shop.ledger_url))
    assert (refused.value.needed, refused.value.available, shop.paid()) == (600, 500, 0)


def test_a_run_that_buys_nothing_asks_for_no_quota(shop: Shop, buy: Buy) -> None:
    buy(shop, ROWS)
    asked = len(shop.sandbox.requests)
    buy(shop, ROWS)
    assert len(shop.sandbox.requests) == asked


def test_an_error_of_the_api_says_it_and_takes_it_along(shop: Shop, buy: Buy) -> None:
    shop.inject("answer", status=401, body={"error": {"code": "unauthorized", "message": "no"}}, nth=4, times=None)
    with pytest.raises(AuthenticationError) as ended:
        buy(shop, ROWS, batch_size=20, concurrency=2)
    paid = shop.paid()
    assert 0 < paid == shop.stats.billed
    assert f"{paid} requests were billed. Their answers are kept in {shop.ledger_url}" in told(ended.value)
    travelled = pickle.loads(pickle.dumps(ended.value))
    assert told(travelled) == told(ended.value)
    assert copy.copy(ended.value).stats.billed == paid
    shop.sandbox.clear_faults()
    promised = shop.stats.rerun
    assert promised is not None
    buy(shop, ROWS)
    assert 0 < shop.paid() - paid <= promised


def test_the_rows_own_error_and_an_interruption_say_it_in_a_note(shop: Shop, buy: Buy) -> None:
    def rows() -> Iterator[str]:
        yield from (f"text {number}" for number in range(1500))
        raise SourceError

    with pytest.raises(SourceError) as ended:
        buy(shop, rows(), batch_size=20)
    assert f"{shop.paid()} requests were billed. Their answers are kept in" in told(ended.value)
    assert shop.stats.billed == shop.paid()

    def interrupted(moment: Any) -> None:
        if moment.billed:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as struck:
        shop.buy([f"more {number}" for number in range(2000)], progress=interrupted)
    assert re.search(r"\d+ requests were billed\. Their answers are kept in .*: running the same", told(struck.value))


def test_a_quota_that_ends_where_usage_could_not_be_asked(open_shop: Callable[..., Shop], buy: Buy) -> None:
    shop = scarce(open_shop, 100)
    shop.sandbox.inject(_usage_is_down())
    with pytest.raises(QuotaExceededError) as ended:
        buy(shop, ROWS, batch_size=20)
    assert shop.paid() == shop.stats.billed
    assert f"{shop.paid()} requests were billed" in told(ended.value)


def _usage_is_down() -> Any:
    from classifaily_connectors.sandbox import Fault

    return Fault(kind="answer", path="/usage", status=503, times=None)


def test_a_password_is_in_no_ending() -> None:
    error = ClassifailyError("it ended")
    error.stats = BulkStats(total=10, billed=3, ledger="postgresql+psycopg://u:***@db/labels")
    assert str(error) == (
        "it ended. 3 requests were billed. Their answers are kept in postgresql+psycopg://u:***@db/labels: running the "
        "same again pays for 7 more at most"
    )


def test_the_numbers_of_a_rerun_are_the_same_each_time(shop: Shop, buy: Buy) -> None:
    """Which row met which is chance: what was answered before is reused, however often it comes."""
    rows = [f"text {number % 30}" for number in range(3000)]
    buy(shop, rows)
    assert (shop.stats.billed, shop.stats.duplicate, shop.stats.reused) == (30, 2970, 0)
    for batch in (5, 50):
        buy(shop, rows, batch_size=batch)
        assert (shop.stats.billed, shop.stats.duplicate, shop.stats.reused) == (0, 0, 3000)


def test_items_that_a_batch_had_no_quota_for_are_neither_billed_nor_kept(
    open_shop: Callable[..., Shop], buy: Buy
) -> None:
    """The server does what fits of a batch: the rest was not bought, and is none the worse next month."""
    shop = scarce(open_shop, 30, batch_over_quota="partial")
    shop.sandbox.inject(_usage_is_down())
    with pytest.raises(QuotaExceededError):
        buy(shop, ROWS, batch_size=20, concurrency=1)
    assert shop.paid() == shop.stats.billed == 30
    shop.sandbox.clear_faults()
    shop.sandbox.add_key(shop.sandbox.key, plan="pro")
    assert {row.status for row in buy(shop, ROWS)} == {"completed"}
    assert shop.paid() == 300


@pytest.mark.usefixtures("settle_at_once")
def test_an_answer_that_was_lost_and_found_again_was_billed_by_this_run(shop: Shop, buy: Buy) -> None:
    shop.inject("cut", nth=2)
    buy(shop, ROWS, batch_size=50, on_unknown="reconcile")
    assert shop.paid() == shop.stats.billed == 300
