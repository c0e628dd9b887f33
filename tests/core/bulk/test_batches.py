"""How rows travel: as large a batch as is allowed, one by one where it must be, never past the byte cap."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import ClassifailyError, PlanRestrictionError
from classifaily_connectors.bulk import engine, source
from classifaily_connectors.sandbox import Fault

if TYPE_CHECKING:
    from conftest import Shop

ROWS = [f"invoice {n}" for n in range(120)]


@pytest.fixture(autouse=True)
def _lists_are_never_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is."""
    monkeypatch.setattr(source, "_PULL", 60.0)


def _calls(shop: Shop, path: str = "/batch") -> list[int | None]:
    return [each.status for each in shop.sandbox.requests if each.method == "POST" and each.path.endswith(path)]


@pytest.mark.parametrize(
    ("plan", "batch_size", "calls"), [("starter", None, 3), ("growth", None, 5), ("pro", None, 1), ("pro", 40, 3)]
)
def test_batch_size_is_the_callers_else_the_plans(
    open_shop: Callable[..., Shop], plan: str, batch_size: int | None, calls: int
) -> None:
    shop = open_shop(plan=plan)
    assert shop.plan(ROWS, batch_size=batch_size).batches == calls
    assert {row.status for row in shop.buy(ROWS, batch_size=batch_size)} == {"completed"}
    assert _calls(shop) == [200] * calls


def test_batch_size_is_25_when_the_usage_cannot_be_read(shop: Shop) -> None:
    shop.sandbox.inject(Fault(kind="500", method="GET", path="/usage", times=None))
    assert {row.status for row in shop.buy(ROWS)} == {"completed"}
    assert _calls(shop) == [200] * 5
    assert shop.stats.remaining is None


@pytest.mark.parametrize("status", [400, 403, 413])
def test_a_size_that_is_refused_is_halved_for_good(open_shop: Callable[..., Shop], status: int) -> None:
    """The plan says 50, the server takes 25 (the vendor's pages disagree)."""
    shop = open_shop(plan="starter", batch_limit=25, batch_over_size=status)
    rows = [f"invoice {n}" for n in range(1000)]
    assert {row.status for row in shop.buy(rows, concurrency=2)} == {"completed"}
    assert shop.paid() == 1000
    assert shop.paid_twice() == 0
    refused = [each for each in _calls(shop) if each != 200]
    assert 0 < len(refused) <= 4


def test_a_batch_stays_below_the_byte_cap(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f'invoice {n} {"long" * 20_000} "{n}"' for n in range(60)]
    assert {row.status for row in shop.buy(rows, batch_size=50)} == {"completed"}
    assert _calls(shop) == [200] * len(_calls(shop))
    assert len(_calls(shop)) >= 60 * 80_000 // engine.MAX_BATCH_BYTES


def test_what_json_escapes_counts_twice(shop: Shop) -> None:
    rows = [f"{n} " + '"\n\\' * 30_000 for n in range(30)]
    assert {row.status for row in shop.buy(rows, batch_size=50)} == {"completed"}
    assert set(_calls(shop)) == {200}


def test_one_row_too_large_fails_alone(shop: Shop) -> None:
    rows = shop.buy(["invoice one", "x" * 2_000_000, "invoice two"], batch_size=3)
    assert [row.status for row in rows] == ["completed", "failed", "completed"]
    assert shop.paid() == 2


def test_large_inputs_are_not_all_held_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "MAX_HELD_BYTES", 400_000)
    held = 0
    put_in_basket = engine.Engine.put_in_basket

    def watch(self: engine.Engine, unit: engine.Unit) -> None:
        nonlocal held
        held = max(held, self._held_bytes)
        put_in_basket(self, unit)

    monkeypatch.setattr(engine.Engine, "put_in_basket", watch)
    rows = [f"invoice {n} {'long' * 10_000}" for n in range(100)]
    assert len(shop.buy(rows, batch_size=5)) == 100
    assert shop.paid() == 100
    assert held <= 400_000 + 41_000


@pytest.mark.parametrize("same", [False, True], ids=["each its own", "all the same"])
def test_rows_that_wait_to_be_given_out_are_held_too(shop: Shop, monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    """Issue: streamed, never materialised; a row keeps its input as a column until it is given out."""
    monkeypatch.setattr(engine, "MAX_HELD_BYTES", 400_000)
    shop.inject("delay", nth=1, seconds=0.5)
    held = 0
    feed = engine.Engine._take_in

    def watch(self: engine.Engine, row: object) -> Any:
        nonlocal held
        waiting = [unit.columns for units in self.pending.values() for unit in units]
        waiting += [ready.columns for ready, _size in self._rows.values()]
        held = max(held, sum(len(columns["input"]) for columns in waiting if columns))
        return feed(self, row)

    monkeypatch.setattr(engine.Engine, "_take_in", watch)
    rows = ({"input": f"invoice {0 if same else n} {'long' * 10_000}"} for n in range(100))
    assert len(shop.buy(rows, batch_size=5)) == 100
    assert shop.paid() == (1 if same else 100)
    assert held <= 400_000 + 41_000


@pytest.mark.parametrize("free_batch", ["one", "none"])
def test_the_free_plan_is_served_one_by_one(open_shop: Callable[..., Shop], free_batch: str) -> None:
    shop = open_shop(plan="free", free_batch=free_batch)
    rows = shop.buy([f"invoice {n}" for n in range(20)], categories=None)
    assert {row.status for row in rows} == {"completed"}
    assert shop.paid() == 20
    assert bool(shop.posts("/classify")) == (free_batch == "none")


def test_what_no_plan_of_ours_includes_ends_the_run(open_shop: Callable[..., Shop]) -> None:
    shop = open_shop(plan="free")
    with pytest.raises(PlanRestrictionError, match="Starter"):
        shop.buy(ROWS[:10])
    assert shop.paid() == 0
    assert shop.unsettled() == 0


def test_top_n_is_one_classify_per_row(shop: Shop) -> None:
    rows = shop.buy(ROWS[:12], mode="top_n", top_n=2)
    assert {len(row.labels) for row in rows} == {2}
    assert (shop.posts("/classify"), shop.posts("/batch")) == (12, 0)
    assert shop.plan([*ROWS[:12], "new"], mode="top_n", top_n=2).batches == 1


@pytest.mark.parametrize("queued", ["batch", "both"])
def test_a_queued_batch_is_followed_to_its_end(open_shop: Callable[..., Shop], queued: str) -> None:
    shop = open_shop(unasked_async=queued, job_delay=0.05)
    rows = shop.buy(ROWS, batch_size=50)
    assert {row.status for row in rows} == {"completed"}
    assert all(row.job_id and row.job_id.startswith("batch_") for row in rows)
    assert shop.paid() == 120


def test_a_bad_item_is_isolated_and_its_mates_are_paid_once(open_shop: Callable[..., Shop]) -> None:
    """A batch that is refused for one item costs nothing: it is halved until the item stands alone."""
    shop = open_shop()
    body = {"error": {"code": "invalid_request", "message": "items[3] is bad"}}
    shop.inject("answer", status=400, body=body, contains="poison", times=None)
    rows = shop.buy([*ROWS[:50], "poison one", *ROWS[50:], "poison two"], batch_size=60)
    assert [row.index for row in rows if row.status == "failed"] == [50, 121]
    assert all("items[3] is bad" in (row.error or "") for row in rows if row.status == "failed")
    assert [row.label for row in rows if row.status == "failed"] == [None, None]
    assert shop.paid() == 120
    assert shop.paid_twice() == 0
    assert shop.unsettled() == 0


@pytest.mark.parametrize("rows", [[*ROWS, "poison"], [*ROWS[:7], "poison"]], ids=["among others", "in the only batch"])
def test_an_item_that_makes_the_server_fail_is_isolated(shop: Shop, rows: list[str]) -> None:
    shop.inject("500", contains="poison", times=None)
    found = shop.buy(rows, batch_size=20)
    assert [row.index for row in found if row.status != "completed"] == [len(rows) - 1]
    assert found[-1].status == "failed"
    assert shop.paid() == len(rows) - 1
    assert shop.paid_twice() == 0


def test_an_outage_is_sat_out(shop: Shop) -> None:
    shop.inject("500", times=7)
    assert {row.status for row in shop.buy(ROWS, batch_size=20)} == {"completed"}
    assert shop.paid() == 120


def test_an_outage_that_lasts_ends_the_run_and_costs_nothing(open_shop: Callable[..., Shop]) -> None:
    from classifaily_connectors import RetryPolicy

    shop = open_shop(settings={"retry": RetryPolicy(base=0.0, cap=0.0, max_elapsed=0.3)})
    shop.inject("500", times=None)
    with pytest.raises(ClassifailyError, match=r"(?i)server"):
        shop.buy(ROWS, batch_size=20)
    assert shop.paid() == 0
    assert shop.unsettled() == 0
    shop.sandbox.clear_faults()
    assert {row.status for row in shop.buy(ROWS)} == {"completed"}
