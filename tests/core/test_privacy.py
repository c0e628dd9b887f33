"""The key and the input never show: not in an error, a traceback with its locals, a log record or a pickle.

Error reporters print the locals of every frame, orchestrators pickle errors, and somebody always turns DEBUG on.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import logging
import pickle
import signal
import socket
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

import classifaily_connectors as cc
from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient, RetryPolicy, errors
from classifaily_connectors.settings import Settings

if TYPE_CHECKING:
    from conftest import Canned

pytestmark = pytest.mark.timeout(60)

KEY = "cai_live_5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2"
TEXT = "My test result is positive, please tell nobody."
SECRETS = (KEY, TEXT, KEY[9:], "positive")
QUICK = RetryPolicy(base=0.0, cap=0.0, poll_interval=0.0, max_wait=0.0)

Call = Callable[[Any], Any]


def classify(client: Any) -> Any:
    return client.classify(TEXT, categories=["good", "bad"])


# --- errors -------------------------------------------------------------------------------------


class Failure:
    """What a call raised on either client, and everything that was logged on the way."""

    def __init__(self, kind: str, call: Call, url: str, **settings: Any) -> None:
        self.kind, self.call = kind, call
        self.settings = {"api_key": KEY, "base_url": url, "retry": QUICK, "timeout": 0.4, **settings}
        with pytest.raises(BaseException) as caught:  # noqa: PT011  # which one, is for the tests of its cause
            self.run() if kind == "sync" else asyncio.run(self.run_async())
        self.error = caught.value

    def run(self) -> None:
        with ClassifailyClient(**self.settings) as client:
            self.call(client)

    async def run_async(self) -> None:
        async with AsyncClassifailyClient(**self.settings) as client:
            await self.call(client)

    def told(self) -> str:
        """All that a printer of errors can print."""
        parts = [repr(self.error), str(self.error), repr(vars(self.error)), *self.frames(self.error)]
        with suppress(TypeError):  # what others raise may not pickle
            parts.append(pickle.dumps(self.error).decode("latin-1"))
        return "\n".join(parts)

    def frames(self, error: BaseException | None) -> Iterator[str]:
        """The traceback with locals, causes and contexts included, without the frames of this file."""
        while error is not None:
            printed = traceback.TracebackException.from_exception(error, capture_locals=True)
            for frame in printed.stack:
                if frame.filename != __file__:
                    yield f"{frame.filename}:{frame.lineno} {frame.name} {frame.locals}"
            error = error.__cause__ or error.__context__


@pytest.fixture(params=["sync", "async"])
def kind(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> str:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "asyncio", "classifaily_connectors"):
        caplog.set_level(logging.DEBUG, logger=name)
    return request.param


def check(failure: Failure, caplog: pytest.LogCaptureFixture, error: type[BaseException]) -> None:
    assert isinstance(failure.error, error)
    assert not secrets(failure.told())
    assert not secrets("\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records))


def secrets(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


ENVELOPE = {"error": {"code": "x", "message": "No."}}
ANSWERED: dict[str, tuple[int, Any, type[cc.ClassifailyError]]] = {
    "refused": (400, ENVELOPE, cc.InvalidRequestError),
    "unauthorized": (401, ENVELOPE, cc.AuthenticationError),
    "forbidden": (403, ENVELOPE, cc.APIError),
    "not found": (404, ENVELOPE, cc.NotFoundError),
    "redirected": (302, b"", cc.ConfigurationError),
    "over quota": (429, ENVELOPE, cc.QuotaExceededError),
    "failed": (500, {"error": {"code": "server_error", "message": "No."}}, cc.ServerError),
    "gateway": (502, b"<html>", cc.OutcomeUnknownError),
    "unreadable": (200, b"<html>", cc.OutcomeUnknownError),
    "no verdict": (200, {"id": "84", "result": {"label": 7.5}, "status": "failed"}, cc.JobFailedError),
    "queued for ever": (202, {"id": "84", "status": "pending"}, cc.JobTimeoutError),
}


@pytest.mark.parametrize("answered", ANSWERED)
def test_what_the_server_refused(answered: str, kind: str, canned: Canned, caplog: pytest.LogCaptureFixture) -> None:
    status, body, error = ANSWERED[answered]
    canned.say(status, body)
    check(Failure(kind, classify, canned.url), caplog, error)


REFUSED: dict[str, Call] = {
    "type": lambda client: client.classify(TEXT, type="pdf"),
    "no address": lambda client: client.classify(TEXT, type="image"),
    "bytes": lambda client: client.classify(TEXT.encode(), type="audio"),
    "no image": lambda client: client.classify(TEXT.encode(), type="image"),
    "half a pair": lambda client: client.classify(f"{TEXT}\ud800"),
    "top_n": lambda client: client.classify(TEXT, top_n=11),
    "threshold": lambda client: client.submit(TEXT, threshold=2),
    "schema": lambda client: client.classify(TEXT, schema=""),
    "categories": lambda client: client.classify(TEXT, categories=[]),
    "one input": lambda client: client.batch(TEXT),
    "one item": lambda client: client.batch({"input": TEXT}),
    "empty item": lambda client: client.batch([TEXT, ""]),
    "item field": lambda client: client.batch([{"input": TEXT, "note": TEXT}]),
    "item id": lambda client: client.batch([{"input": TEXT, "id": 1.5}]),
    "item twice": lambda client: client.batch([{"input": TEXT, "id": 1}, {"input": TEXT, "id": "1"}]),
}


@pytest.mark.parametrize("refused", REFUSED)
def test_what_was_refused_before_sending(
    refused: str, kind: str, canned: Canned, caplog: pytest.LogCaptureFixture
) -> None:
    check(Failure(kind, REFUSED[refused], canned.url), caplog, cc.InvalidRequestError)
    assert canned.asked == []


@contextmanager
def listening(serve: Callable[[socket.socket], object]) -> Iterator[str]:
    """The base URL of a server that treats every connection as `serve` does."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def accept() -> None:
            while not over.is_set():
                with suppress(TimeoutError), listener.accept()[0] as connection:
                    connection.settimeout(10)
                    serve(connection)
                    over.wait(10 if serve is deaf else 0)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        over.set()
        thread.join()


def deaf(connection: socket.socket) -> None:
    """Reads nothing and says nothing."""


def hang_up(connection: socket.socket) -> None:
    connection.recv(65536)


def cut(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id"')


def babble(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"Welcome!\r\n\r\n")


@pytest.mark.parametrize("serve", [deaf, hang_up, cut, babble])
def test_what_was_lost(serve: Any, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with listening(serve) as url:
        check(Failure(kind, classify, url), caplog, cc.OutcomeUnknownError)


def test_what_was_never_sent(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        check(Failure(kind, classify, url), caplog, cc.NotSentError)


class InterruptedTaskError(Exception):
    """What a signal handler raises: Airflow ends a task that takes too long so."""


@pytest.fixture
def alarm() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise InterruptedTaskError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("size", [1, 200_000], ids=["while waiting", "while sending"])
def test_what_was_interrupted(size: int, alarm: None, caplog: pytest.LogCaptureFixture) -> None:
    """The frames below ours hold the request: they are gone, whoever raised."""
    caplog.set_level(logging.DEBUG)
    with listening(deaf) as url:
        failure = Failure("sync", lambda client: client.classify(TEXT * size), url, timeout=30)
    check(failure, caplog, InterruptedTaskError)


@pytest.mark.parametrize("size", [1, 200_000], ids=["while waiting", "while sending"])
def test_what_was_cancelled(size: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with listening(deaf) as url:
        failure = Failure("async", lambda client: asyncio.wait_for(client.classify(TEXT * size), 0.3), url, timeout=30)
    check(failure, caplog, TimeoutError)


# --- what can be printed without an error ----------------------------------------------------------


def test_success_is_as_silent(kind: str, canned: Canned, caplog: pytest.LogCaptureFixture) -> None:
    canned.say(200, {"id": "84", "status": "completed", "result": {"label": "good", "confidence": 0.9}})
    seen: list[str] = []

    def look(client: Any) -> None:
        transport = client._transport
        seen.extend(map(str, (client, vars(client), vars(transport), transport.settings, client.jobs, client.schemas)))

    async def both(client: Any) -> None:
        await classify(client)
        look(client)

    settings: dict[str, Any] = {"api_key": KEY, "base_url": canned.url}
    if kind == "sync":
        with ClassifailyClient(**settings) as client:
            classify(client)
            look(client)
    else:

        async def run() -> None:
            async with AsyncClassifailyClient(**settings) as client:
                await both(client)

        asyncio.run(run())
    assert not secrets("\n".join(seen))
    assert any(record.name.startswith("httpcore") for record in caplog.records), "DEBUG was not on: nothing is shown"
    assert not secrets("\n".join(f"{record.getMessage()} {vars(record)}" for record in caplog.records))


def test_a_client_is_not_pickled() -> None:
    for client in (ClassifailyClient(KEY), AsyncClassifailyClient(KEY)):
        for work in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="cannot be pickled"):
                work(client)


def test_settings_are_copied_but_not_pickled() -> None:
    """A SecretStr is printed as asterisks and pickled in the clear."""
    with ClassifailyClient(KEY) as client:
        settings = client.settings
    assert copy.copy(settings) == copy.deepcopy(settings) == settings
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        for held in (settings, settings.api_key, {"settings": [settings]}):
            with pytest.raises(TypeError, match="cannot be pickled") as caught:
                pickle.dumps(held, protocol)
            assert not secrets(str(caught.value))


@pytest.mark.parametrize("key", [f"{KEY} {KEY}", f"{KEY}\n{KEY}", f"{KEY}ü", f"other_{KEY}"])
def test_a_key_that_is_refused_is_not_repeated(key: str, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """A key in the wrong form, or one we only warn of, is still somebody's key."""
    failure = Failure(kind, classify, "http://127.0.0.1:1/v1", api_key=key)
    check(failure, caplog, cc.ClassifailyError)


@pytest.mark.parametrize("url", [f"https://api.classifaily.com/v1?key={KEY}", f"https://{KEY}@host/v1", KEY])
def test_a_key_in_the_address_is_not_repeated(url: str) -> None:
    with pytest.raises(cc.ConfigurationError) as caught:
        Settings.resolve(KEY, url)
    assert not secrets(f"{caught.value} {caught.value!r} {vars(caught.value)}")


# --- pickles ---------------------------------------------------------------------------------------


def tree(kind: type[errors.ClassifailyError]) -> Iterator[type[errors.ClassifailyError]]:
    yield kind
    for each in kind.__subclasses__():
        if each.__module__.startswith("classifaily_connectors"):
            yield from tree(each)


VALUES: dict[str, Any] = {
    "status": 429,
    "code": "rate_limit_exceeded",
    "docs": "https://classifaily.com/docs",
    "outcome": "unknown",
    "limit": 100,
    "used": 99,
    "resets_at": datetime(2026, 12, 1, tzinfo=UTC),
    "retry_after": 1.5,
    "job_id": "84",
    "needed": 7,
    "available": 3,
}


def build(kind: type[errors.ClassifailyError]) -> errors.ClassifailyError:
    """An error of this class with every argument its class has."""
    named = [each.name for each in inspect.signature(kind).parameters.values() if each.kind is each.KEYWORD_ONLY]
    return kind("What happened.", **{name: VALUES.get(name, f"the {name}") for name in named})


@pytest.mark.parametrize("kind", dict.fromkeys(tree(errors.ClassifailyError)), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickle(kind: type[errors.ClassifailyError], protocol: int) -> None:
    """Orchestrators carry errors between processes; one that does not unpickle takes its cause with it."""
    error = build(kind)
    error.add_note("seen in row 7")
    again = pickle.loads(pickle.dumps(error, protocol))
    assert type(again) is kind
    assert (str(again), repr(again), again.args) == (str(error), repr(error), error.args)
    assert vars(again) == vars(error)
    assert (again.message, again.outcome) == ("What happened.", error.outcome)


@pytest.mark.parametrize("kind", dict.fromkeys(tree(errors.ClassifailyError)), ids=lambda kind: kind.__name__)
def test_every_error_can_be_copied(kind: type[errors.ClassifailyError]) -> None:
    error = build(kind)
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert type(again) is kind
        assert vars(again) == vars(error)


def test_an_error_leaves_the_request_behind(canned: Canned) -> None:
    """What httpx raises is pickled with the request, and the request with the key."""
    canned.say(401, ENVELOPE)
    error = Failure("sync", classify, canned.url).error
    assert error.__cause__ is None
    assert error.__context__ is None
    assert not secrets(pickle.dumps(error).decode("latin-1"))
