"""What breaks on the way of ONE call, and how often the server executed it.

A billed request whose answer was lost is executed once and raises OutcomeUnknownError: it is never sent again by
itself. It is sent again only when it surely did not run, or when the API's own page asks for it (500 `server_error`:
"Retry with exponential backoff", API reference, Errors).
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

import classifaily_connectors as cc
from classifaily_connectors import transport

if TYPE_CHECKING:
    from conftest import Act, Caller, Exchange, FaultServer

pytestmark = pytest.mark.timeout(60)

QUOTA = {"error": {"code": "rate_limit_exceeded", "message": "Monthly limit reached.", "limit": 100, "used": 100}}
FAILED = {"error": {"code": "server_error", "message": "Something went wrong."}}
GATEWAY = {"error": {"code": "bad_gateway", "message": "Upstream died."}}
USAGE = {"period": "2026-11", "plan": "starter", "limits": {"requests": 10_000}, "usage": {"requests": 7}}
PAGE = b"<html><body>Welcome</body></html>"


def answer(status: int, body: Any, **headers: str) -> Act:
    return lambda exchange: exchange.answer(status, body, **headers)


def slow(exchange: Exchange) -> None:
    """The answer comes when nobody waits for it any more."""
    if not exchange.over.wait(2.0):
        exchange.answer()


def reset(exchange: Exchange) -> None:
    exchange.reset()


def hang_up(exchange: Exchange) -> None:
    exchange.close()


def cut(exchange: Exchange) -> None:
    """A 200 that ends in the middle of its body."""
    exchange.sock.sendall(exchange.response()[:-20])
    exchange.close()


def cut_head(exchange: Exchange) -> None:
    exchange.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Le")
    exchange.reset()


def garbage(exchange: Exchange) -> None:
    exchange.sock.sendall(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
    exchange.close()


def drip(exchange: Exchange) -> None:
    """A body byte by byte, each in time, for as long as the test lasts."""
    exchange.sock.sendall(exchange.response(Content_Length="1000000"))
    while not exchange.over.wait(0.02):
        exchange.sock.sendall(b" ")


TABLE: dict[str, tuple[Act, int, type[cc.ClassifailyError], str]] = {
    "slow answer": (slow, 1, cc.OutcomeUnknownError, "unknown"),
    "reset after the work": (reset, 1, cc.OutcomeUnknownError, "unknown"),
    "closed after the work": (hang_up, 1, cc.OutcomeUnknownError, "unknown"),
    "cut in the body": (cut, 1, cc.OutcomeUnknownError, "unknown"),
    "cut in the head": (cut_head, 1, cc.OutcomeUnknownError, "unknown"),
    "no HTTP": (garbage, 1, cc.OutcomeUnknownError, "unknown"),
    "dripping answer": (drip, 1, cc.OutcomeUnknownError, "unknown"),
    "500 server_error": (answer(500, FAILED), 3, cc.ServerError, "failed"),
    "500 web page": (answer(500, PAGE), 1, cc.OutcomeUnknownError, "unknown"),
    "429 quota": (answer(429, QUOTA), 1, cc.QuotaExceededError, "rejected"),
    "429 Retry-After 3600": (answer(429, QUOTA, Retry_After="3600"), 1, cc.QuotaExceededError, "rejected"),
    "502": (answer(502, PAGE), 1, cc.OutcomeUnknownError, "unknown"),
    "502 with an envelope": (answer(502, GATEWAY), 1, cc.OutcomeUnknownError, "unknown"),
    "504": (answer(504, PAGE), 1, cc.OutcomeUnknownError, "unknown"),
    "200 web page": (answer(200, PAGE, Content_Type="text/html"), 1, cc.OutcomeUnknownError, "unknown"),
    "200 broken gzip": (answer(200, PAGE, Content_Encoding="gzip"), 1, cc.OutcomeUnknownError, "unknown"),
}
REPEATED = (
    "slow answer",
    "reset after the work",
    "cut in the body",
    "dripping answer",
    "500 server_error",
    "502",
    "504",
)


def classify(client: Any) -> Any:
    return client.classify("I was charged twice.")


@pytest.fixture(autouse=True)
def _short_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time an attempt may take in all: connecting and writing are quick here."""
    monkeypatch.setattr(transport, "CONNECT_TIMEOUT", 0.2)
    monkeypatch.setattr(transport, "WRITE_TIMEOUT", 0.2)


@pytest.mark.parametrize("fault", TABLE)
def test_a_billed_call(fault: str, server: FaultServer, caller: Caller) -> None:
    act, executions, error, outcome = TABLE[fault]
    server.acts = [act]
    with pytest.raises(error) as caught:
        caller(server.url, classify)
    assert type(caught.value) is error
    assert caught.value.outcome == outcome
    assert len(server.executed) == executions


@pytest.mark.parametrize("fault", ["slow answer", "reset after the work", "cut in the body", "502"])
@pytest.mark.parametrize("verb", ["submit", "batch", "schemas.create", "webhooks.create"])
def test_whatever_is_billed_or_creates_something(fault: str, verb: str, server: FaultServer, caller: Caller) -> None:
    """A schema or a webhook that is made twice is not billed twice, but it is there twice."""
    server.acts = [TABLE[fault][0]]
    calls: dict[str, Any] = {
        "submit": lambda client: client.submit("text"),
        "batch": lambda client: client.batch(["one", "two"]),
        "schemas.create": lambda client: client.schemas.create("Support", ["billing", "technical"]),
        "webhooks.create": lambda client: client.webhooks.create("https://example.com/hook"),
    }
    with pytest.raises(cc.OutcomeUnknownError):
        caller(server.url, calls[verb])
    assert len(server.executed) == 1


@pytest.mark.parametrize("fault", REPEATED)
def test_a_read_is_repeated(fault: str, server: FaultServer, caller: Caller) -> None:
    """Reading costs nothing, so it is tried as often as the policy says, and then says what went wrong."""
    server.acts = [TABLE[fault][0]]
    with pytest.raises(cc.ServerError):
        caller(server.url, lambda client: client.usage())
    assert len(server.executed) == 3


@pytest.mark.parametrize("fault", REPEATED)
def test_a_read_survives_passing_trouble(fault: str, server: FaultServer, caller: Caller) -> None:
    server.acts = [TABLE[fault][0], TABLE[fault][0], answer(200, USAGE)]
    assert caller(server.url, lambda client: client.usage()).plan == "starter"
    assert len(server.executed) == 3


def test_refused_connections_were_never_sent(silent: FaultServer, caller: Caller) -> None:
    with pytest.raises(cc.NotSentError) as caught:
        caller(silent.url, classify)
    assert caught.value.outcome == "not_sent"
    assert silent.executed == []


def test_a_refused_connection_is_tried_again(silent: FaultServer, caller: Caller) -> None:
    class Opening(cc.RetryPolicy):
        """The server comes up while we wait for the second attempt."""

        def delay(self, attempt: int, retry_after: float | None = None) -> float:
            silent.listen()
            return 0.0

    answered = caller(silent.url, classify, retry=Opening())
    assert answered.label == "billing"
    assert len(silent.executed) == 1


def test_a_connection_closed_while_idle_is_not_used(server: FaultServer, caller: Caller) -> None:
    """The server hangs up after its answer: the next call notices, connects anew and loses nothing."""

    closed = threading.Semaphore(0)

    def answer_and_close(exchange: Exchange) -> None:
        exchange.answer()
        exchange.close()
        closed.release()

    def idle(_client: Any) -> None:
        assert closed.acquire(timeout=10)

    server.acts = [answer_and_close]
    assert caller(server.url, classify, idle, classify, idle, classify).label == "billing"
    assert len(server.executed) == server.connections == 3


def test_a_connection_that_dies_under_a_call_is_not_trusted(server: FaultServer, caller: Caller) -> None:
    """The kept connection breaks just as the second call uses it: who can say whether that one was executed?"""
    server.acts = [answer(200, {"id": "1", "result": {"label": "billing"}}), reset]
    with pytest.raises(cc.OutcomeUnknownError):
        caller(server.url, classify, classify)
    assert len(server.executed) == 2
    assert server.connections == 1


@pytest.mark.parametrize("fault", ["slow answer", "reset after the work", "cut in the body", "dripping answer"])
def test_after_a_fault_the_client_works_on(fault: str, server: FaultServer, caller: Caller) -> None:
    """A connection that broke is thrown away with whatever may still arrive on it, and its place is free again."""
    server.acts = [TABLE[fault][0], answer(200, {"id": "1", "result": {"label": "the right one"}})]
    broken = caller.failing(classify, cc.OutcomeUnknownError)
    assert caller(server.url, broken, classify, classify, max_connections=1).label == "the right one"
    assert (len(server.executed), server.connections) == (3, 2)
