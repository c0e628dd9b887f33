"""A lost answer is an open question, and is never answered by paying again unless the caller said so."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from classifaily_connectors import Row
from classifaily_connectors.bulk import recovery
from classifaily_connectors.sandbox import SandboxClock
from classifaily_connectors.store.migrations import entry

if TYPE_CHECKING:
    from conftest import Shop

Buy = Callable[..., list[Row]]
ROWS = [f"invoice {n}" for n in range(60)]


def _statuses(rows: list[Row]) -> dict[str, int]:
    return {status: sum(row.status == status for row in rows) for status in {row.status for row in rows}}


@pytest.mark.parametrize("ledger", ["sqlite", None], ids=["ledger", "memory"])
@pytest.mark.parametrize("kind", ["reset", "cut", "html_502"])
@pytest.mark.parametrize("after_work", [True, False])
def test_a_lost_batch_is_parked(shop: Shop, buy: Buy, kind: str, after_work: bool, ledger: str | None) -> None:
    shop.inject(kind, after_work=after_work, nth=2)
    options: dict[str, Any] = {"batch_size": 20} if ledger else {"batch_size": 20, "ledger": False}
    rows = buy(shop, ROWS, **options)
    assert _statuses(rows) == {"completed": 40, "unknown": 20}
    assert shop.stats.unknown == 20
    assert shop.paid() == (60 if after_work else 40)
    assert all(row.error and row.label is None and row.source is None for row in rows if row.status == "unknown")
    if ledger:
        assert shop.unsettled() == 20
        again = buy(shop, ROWS, batch_size=20)
        assert _statuses(again) == {"completed": 40, "unknown": 20}
        assert all("settle it" in (row.error or "") for row in again if row.status == "unknown")
        assert shop.paid_twice() == 0


@pytest.mark.parametrize("ledger", ["sqlite", None], ids=["ledger", "memory"])
@pytest.mark.parametrize("kind", ["reset", "cut"])
@pytest.mark.parametrize("after_work", [True, False])
def test_reconciling_finds_the_answer_or_buys_it(
    shop: Shop, buy: Buy, settle_at_once: None, kind: str, after_work: bool, ledger: str | None
) -> None:
    shop.inject(kind, after_work=after_work, nth=2)
    options: dict[str, Any] = {} if ledger else {"ledger": False}
    rows = buy(shop, ROWS, batch_size=20, on_unknown="reconcile", **options)
    assert _statuses(rows) == {"completed": 60}
    assert shop.paid() == 60
    assert shop.paid_twice() == 0
    assert (shop.stats.billed, shop.stats.reused) == (60, 0), "what this run bought and found again, it has bought"
    if ledger:
        assert shop.unsettled() == 0


def test_reconciling_later_settles_what_was_parked(shop: Shop, settle_at_once: None) -> None:
    shop.inject("reset", nth=1)
    shop.inject("reset", nth=2, after_work=False)
    shop.buy(ROWS, batch_size=20, concurrency=1)
    assert shop.unsettled() == 40
    rows = shop.buy(ROWS, batch_size=20, on_unknown="reconcile")
    assert _statuses(rows) == {"completed": 60}
    assert shop.unsettled() == 0
    assert shop.paid() == 60
    assert shop.paid_twice() == 0


def test_a_single_request_is_recognised_by_its_preview(open_shop: Callable[..., Shop], settle_at_once: None) -> None:
    shop = open_shop()
    shop.inject("reset", path="/classify", times=2)
    long = "invoice " * 20
    rows = shop.buy([ROWS[0], long, *ROWS[1:10]], mode="top_n", top_n=2, on_unknown="reconcile", concurrency=1)
    assert rows[0].status == "completed"
    # The preview of a long text is cut, and does not tell it from others: never a guess.
    assert (rows[1].status, rows[1].label) == ("unknown", None)
    assert shop.paid() == 11
    assert shop.paid_twice() == 0


def test_two_that_look_the_same_are_not_told_apart(shop: Shop, settle_at_once: None) -> None:
    shop.inject("reset", path="/classify", times=2)
    shop.buy([ROWS[0]], mode="top_n", top_n=2)
    rows = shop.buy([ROWS[0]], mode="top_n", top_n=3, on_unknown="reconcile")
    assert {row.status for row in rows} == {"unknown"}
    assert shop.paid() == 2


@pytest.mark.parametrize("after_work", [True, False])
@pytest.mark.parametrize("ledger", ["sqlite", None], ids=["ledger", "memory"])
def test_resending_pays_once_more_at_most(shop: Shop, buy: Buy, after_work: bool, ledger: str | None) -> None:
    shop.inject("reset", after_work=after_work, contains="invoice 7", times=None)
    options: dict[str, Any] = {} if ledger else {"ledger": False}
    rows = [*ROWS[:20], *ROWS[:20], *["invoice 7"] * 2000]
    found = buy(shop, rows, batch_size=10, on_unknown="resend", concurrency=1, **options)
    assert _statuses(found).keys() == {"completed", "unknown"}
    assert max(shop.sandbox.bill().by_input.values()) <= 2
    if ledger:
        assert shop.unsettled() == 10


def test_resending_a_parked_row_that_is_refused_leaves_it_parked(shop: Shop) -> None:
    """The refusal says that this request did not run; it says nothing of the one before."""
    shop.inject("reset", times=1)
    shop.buy(ROWS[:5])
    assert shop.unsettled() == 5
    body = {"error": {"code": "invalid_request", "message": "bad"}}
    shop.inject("answer", status=400, body=body, times=None)
    assert _statuses(shop.buy(ROWS[:5], on_unknown="resend")) == {"failed": 5}
    assert shop.unsettled() == 5
    shop.sandbox.clear_faults()
    assert _statuses(shop.buy(ROWS[:5])) == {"unknown": 5}
    assert shop.paid_twice() == 0


def test_what_is_older_than_the_history_is_never_bought_again_unasked(shop: Shop, settle_at_once: None) -> None:
    shop.inject("reset", times=1, after_work=False)
    shop.buy(ROWS[:5])
    ledger = shop.ledger()
    with ledger._begin() as connection:
        connection.execute(sa.update(entry).values(claimed_at=time.time() - 8 * 86_400))
    ledger.close()
    assert _statuses(shop.buy(ROWS[:5], on_unknown="reconcile")) == {"unknown": 5}
    assert shop.paid() == 0


def test_a_history_told_backwards_is_read_to_its_end(canned: Any, tmp_path: Any, settle_at_once: None) -> None:
    """The order of GET /jobs is not documented: an old first page must not mean that nothing new follows."""
    import json

    from classifaily_connectors import ClassifailyClient, RetryPolicy

    sent: dict[str, Any] = {}
    old = [{"id": str(n), "status": "completed", "created_at": f"2020-01-01T00:{n // 60:02}:{n % 60:02}Z",
            "input_preview": f"old {n}", "result": {"label": "a", "confidence": 0.5}} for n in range(150)]  # fmt: skip

    def respond(asked: Any) -> Any:
        if asked.method == "POST":
            sent["items"] = asked.json["items"]
            return 502, {"Content-Type": "text/html"}, b"<html>"
        if "/jobs" not in asked.path:
            return 200, {}, b"{}"
        now = datetime.now(UTC).isoformat()
        results = [
            {"id": item["id"], "status": "completed", "result": {"label": "a", "confidence": 0.5}}
            for item in sent["items"]
        ]
        jobs = [*old, {"id": "batch_1", "status": "completed", "created_at": now, "results": results}]
        offset = int(asked.path.partition("offset=")[2].partition("&")[0])
        return 200, {}, json.dumps({"jobs": jobs[offset : offset + 100], "total": len(jobs)}).encode()

    canned.respond = respond
    with ClassifailyClient("cai_live_x", base_url=canned.url, retry=RetryPolicy(base=0.0)) as client:
        url = f"sqlite:///{tmp_path}/l.db"
        rows = list(client.classify_many(["one", "two"], categories=["a"], ledger=url, on_unknown="reconcile"))
    assert [row.status for row in rows] == ["completed", "completed"]
    assert sum(each.method == "POST" for each in canned.asked) == 1


def test_a_history_that_cannot_be_read_leaves_the_question_open(shop: Shop, settle_at_once: None) -> None:
    from classifaily_connectors.sandbox import Fault

    shop.inject("reset", times=1)
    shop.sandbox.inject(Fault(kind="500", method="GET", path="/jobs", times=None))
    assert _statuses(shop.buy(ROWS[:5], on_unknown="reconcile")) == {"unknown": 5}
    shop.sandbox.clear_faults()
    assert _statuses(shop.buy(ROWS[:5], on_unknown="reconcile")) == {"completed": 5}
    assert shop.paid() == 5


def test_a_job_that_takes_too_long_is_picked_up_by_the_next_run(open_shop: Callable[..., Shop]) -> None:
    from classifaily_connectors import RetryPolicy

    clock = SandboxClock(frozen=True)
    impatient = RetryPolicy(base=0.0, cap=0.0, poll_interval=0.01, max_wait=0.1)
    shop = open_shop(unasked_async="batch", job_delay=60, clock=clock, settings={"retry": impatient})
    rows = shop.buy(ROWS, batch_size=20)
    assert _statuses(rows) == {"unknown": 60}
    assert _statuses(shop.buy(ROWS, batch_size=20)) == {"unknown": 60}
    clock.advance(seconds=61)
    found = shop.buy(ROWS, batch_size=20)
    assert _statuses(found) == {"completed": 60}
    assert {row.source for row in found} == {"ledger"}
    assert all(row.job_id for row in found)
    assert shop.paid() == 60
    assert shop.unsettled() == 0


def test_a_claim_of_a_live_run_is_waited_for(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_LOOK_AGAIN", 0.01)
    import threading

    shop.sandbox.script(ROWS[0], "billing", delay=1.0)
    found: list[Row] = []
    first = threading.Thread(target=lambda: found.extend(shop.buy(ROWS[:10])))
    first.start()
    while not shop.paid():
        time.sleep(0.01)
    second = shop.buy(ROWS[:12])
    first.join()
    assert _statuses(second) == {"completed": 12}
    assert [row.source for row in second] == ["ledger"] * 10 + ["api"] * 2
    assert shop.paid() == 12
