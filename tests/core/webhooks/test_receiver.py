"""The receiver over real HTTP: what is kept, what is refused, and what the sender is told."""

from __future__ import annotations

import http.client
import json
import logging
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors.sandbox import Sandbox
from classifaily_connectors.webhooks import intake, sign
from classifaily_connectors.webhooks.receiver import PATH

if TYPE_CHECKING:
    from conftest import Station

EXCHANGES = [json.loads(path.read_text()) for path in sorted((Path(__file__).parents[2] / "contract").glob("*.json"))]
DELIVERIES = [each for each in EXCHANGES if each["direction"] == "api->receiver"]
SECRET, OTHER = "whsec-of-the-tests", "whsec-of-another-source"
EVENT = (
    b'{"event":"job.completed","id":"84","result":{"label":"invoice","confidence":0.9},'
    b'"timestamp":"2026-11-02T08:15:36Z"}'
)


# --- what is kept -----------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", DELIVERIES, ids=lambda each: each["name"])
def test_every_delivery_of_the_contract(exchange: dict[str, Any], open_station: Callable[..., Station]) -> None:
    request, wanted = exchange["request"], exchange["response"]["status"]
    station = open_station(exchange["secret"])
    headers = {name: value.encode() for name, value in request["headers"].items()}
    answer = station.ask("POST", PATH, request["raw"].encode(), headers)
    kept = [(each.event, each.job_id, each.state) for each in station.inbox.after(0)]
    if wanted == 401:
        assert (answer.status, kept) == (401, [])
    else:
        assert (answer.status, answer.body) == (204, b"")
        assert kept == [(request["json"]["event"], request["json"]["id"], "ok")]


def test_a_delivery_is_kept_as_it_came(station: Station) -> None:
    assert station.deliver().status == 204
    found = station.inbox.find("default", ["84"])["84"]
    assert (found.body, found.event, found.state, found.repeats) == (EVENT, "job.completed", "ok", 0)
    assert found.sent_at == 1793607336.0


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "nonsense", None])
def test_the_content_type_does_not_matter(kind: str | None, station: Station) -> None:
    headers = {} if kind is None else {"Content-Type": kind}
    assert station.deliver(**headers).status == 204


def test_a_repeat_is_acknowledged_and_counted_even_with_another_time(station: Station) -> None:
    later = EVENT.replace(b"08:15:36", b"09:00:00")
    assert [station.deliver(body).status for body in (EVENT, EVENT, later)] == [204] * 3
    [delivery] = station.inbox.after(0)
    assert (delivery.state, delivery.repeats) == ("ok", 2)
    assert station.counted('kept_total{kind="repeat"}') == 2


def test_a_repeat_that_says_something_else_is_kept_as_a_conflict(station: Station) -> None:
    assert station.deliver().status == 204
    assert station.deliver(EVENT.replace(b"invoice", b"receipt")).status == 204
    assert [each.state for each in station.inbox.after(0)] == ["conflict", "conflict"]
    assert station.counted('kept_total{kind="conflict"}') == 1


def test_an_event_nobody_knows_yet_is_kept(station: Station) -> None:
    assert station.deliver(b'{"event":"job.reconsidered","id":84,"more":[1]}').status == 204
    assert [(each.event, each.job_id) for each in station.inbox.after(0)] == [("job.reconsidered", "84")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"junk",
        b"[]",
        b'{"event":"job.completed"}',
        b'{"event":"job.completed","id":[]}',
        b'{"event":"","id":"84"}',
        b'{"event":"job.completed","id":"8\\u00004"}',
        b'{"event":"job.completed","id":"\\ud800"}',
        b'{"event":"job.completed","id":"' + b"8" * 5000 + b'"}',
        b'{"event":"job.completed","id":"84"' + b"[" * 50_000,
        b"\xff\xfe{\x00",
    ],
)
def test_what_was_signed_but_cannot_be_read_is_kept_as_a_dead_letter(body: bytes, station: Station) -> None:
    assert station.deliver(body).status == 204
    assert station.deliver(body).status == 204
    [delivery] = station.inbox.entries(state="dead")
    assert station.inbox.get(delivery.seq).body == body  # type: ignore[union-attr]
    assert delivery.repeats == 1
    assert station.deliver().status == 204  # and hurts nobody


def test_sources_are_kept_apart(station: Station) -> None:
    assert station.deliver().status == 204
    assert station.deliver(secret=OTHER, path=f"{PATH}/staging").status == 204
    assert station.deliver(secret=OTHER, path=f"{PATH}/Staging/").status == 204
    assert [(each.source, each.repeats) for each in station.inbox.after(0)] == [("default", 0), ("staging", 1)]


def test_the_header_that_signed_is_counted(station: Station) -> None:
    station.deliver()
    station.ask("POST", PATH, EVENT, {"X-CLASSIFAI-SIGNATURE": sign(EVENT, SECRET)})
    station.ask("POST", PATH, EVENT, {"X-ClassifAI-Signature": "sha256=0"})
    assert station.counted('signature_header_total{name="x-classifaily-signature"}') == 1
    assert station.counted('signature_header_total{name="x-classifai-signature"}') == 1


def test_the_sandbox_delivers_to_it(station: Station) -> None:
    with Sandbox(plan="pro") as sandbox:
        from classifaily_connectors import ClassifailyClient

        with ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
            client.webhooks.create(station.serving.url, secret=SECRET)
            job = client.submit("my invoice is wrong", categories=["billing", "technical"])
            client.jobs.wait(job.id, timeout=60)
            while not (found := station.inbox.find("default", [job.id])):
                threading.Event().wait(0.02)
    assert found[job.id].event == "job.completed"


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signature", "status"),
    [(None, 401), ("", 401), ("sha256=0", 401), ("sha1=0", 401), ("sha256=" + "é" * 64, 401)],
)
def test_what_was_not_signed_is_refused(signature: str | None, status: int, station: Station) -> None:
    headers = {} if signature is None else {"X-ClassifAIly-Signature": signature}
    assert station.ask("POST", PATH, EVENT, headers).status == status
    assert station.counted('refused_total{reason="signature"}') == 1
    assert station.inbox.after(0) == []


def test_a_source_accepts_its_own_secret_only(station: Station) -> None:
    assert station.deliver(secret=OTHER).status == 401
    assert station.deliver(path=f"{PATH}/staging").status == 401
    for unknown in ("production", "a/b", "%00", "feed/x", "-", "-/nothing", "x" * 200):
        assert station.deliver(path=f"{PATH}/{unknown}").status in (404, 405), unknown
    assert station.inbox.after(0) == []


def test_only_post_delivers(station: Station) -> None:
    for method in ("GET", "PUT", "DELETE", "HEAD", "OPTIONS"):
        answer = station.ask(method, PATH)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert station.ask("POST", f"{PATH}/-/health").status == 405


def test_a_body_is_measured_as_it_comes(open_station: Callable[..., Station]) -> None:
    """413 whatever was promised: without a length there is nothing but the count."""
    station = open_station(max_body=1000)
    fits, more = b"x" * 1000, b"x" * 1001
    assert station.deliver(fits).status == 204
    assert station.deliver(more).status == 413
    chunks = {"X-ClassifAIly-Signature": sign(more, SECRET), "Transfer-Encoding": "chunked"}
    assert station.ask("POST", PATH, [more[:600], more[600:]], chunks).status == 413
    chunks["X-ClassifAIly-Signature"] = sign(fits, SECRET)
    assert station.ask("POST", PATH, [fits[:600], fits[600:]], chunks).status == 204
    assert station.counted('refused_total{reason="size"}') == 2


def test_a_sender_that_leaves_in_the_middle_is_forgotten(station: Station) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", station.serving._port, timeout=60)
    connection.putrequest("POST", PATH)
    connection.putheader("Content-Length", "1000")
    connection.endheaders(b"{")
    connection.close()
    while not station.receiver.counters.refused["cut"]:
        threading.Event().wait(0.01)
    assert station.deliver().status == 204


# --- when the store does not do its part ------------------------------------------------------


def test_a_store_that_is_busy_too_long_means_503_until_it_is_not(
    open_station: Callable[..., Station], tmp_path: Path
) -> None:
    station = open_station(patience=0.2)
    other = sqlite3.connect(tmp_path / "inbox.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    refused = station.deliver()
    assert (refused.status, refused.headers["retry-after"]) == (503, "10")
    assert station.deliver(b'{"event":"job.completed","id":"85"}').status == 503
    assert station.ask("GET", f"{PATH}/-/health").status == 503
    other.execute("ROLLBACK")
    other.close()
    while station.deliver().status == 503:
        threading.Event().wait(0.02)
    while (health := station.ask("GET", f"{PATH}/-/health").json)["status"] != "ok" or health["waiting"]:
        threading.Event().wait(0.02)
    assert station.counted('refused_total{reason="behind"}') >= 2
    assert [each.job_id for each in station.inbox.after(0)] == ["84"]


def test_a_store_that_fails_means_503_and_says_so_once(station: Station, caplog: pytest.LogCaptureFixture) -> None:
    with sqlite3.connect(station.url.removeprefix("sqlite:///")) as other:
        other.execute("ALTER TABLE classifaily_delivery RENAME TO elsewhere")
    with caplog.at_level(logging.INFO):
        assert [station.deliver().status for _ in range(3)] == [503] * 3
        assert station.ask("GET", f"{PATH}/-/health").status == 503
        with sqlite3.connect(station.url.removeprefix("sqlite:///")) as other:
            other.execute("ALTER TABLE elsewhere RENAME TO classifaily_delivery")
        assert station.deliver().status == 204
    ours = [record.getMessage() for record in caplog.records if record.name == "classifaily_connectors"]
    assert [message.split("(")[0].strip() for message in ours] == [
        "the webhook store takes no deliveries",
        "the webhook store takes deliveries again",
    ]
    assert "invoice" not in caplog.text
    assert SECRET not in caplog.text


def test_a_receiver_that_is_full_refuses(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "ROOM", len(EVENT) - 1)
    assert station.deliver().status == 503
    assert station.counted('refused_total{reason="full"}') == 1
    assert station.deliver(b"{}").status == 204
