"""Webhooks from a real sandbox to a real receiver (API reference, Webhooks; CONTRACT.md (d), delivery)."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors.sandbox import Fault, SandboxClock, Switches

CONTRACT = Path(__file__).parents[2] / "contract"
SECRET = "whsec-test-secret"
QUICK: dict[str, Any] = {"delivery_backoff": 0.01, "job_delay": 0.0}


class Receiver(ThreadingHTTPServer):
    """Keeps what it was sent; answers the statuses of `answers` in turn, then 204."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []
        self.hold = threading.Event()
        self.hold.set()
        self.let_go = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?a=1"

    def events(self) -> list[tuple[str, str]]:
        return [(event["event"], event["id"]) for _, body in self.got for event in [json.loads(body)]]


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((dict(self.headers.items()), body))
        self.server.hold.wait(5)
        self.server.let_go += 1
        self.send_response(self.server.answers.pop(0) if self.server.answers else 204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.hold.set()
        server.shutdown()
        thread.join()


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def register(api: Any, url: str, **options: Any) -> None:
    assert api.post("/webhooks", {"url": url, "secret": SECRET, **options}).status_code == 201


def submit(api: Any, input: str = "I was charged twice", **options: Any) -> str:
    return api.classify(input, **{"async": True}, **options).json()["id"]


def settled(api: Any) -> bool:
    return all(not job.notify for job in api._core.service.state.jobs.values())


def test_a_delivery_is_signed_over_its_raw_bytes(start: Callable[..., Any], receiver: Receiver) -> None:
    api = start(plan="pro", switches=Switches(**QUICK))
    register(api, receiver.url)
    id = submit(api, categories=["billing", "other"])
    until(lambda: api.deliveries)
    headers, body = receiver.got[0]
    assert headers["X-ClassifAIly-Signature"] == "sha256=" + hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    assert headers["Content-Type"] == "application/json"
    event = json.loads(body)
    assert list(event) == ["event", "id", "result", "type", "schema", "timestamp"]
    assert (event["event"], event["id"], event["result"]["label"]) == ("job.completed", id, "billing")
    assert api.get("/jobs", id=id).json()["result"] == event["result"]
    assert api.deliveries == [(receiver.url, "job.completed", id, 204, 1)]


def test_signatures_agree_with_the_contracts(start: Callable[..., Any]) -> None:
    from classifaily_connectors.sandbox.deliveries import signature

    exchange = json.loads((CONTRACT / "142_delivery_job_completed_multi.json").read_text("utf-8"))
    signed = signature(exchange["secret"], exchange["request"]["raw"].encode())
    assert signed == exchange["request"]["headers"]["X-ClassifAIly-Signature"]


@pytest.mark.parametrize(
    ("name", "switches"),
    [("145_delivery_batch_completed", {}), ("146_delivery_batch_completed_no_results", {"delivery_body": "ids"})],
)
def test_a_batch_sends_batch_completed_only(
    name: str, switches: dict[str, Any], start: Callable[..., Any], receiver: Receiver
) -> None:
    api = start(plan="pro", switches=Switches(**QUICK, **switches))
    register(api, receiver.url)
    id = api.batch("a", "b", **{"async": True}).json()["id"]
    until(lambda: settled(api))
    assert receiver.events() == [("batch.completed", id)]
    wanted = json.loads((CONTRACT / f"{name}.json").read_text("utf-8"))["request"]["json"]
    assert list(json.loads(receiver.got[0][1])) == list(wanted)


def test_batch_events_can_be_both(start: Callable[..., Any], receiver: Receiver) -> None:
    api = start(plan="pro", switches=Switches(**QUICK, batch_events="both"))
    register(api, receiver.url)
    id = api.batch("a", **{"async": True}).json()["id"]
    until(lambda: settled(api))
    assert receiver.events() == [("batch.completed", id), ("job.completed", id)]


@pytest.mark.parametrize(("body", "error"), [("full", {"code": "server_error", "message": "Boom."}), ("ids", None)])
def test_a_failed_job_sends_job_failed(body: Any, error: Any, start: Callable[..., Any], receiver: Receiver) -> None:
    api = start(plan="pro", switches=Switches(**QUICK, delivery_body=body))
    register(api, receiver.url, events=["job.failed"])
    api.script("bad", error="Boom.")
    submit(api, "good")
    id = submit(api, "bad")
    until(lambda: settled(api))
    assert receiver.events() == [("job.failed", id)]
    event = json.loads(receiver.got[0][1])
    assert event["result"] is None
    assert event.get("error") == error


def test_three_tries_and_no_more(start: Callable[..., Any], receiver: Receiver) -> None:
    api = start(plan="pro", switches=Switches(**QUICK))
    register(api, receiver.url)
    receiver.answers = [500, 302, 204]
    submit(api)
    until(lambda: settled(api))
    assert [(one.status, one.attempt) for one in api.deliveries] == [(500, 1), (302, 2), (204, 3)]
    assert len({body for _, body in receiver.got}) == 1
    receiver.answers = [500] * 4
    submit(api)
    until(lambda: settled(api))
    assert len(receiver.got) == 6
    assert len(receiver.answers) == 1


def test_a_slow_receiver_and_a_closed_port_count_as_failures(start: Callable[..., Any], receiver: Receiver) -> None:
    api = start(plan="pro", switches=Switches(**QUICK, delivery_timeout=0.05, delivery_tries=2))
    register(api, receiver.url)
    receiver.hold.clear()
    submit(api)
    until(lambda: settled(api))
    receiver.hold.set()
    assert [(one.status, one.attempt) for one in api.deliveries] == [(None, 1), (None, 2)]


def test_dropped_duplicated_and_late(start: Callable[..., Any], receiver: Receiver) -> None:
    api = start(plan="pro", switches=Switches(**QUICK))
    register(api, receiver.url)
    api.inject(Fault(kind="drop_webhook", event="job.completed"))
    dropped = submit(api)
    until(lambda: settled(api))
    assert receiver.got == []
    assert api.deliveries == [(receiver.url, "job.completed", dropped, None, 0)]

    api.inject(Fault(kind="duplicate_webhook"))
    twice = submit(api)
    until(lambda: settled(api))
    assert receiver.events() == [("job.completed", twice)] * 2
    assert receiver.got[0] == receiver.got[1]

    api.inject(Fault(kind="late_webhook", seconds=1.5))
    late = submit(api, "late")
    until(lambda: api._core.faults._armed[-1].hits)
    punctual = submit(api, "punctual")
    until(lambda: settled(api))
    assert receiver.events()[2:] == [("job.completed", punctual), ("job.completed", late)]


def test_a_delivery_waits_for_the_sandboxs_clock(start: Callable[..., Any], receiver: Receiver) -> None:
    clock = SandboxClock(frozen=True)
    api = start(plan="pro", switches=Switches(delivery_backoff=0.01, job_delay=3600), clock=clock)
    register(api, receiver.url)
    submit(api)
    time.sleep(0.1)
    assert receiver.got == []
    clock.advance(hours=1)
    until(lambda: receiver.got)


def test_php_bytes_and_the_other_header(start: Callable[..., Any], receiver: Receiver) -> None:
    switches = Switches(**QUICK, php_quirks=True, signature_header="X-Classifai-Signature")
    api = start(plan="pro", switches=switches)
    register(api, receiver.url)
    api.script("x", {"label": "règlement/avoir", "confidence": 1.0})
    submit(api, "x")
    until(lambda: settled(api))
    headers, body = receiver.got[0]
    assert b'{"label":"r\\u00e8glement\\/avoir","confidence":1}' in body
    assert headers["X-Classifai-Signature"].endswith(hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest())
    assert "X-ClassifAIly-Signature" not in headers


def test_sync_calls_fire_events_only_when_asked(start: Callable[..., Any], receiver: Receiver) -> None:
    quiet, loud = start(plan="pro"), start(plan="pro", switches=Switches(notify_sync=True))
    for api in (quiet, loud):
        register(api, receiver.url)
        api.classify()
    until(lambda: settled(loud))
    assert quiet.deliveries == []
    assert len(receiver.got) == 1


def test_nothing_leaves_this_machine(start: Callable[..., Any]) -> None:
    api = start(plan="pro", switches=Switches(**QUICK))
    register(api, "https://hooks.example.org/classifaily")
    id = submit(api)
    until(lambda: settled(api))
    assert api.deliveries == [("https://hooks.example.org/classifaily", "job.completed", id, None, 0)]


@pytest.mark.parametrize("url", ["http://hooks.example.org", "ftp://127.0.0.1", "hooks", "https://", "https://[", 7])
def test_endpoints_must_be_https(url: Any, start: Callable[..., Any]) -> None:
    assert start(plan="pro").post("/webhooks", {"url": url}).status_code == 400


def test_a_generated_secret_signs_and_is_never_listed(start: Callable[..., Any], receiver: Receiver) -> None:
    api = start(plan="pro", switches=Switches(**QUICK))
    secret = api.post("/webhooks", {"url": receiver.url}).json()["secret"]
    submit(api)
    until(lambda: receiver.got)
    headers, body = receiver.got[0]
    assert headers["X-ClassifAIly-Signature"].endswith(hmac.new(secret.encode(), body, hashlib.sha256).hexdigest())
    assert secret not in api.get("/webhooks").text
    assert secret not in repr(api._core.service.state)


def test_only_the_accounts_own_endpoints_are_told(start: Callable[..., Any], receiver: Receiver) -> None:
    api = start(plan="pro", switches=Switches(**QUICK))
    register(api, receiver.url)
    api.add_key("cai_live_other", plan="pro")
    api.client.headers["Authorization"] = "Bearer cai_live_other"
    submit(api)
    until(lambda: settled(api))
    assert receiver.got == []


def test_closing_does_not_wait_for_a_hanging_receiver(start: Callable[..., Any], receiver: Receiver) -> None:
    api = start(plan="pro", switches=Switches(**QUICK))
    register(api, receiver.url)
    receiver.hold.clear()
    submit(api)
    until(lambda: receiver.got)
    api.close()
    assert receiver.let_go == 0
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("classifaily-sandbox")]
