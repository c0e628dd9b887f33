"""The receiver: an ASGI app that keeps deliveries and tells waiters of them.

The law of this file: 204 is said after the commit and never before, to whatever was signed with our secret: the
first, the repeated, the unknown and the unreadable. Everything else is refused in a way that tells the sender whether
to come again. Paths, below where it is mounted or below /classifaily/webhooks:

    POST /  or /{source}            a delivery: 204, or 401, 404, 405, 413, 503
    GET  /feed  or /{source}/feed   what came after a number, for waiters elsewhere (`telling`)
    GET  /-/health                  200 when the store takes deliveries, else 503; why what was refused; readers' lag
    GET  /-/metrics                 counters in Prometheus' text format
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from classifaily_connectors.errors import ConfigurationError, InvalidRequestError, SignatureError, why
from classifaily_connectors.store.delivery import PROBE
from classifaily_connectors.webhooks.counters import Counters
from classifaily_connectors.webhooks.entrance import Entrance
from classifaily_connectors.webhooks.intake import Intake, UnavailableError, read
from classifaily_connectors.webhooks.refusals import Refusals
from classifaily_connectors.webhooks.secrets import DEFAULT, VARIABLE, Given, Secrets, source_name
from classifaily_connectors.webhooks.signature import SIGNATURE_HEADERS
from classifaily_connectors.webhooks.telling import Telling, may_ask

if TYPE_CHECKING:
    from classifaily_connectors.store.inbox import Inbox

logger = logging.getLogger("classifaily_connectors")

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

PATH = "/classifaily/webhooks"
MAX_BODY = 2**20
PATIENCE = 5.0
_JSON, _TEXT = b"application/json", b"text/plain; version=0.0.4; charset=utf-8"
_KEPT = 204
_DOUBT = 30.0
"""Seconds for which a commit, or a failed one, tells how the store is; then it is tried."""
_LATER = (b"retry-after", b"10")
_NAMES = {name: name.decode() for name in SIGNATURE_HEADERS}


class Receiver:
    """A plain ASGI app; serve it (`classifaily webhooks serve`), or mount it anywhere: best at /classifaily or above,
    because to a mount's own path some frameworks answer with a redirect, which no sender follows.

    `store` is a store URL or an open `Inbox`; the URL is opened with the first request, as a mounted app is not told
    of the start. `secrets` are those of the default source, or a mapping by source, or `Secrets`; without them, those
    of the environment. A body of more than `max_body` bytes is refused; `patience` is the seconds a commit may take
    before senders are told to come again. Deliveries are not executed: whoever waits reads the store, or the feed.

    Raises ConfigurationError when there is no secret, or one that could be guessed.
    """

    def __init__(
        self,
        store: str | os.PathLike[str] | Inbox,
        secrets: Secrets | Given | Mapping[str, Given] | None = None,
        *,
        max_body: int = MAX_BODY,
        patience: float = PATIENCE,
    ) -> None:
        self.secrets = secrets if isinstance(secrets, Secrets) else Secrets(secrets)
        if not self.secrets:
            raise ConfigurationError(f"no webhook secret: set {VARIABLE} to the one the endpoint was created with")
        self.counters = Counters()
        self._refusals = Refusals(self.counters)
        self._store = store
        self._max_body, self._patience = max_body, patience
        self._opening = threading.Lock()
        self._entrance: Entrance | None = None
        self._intake: Intake | None = None
        self._telling: Telling | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._probed, self._ill = float("-inf"), False

    def __repr__(self) -> str:
        return f"Receiver({self.secrets!r})"

    # --- the store ----------------------------------------------------------------------------

    def open(self) -> Inbox:
        """The inbox, opened if it was not yet. Raises ConfigurationError when it cannot be."""
        with self._opening:
            if isinstance(self._store, str | os.PathLike):
                from classifaily_connectors.store import Inbox

                self._store = Inbox(self._store)
                self._store.head()  # connects, so that the first delivery need not
            return self._store

    def close(self) -> None:
        """Close the store's connections; nothing is under way any more."""
        if self._entrance:
            self._entrance.close()
        if not isinstance(self._store, str | os.PathLike):
            self._store.close()

    def stop(self) -> None:
        """Answer those who wait for news at once, so that the server can end; from the event loop."""
        if self._telling:
            self._telling.stop()

    def _here(self) -> tuple[Intake, Telling]:
        # What belongs to an event loop is made anew on another one: after a fork, or in the next test.
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._intake is None or self._telling is None:
            if self._entrance:
                self._entrance.close()
            self._loop, self._entrance = loop, Entrance(self.open)
            self._intake = Intake(self._entrance, patience=self._patience)
            self._telling = Telling(self.open)
        return self._intake, self._telling

    # --- the app ------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})
        else:
            source, rest = _place(scope["path"], scope.get("root_path", ""))
            if rest == "":
                status = await self._deliver(source, scope, receive)
                if status:
                    await _answer(send, status)
            elif scope["method"] not in ("GET", "HEAD"):
                await _answer(send, 405, allow=b"GET")
            elif rest == "feed":
                await self._feed(source, scope, send)
            elif rest == "health":
                await self._health(send)
            elif rest == "metrics":
                await self._metrics(send)
            else:
                await _answer(send, 404)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await asyncio.to_thread(self.open)
        except (ConfigurationError, ImportError) as error:
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _deliver(self, source: str, scope: Scope, receive: Receive) -> int | None:
        """The status to answer; None when nobody is there any more."""
        self.counters.received += 1
        keys = self.secrets.keys(source)
        if keys is None:
            return self._refused("source", 404, known=", ".join(self.secrets.sources))
        if scope["method"] != "POST":
            return self._refused("method", 405)
        body = await self._body(receive)
        if not isinstance(body, bytes):
            return body
        signatures = [header for header in scope["headers"] if header[0] in _NAMES]
        values = [value for _name, value in signatures]
        try:
            keys.verify(body, values)
        except SignatureError:
            self._refusals.unsigned(keys, body, values)
            return 401
        for name, _value in signatures:
            self.counters.header[_NAMES[name]] += 1
        intake, telling = self._here()
        try:
            landed = await intake.keep(read(source, body, time.time()))
        except UnavailableError as error:
            return self._refused(error.reason, 503)
        self.counters.kept[landed] += 1
        if landed != "repeat":
            telling.wake()
        return _KEPT

    def _refused(self, reason: str, status: int, **details: Any) -> int:
        self._refusals.note(reason, **details)
        return status

    async def _body(self, receive: Receive) -> bytes | int | None:
        # Counted as it comes: a length may be promised wrongly, or not at all.
        parts: list[bytes] = []
        size = 0
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self._refused("cut", 0)
                return None
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            if size > self._max_body:
                return self._refused("size", 413, max_body=self._max_body)
            if not message.get("more_body"):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _feed(self, source: str, scope: Scope, send: Send) -> None:
        secrets = self.secrets.of(source)
        shown = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not may_ask(shown, secrets):
            await _refuse(send, 401, "unauthorized", "the feed needs the token of its source")
            return
        _intake, telling = self._here()
        try:
            answer = await telling.answer(source, scope["query_string"])
        except InvalidRequestError as error:
            await _refuse(send, 400, "invalid_request", error.message)
        except Exception as error:  # noqa: BLE001  # whatever the database raises
            await _refuse(send, 503, "store_down", f"the store does not answer ({why(error)})")
        else:
            self.counters.feed += 1
            await _answer(send, 200, _JSON, json.dumps(answer).encode())

    async def _health(self, send: Send) -> None:
        intake, _telling = self._here()
        status, lags = await self._state(intake)
        report = {
            "status": status,
            "waiting": intake.waiting,
            "last_commit": intake.last_commit,
            **self._refusals.told(),
            "readers": lags,
            "secrets": "a file cannot be read any more: the log says why" if self.secrets.problem else "ok",
        }
        await _answer(send, 200 if status == "ok" else 503, _JSON, json.dumps(report).encode())

    async def _state(self, intake: Intake) -> tuple[str, dict[str, int]]:
        """Whether the store takes deliveries, found out by writing to it where the last commit does not tell; and how
        many deliveries each consumer has before it. The page is public: where the store lies is for the log."""
        if intake.behind:
            return "behind", {}
        failure = intake.failure
        if failure and time.monotonic() - failure.at < _DOUBT:
            return "down: commits fail, the log says why", {}
        fresh = intake.last_commit is not None and time.time() - intake.last_commit < _DOUBT
        try:
            async with asyncio.timeout(self._patience):
                lags = await asyncio.to_thread(self._look, probe=not fresh)
        except Exception as error:  # noqa: BLE001  # whatever the database raises
            if not self._ill:
                logger.warning("the webhook store does not answer (%s): the health page says so", why(error))
            self._ill = True
            return "down: the store does not answer, the log says why", {}
        self._ill = False
        return "ok", lags

    def _look(self, *, probe: bool) -> dict[str, int]:
        inbox = self.open()
        if probe and time.monotonic() - self._probed >= _DOUBT:
            inbox.set_mark(PROBE, 0)
            self._probed = time.monotonic()
        return inbox.lags()

    async def _metrics(self, send: Send) -> None:
        intake, _telling = self._here()
        lags: dict[str, int] = {}
        with contextlib.suppress(Exception):  # a store that is down is the health page's to tell
            async with asyncio.timeout(self._patience):
                lags = await asyncio.to_thread(self._look, probe=False)
        text = self.counters.text(
            commits=intake.batches, waiting=intake.waiting, last_commit=intake.last_commit, lags=lags
        )
        await _answer(send, 200, _TEXT, text.encode())


@functools.lru_cache(maxsize=256)
def _place(path: str, root: str) -> tuple[str, str | None]:
    """The source a path names, and what follows it; what follows is None where there is nothing."""
    # A mounted app is told where (`root`), and its path may or may not say so too; the mount may end within ours.
    whole = path if path.startswith(root) else root + path
    _before, found, rest = whole.partition(PATH)
    ours = found and rest[:1] in ("", "/")
    path = (rest if ours else whole.removeprefix(root)).strip("/")
    first, _, rest = path.partition("/")
    if first == "-":
        return DEFAULT, rest if rest in ("health", "metrics") else None
    if path in ("", "feed"):
        return DEFAULT, path
    return source_name(first) or "", rest if rest in ("", "feed") else None


async def _answer(send: Send, status: int, kind: bytes = b"", body: bytes = b"", *, allow: bytes = b"POST") -> None:
    headers: list[tuple[bytes, bytes]] = []
    if status != _KEPT:
        if kind:
            headers.append((b"content-type", kind))
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers.append(_LATER)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            headers.append((b"allow", allow))
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _refuse(send: Send, status: int, code: str, message: str) -> None:
    # The API's own form of an error, so that our client reads it.
    await _answer(send, status, _JSON, json.dumps({"error": {"code": code, "message": message}}).encode())
