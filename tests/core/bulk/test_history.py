"""The API's history: read as far as it must be, in whatever order and by whatever clock it is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors.bulk.reconcile import SETTLE_AFTER, examine, seconds_back
from classifaily_connectors.operations.context import Context
from classifaily_connectors.operations.effects import Reply, Send
from classifaily_connectors.operations.history import History, read_history
from classifaily_connectors.store.entry import Entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Shop

SERVER = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
"""The server's clock; ours says something else in most of these tests."""
OURS = 1_000_000.0
KEY = b"k" * 16
ROWS = [f"invoice {n}" for n in range(20)]


def _job(name: str, age: float, *keys: bytes, **fields: Any) -> dict[str, Any]:
    results = [{"id": key.hex(), "status": "completed", "result": {"label": "a", "confidence": 0.5}} for key in keys]
    created = (SERVER - timedelta(seconds=age)).isoformat()
    return {"id": name, "status": "completed", "created_at": created, "results": results, **fields}


def _other(number: int, age: float) -> dict[str, Any]:
    return _job(f"other {number}", age, number.to_bytes(16, "big"))


def _read(
    jobs: list[dict[str, Any]], seconds: float, *, date: bool = True, total: bool = False, deaf: bool = False
) -> tuple[History, int]:
    """What is read of `jobs`, in this order, and by how many requests."""
    operation = read_history(Context(), seconds)
    answer: Reply | None = None
    requests = 0
    while True:
        try:
            step = operation.send(answer)
        except StopIteration as done:
            return done.value, requests
        assert isinstance(step, Send)
        requests += 1
        offset = 0 if deaf or step.params is None else int(step.params["offset"])
        body: dict[str, Any] = {"jobs": jobs[offset : offset + 100]}
        if total:
            body["total"] = len(jobs)
        headers = {"date": format_datetime(SERVER, usegmt=True)} if date else {}
        answer = Reply(200, headers, json.dumps(body).encode())


def _examined(jobs: list[dict[str, Any]], *claims: Entry, **listing: Any) -> dict[bytes, str]:
    pairs = [(None, claim) for claim in claims]
    history, _requests = _read(jobs, seconds_back(pairs, OURS), **listing)
    findings = examine(history, pairs, OURS)
    found = dict.fromkeys(findings.answered, "answered")
    for word in ("absent", "unsure", "too_early"):
        found |= {each.key: word for each in getattr(findings, word)}
    return found


def _claim(age: float, **fields: Any) -> Entry:
    return Entry(KEY, "parked", "run", OURS - age, **fields)


@pytest.mark.parametrize("age", [61.0, 600.0, 5 * 86_400.0])
@pytest.mark.parametrize("off", [0.0, -600.0, 600.0, 3000.0])
def test_an_answer_is_found_though_a_clock_was_set_meanwhile(age: float, off: float) -> None:
    jobs = [_other(1, 1.0), _job("ours", max(0.0, age + off), KEY), _other(2, age + 50_000)]
    assert _examined(jobs, _claim(age)) == {KEY: "answered"}


def test_absent_is_what_a_complete_history_does_not_hold() -> None:
    assert _examined([_other(n, 10.0 * n) for n in range(250)], _claim(600.0)) == {KEY: "absent"}
    assert _examined([], _claim(600.0)) == {KEY: "absent"}


@pytest.mark.parametrize(
    ("claim", "jobs", "listing"),
    [
        (_claim(600.0), [], {"date": False}),
        (_claim(7 * 86_400.0), [], {}),
        (_claim(-300.0), [], {}),
        (_claim(600.0, job_id="84"), [], {}),
        (_claim(600.0), [_other(n, 1.0) for n in range(250)], {"deaf": True}),
        (_claim(600.0), [_other(n, 1.0) for n in range(250)], {"deaf": True, "total": True}),
        (_claim(600.0), [_job("single", 590.0, input_preview="invoice")], {}),
    ],
    ids=["no clock", "older than the history", "claimed in the future", "its job was recorded", "pages repeat",
         "pages repeat, with a total", "a single job that could be anybody's"],
)  # fmt: skip
def test_what_is_doubtful_stays_unknown(claim: Entry, jobs: list[dict[str, Any]], listing: dict[str, Any]) -> None:
    assert _examined(jobs, claim, **listing) == {KEY: "unsure"}


def test_what_may_be_running_still_is_too_early_to_tell() -> None:
    assert _examined([], _claim(SETTLE_AFTER - 1)) == {KEY: "too_early"}
    assert _examined([_job("running", 600.0, status="processing")], _claim(610.0)) == {KEY: "too_early"}
    assert _examined([_job("running", 50_000.0, status="processing")], _claim(610.0)) == {KEY: "absent"}


def test_the_newest_of_two_answers_is_taken_in_any_order() -> None:
    old, new = _job("old", 900.0, KEY), _job("new", 500.0, KEY)
    for jobs in ([new, old], [old, new]):
        assert _read(jobs, 10_000.0)[0].results[KEY.hex()].job_id == "new"


def test_the_answer_that_was_to_be_replaced_is_not_taken_for_the_new_one() -> None:
    replacing = _claim(600.0, answer="{}")
    assert _examined([_job("old", 900.0, KEY)], replacing) == {KEY: "absent"}
    assert _examined([_job("new", 590.0, KEY), _job("old", 900.0, KEY)], replacing) == {KEY: "answered"}


def test_only_a_listing_that_goes_back_in_time_is_left_early() -> None:
    down = [_other(n, 100.0 * n) for n in range(1, 1000)]
    history, requests = _read(down, 1_000.0)
    assert (history.complete, requests) == (True, 2)
    history, requests = _read([*reversed(down)], 1_000.0)
    assert (history.complete, requests) == (True, 11)
    assert len(history.results) == 10


@pytest.mark.parametrize("minutes", [0, -10, 10, -1.5, 50, -50])
def test_an_api_whose_clock_differs(open_shop: Callable[..., Shop], settle_at_once: None, minutes: float) -> None:
    shop = open_shop()
    shop.sandbox.clock.advance(minutes=minutes)
    shop.inject("reset")
    shop.buy(ROWS, batch_size=20)
    rows = shop.buy(ROWS, batch_size=20, on_unknown="reconcile")
    assert {row.status for row in rows} == {"completed"}
    assert shop.paid() == 20


def test_a_claim_from_a_clock_that_was_ahead_is_not_waited_for(shop: Shop, settle_at_once: None) -> None:
    import sqlalchemy as sa

    from classifaily_connectors.store.migrations import entry, run

    shop.inject("reset", after_work=False)
    shop.buy(ROWS)
    ledger = shop.ledger()
    with ledger._begin() as connection:
        ahead = 864_000.0
        connection.execute(sa.update(entry).values(claimed_at=entry.c.claimed_at + ahead, state="open"))
        elsewhere = {"process": "another-machine/1/1", "ended_at": None, "beat_at": run.c.beat_at + ahead}
        connection.execute(sa.update(run).values(**elsewhere))
    ledger.close()
    rows = shop.buy(ROWS, on_unknown="reconcile")
    assert {row.status for row in rows} == {"unknown"}
    assert shop.paid() == 0
