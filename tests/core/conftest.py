"""A server that answers as told and remembers what it was asked, and both clients behind one interface.

And, for what needs no server at all, a driver that runs an operation by hand.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient, RetryPolicy
from classifaily_connectors.operations.effects import Lost, Operation, Reply, Send, Sleep

# A busy machine is no defect.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
settings.load_profile("patient")

KEY = "cai_live_0123456789abcdef0123456789abcdef01234567"
QUICK = RetryPolicy(base=0.0, cap=0.0, poll_interval=0.01, max_wait=5.0)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CLASSIFAILY_")]:
            patch.delenv(name)
        yield


@dataclass
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Canned:
    """Answers each request with the next of `answers` (the last one again and again), or with what `respond` says."""

    url: str = ""
    answers: list[Answer] = field(default_factory=list)
    respond: Callable[[Asked], Answer] | None = None
    asked: list[Asked] = field(default_factory=list)

    def reset(self) -> None:
        self.answers, self.respond, self.asked = [], None, []

    def say(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> Canned:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.answers.append((status, {"Content-Type": "application/json", **(headers or {})}, raw))
        return self

    def answer(self, asked: Asked) -> Answer:
        self.asked.append(asked)
        if self.respond:
            return self.respond(asked)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture(scope="session")
def canned_server() -> Iterator[Canned]:
    """One server for every test: each start and stop costs more than the test."""
    state = Canned()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, answered, raw = state.answer(Asked(self.command, self.path, headers, body))
            self.send_response(status)
            for name, value in answered.items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def canned(canned_server: Canned) -> Canned:
    canned_server.reset()
    return canned_server


Call = Callable[[Any], Any]


class Caller:
    """Runs `call(client)` on the sync or the async client and gives what comes of it."""

    def __init__(self, kind: str, url: str, **settings: Any) -> None:
        self.kind = kind
        self.settings: dict[str, Any] = {"api_key": KEY, "base_url": url, "retry": QUICK, "timeout": 10, **settings}

    def __call__(self, call: Call) -> Any:
        if self.kind == "sync":
            with ClassifailyClient(**self.settings) as client:
                found = call(client)
                return list(found) if hasattr(found, "__next__") else found
        return asyncio.run(self._call(call))

    async def _call(self, call: Call) -> Any:
        async with AsyncClassifailyClient(**self.settings) as client:
            found = call(client)
            return [each async for each in found] if hasattr(found, "__anext__") else await found


@pytest.fixture(params=["sync", "async"])
def caller(request: pytest.FixtureRequest, canned: Canned) -> Caller:
    return Caller(request.param, canned.url)


@dataclass
class Driven:
    """What an operation asked for, and what came of it: `value`, or `error`."""

    sends: list[Send] = field(default_factory=list)
    sleeps: list[float] = field(default_factory=list)
    value: Any = None
    error: BaseException | None = None


Script = Iterable[Reply | Lost] | Callable[[Send], Reply | Lost]


def _drive(operation: Operation[Any], script: Script) -> Driven:
    answers = None if callable(script) else iter(script)
    driven = Driven()
    step: Send | Sleep = next(operation)
    try:
        while True:
            if isinstance(step, Sleep):
                driven.sleeps.append(step.seconds)
                step = operation.send(None)
            else:
                driven.sends.append(step)
                step = operation.send(next(answers) if answers else script(step))  # type: ignore[operator]
    except StopIteration as done:
        driven.value = done.value
    except Exception as error:  # noqa: BLE001
        driven.error = error
    return driven


@pytest.fixture(scope="session")
def drive() -> Callable[[Operation[Any], Script], Driven]:
    """Runs an operation by hand: each `Send` gets the script's next answer, a `Sleep` takes no time."""
    return _drive


@pytest.fixture(scope="session")
def reply() -> Callable[..., Reply]:
    """Makes an answer of the server: `reply(200, {...}, retry_after="5", elapsed=1.5)`."""

    def make(status: int = 200, body: Any = None, *, elapsed: float = 0.0, **headers: str) -> Reply:
        raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, raw, elapsed)

    return make
