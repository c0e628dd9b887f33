"""Answers are joined by our own item ids: what was not sent is nobody's, what was not answered is unknown."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import ClassifailyClient, ConfidencePolicy, RetryPolicy, Row

if TYPE_CHECKING:
    from conftest import Shop

USAGE = {"limits": {"batch_size": 50}, "usage": {"requests": 0, "remaining": None}}
Change = Callable[[list[dict[str, Any]]], Any]


def _verdict(item_id: Any, label: str = "billing") -> dict[str, Any]:
    return {"id": item_id, "status": "completed", "result": {"label": label, "confidence": 0.9}}


def _buy(canned: Any, tmp_path: Path, rows: list[str], change: Change, **options: Any) -> list[Row]:
    def respond(asked: Any) -> Any:
        if asked.method == "GET":
            return 200, {}, json.dumps(USAGE).encode()
        answer = change([_verdict(item["id"]) for item in asked.json["items"]])
        body = answer if isinstance(answer, dict) else {"id": "batch_1", "status": "completed", "results": answer}
        return 200, {"Content-Type": "application/json"}, json.dumps(body).encode()

    canned.respond = respond
    with ClassifailyClient("cai_live_x", base_url=canned.url, retry=RetryPolicy(base=0.0)) as client:
        many = {"categories": ["billing", "technical"], "ledger": f"sqlite:///{tmp_path}/l.db", **options}
        return list(client.classify_many(rows, **many))


@pytest.mark.parametrize(
    ("change", "statuses"),
    [
        (lambda results: results[::-1], ["completed"] * 3),
        (lambda results: results[:2], ["completed", "completed", "unknown"]),
        (lambda results: [*results, _verdict("somebody else's")], ["completed"] * 3),
        (lambda results: [*results[:2], _verdict("somebody else's")], ["completed", "completed", "unknown"]),
        (lambda results: [{**each, "id": None} for each in results], ["unknown"] * 3),
        (lambda results: [*results, _verdict(results[0]["id"], "technical")], ["unknown", "completed", "completed"]),
        (lambda results: [*results, results[0]], ["completed"] * 3),
        (lambda results: [], ["unknown"] * 3),
        (lambda results: dict(enumerate(results)) and {"results": dict(enumerate(results))}, ["completed"] * 3),
    ],
    ids=["turned", "one less", "one more", "exchanged", "no ids", "two verdicts", "twice", "none", "as PHP writes it"],
)
def test_joined_by_id_and_never_guessed(canned: Any, tmp_path: Path, change: Change, statuses: list[str]) -> None:
    rows = _buy(canned, tmp_path, ["one", "two", "three"], change)
    assert [row.status for row in rows] == statuses
    assert [row.label for row in rows] == ["billing" if status == "completed" else None for status in statuses]
    again = _buy(canned, tmp_path, ["one", "two", "three"], change)
    assert [row.status for row in again] == statuses
    assert sum(each.method == "POST" for each in canned.asked) == 1


def test_the_ids_that_are_sent_are_keys_and_tell_nothing(canned: Any, tmp_path: Path) -> None:
    _buy(canned, tmp_path, ["my secret"], lambda results: results)
    (post,) = (each for each in canned.asked if each.method == "POST")
    (item,) = post.json["items"]
    assert len(bytes.fromhex(item["id"])) == 16


def test_no_more_requests_at_once_than_allowed(canned: Any, tmp_path: Path) -> None:
    busy = most = 0
    lock = threading.Lock()

    def slowly(results: list[dict[str, Any]]) -> Any:
        nonlocal busy, most
        with lock:
            busy += 1
            most = max(most, busy)
        time.sleep(0.02)
        with lock:
            busy -= 1
        return results

    rows = [f"row {n}" for n in range(120)]
    assert len(_buy(canned, tmp_path, rows, slowly, batch_size=2, concurrency=3)) == 120
    assert most == 3


def test_an_error_never_wears_a_label(canned: Any, tmp_path: Path) -> None:
    def fail(results: list[dict[str, Any]]) -> Any:
        return [
            {**results[0], "status": "failed", "error": {"code": "unreadable", "message": "cannot read it"}},
            {**results[1], "result": None},
            {**results[2], "result": {"label": "not of the set", "confidence": 0.99}},
            {**results[3], "result": {"label": "billing"}},
        ]

    rows = _buy(canned, tmp_path, ["one", "two", "three", "four"], fail)
    assert [(row.status, row.label, row.route) for row in rows] == [
        ("failed", None, "review"),
        ("completed", None, "review"),
        ("completed", "not of the set", "review"),
        ("completed", "billing", "review"),
    ]
    assert rows[0].error == "unreadable: cannot read it"
    assert [row.decided_by for row in rows] == [None, "model", "model", "model"]


def test_a_replayed_row_equals_the_first(shop: Shop) -> None:
    rows = ["I was charged twice", "the app crashes"]
    options: dict[str, Any] = {"mode": "multi", "explain": True, "policy": ConfidencePolicy(act=0.9, review=0.2)}
    first, second = shop.buy(rows, **options), shop.buy(rows, **options)
    assert {row.source for row in second} == {"ledger"}
    for one, other in zip(first, second, strict=True):
        assert {**one.as_dict(), "source": "ledger"} == other.as_dict()
    third = shop.buy(rows, **{**options, "policy": ConfidencePolicy(act=1.0)})
    assert {row.policy for row in third}.isdisjoint(row.policy for row in first)
    assert shop.paid() == 2
