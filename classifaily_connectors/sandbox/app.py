"""The sandbox as an ASGI app: bytes to `Call`, `Answer` to bytes, faults in between, admin routes beside.

The law of this file: a request's work is done, billed and stored under one lock before a byte of its answer is sent,
so that an answer which is lost was still paid for, as with the real service.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import BaseRoute, Mount, Route

from .clock import Clock, SandboxClock
from .deliveries import Deliverer
from .faults import Fault, FaultPlan
from .plans import plan_named
from .service import Service
from .state import RequestRecord, State
from .store import Store
from .switches import Switches
from .wire import DOCS, Answer, Call, encode

if TYPE_CHECKING:
    from pathlib import Path

    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

DEFAULT_KEY = "cai_live_" + "0" * 40
"""The key a sandbox accepts when it is given none."""
_BASE_PATHS = {"both": ("/v1", "/api/v1"), "v1": ("/v1",), "api_v1": ("/api/v1",)}

_JSON = "application/json"
_RST = struct.pack("ii", 1, 0)
_SLICE = 0.05
_KEPT = 100_000


class Core:
    """One sandbox behind its ASGI app: service, faults, deliveries, store and the lock that guards them."""

    def __init__(
        self,
        *,
        keys: Mapping[str, str],
        seed: int = 0,
        switches: Switches | None = None,
        clock: Clock | None = None,
        store: str | Path | None = None,
    ) -> None:
        self.lock = threading.RLock()
        self.clock: Clock = clock or SandboxClock()
        self.faults = FaultPlan()
        self.requests: deque[RequestRecord] = deque(maxlen=_KEPT)
        self.closing = threading.Event()
        state = State(seed)
        self._store = Store(store) if store is not None else None
        if self._store:
            self._store.load(state)
        self.service = Service(state, switches or Switches(), self.clock)
        self.deliverer = Deliverer(self.service, self.faults, self.lock, self.save)
        self.service.on_job = self.deliverer.watch
        with self.lock:
            for key, plan in keys.items():
                self.service.add_account(key, plan_named(plan))
            self.save()
            for job in state.jobs.values():
                if job.notify:
                    self.deliverer.watch(job)

    def save(self) -> None:
        """Store what changed. Called with the lock held."""
        if self._store:
            self._store.save(self.service.state)
        else:
            self.service.state.dirty.clear()

    def close(self) -> None:
        """End deliveries and close the store."""
        self.closing.set()
        self.deliverer.close()
        if self._store:
            self._store.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request below a base path."""
        send = self._dated(send)
        method, path = scope["method"], scope["path"].removeprefix(scope.get("root_path", "")) or "/"
        body = await _read(receive, self.service.switches.max_body)
        if body is None:
            return
        inputs = _inputs(body) if len(self.faults) else ()
        with self.lock:
            fault = self.faults.for_request(method, path, inputs)
        if fault and not fault.works_first:
            if fault.kind != "delay":
                self._log(method, path, _status_of(fault))
                await self._suffer(fault, None, scope, receive, send)
                return
            await self._sleep(fault.seconds)
            fault = None
        if len(body) > self.service.switches.max_body:
            self._log(method, path, 413)
            await _send(send, 413, b"", {})
            return
        call = Call(method, path, _query(scope), _headers(scope), body)
        with self.lock:
            answer = self.service.handle(call)
            self.save()
        if fault and fault.kind == "wrong_size_batch":
            _resize(answer, fault.size)
        # Before the answer, so that whoever has seen it finds it here.
        lost = fault is not None and fault.kind not in ("delay", "wrong_size_batch")
        self._log(method, path, _status_of(fault) if fault and lost else answer.status)
        await self._sleep(answer.delay)
        if fault:
            await self._suffer(fault, answer, scope, receive, send)
        if not lost:
            await self._answer(answer, send)

    def _dated(self, send: Send) -> Send:
        """`send`, with a `Date` that goes by this server's clock."""

        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                date = format_datetime(self.clock.now(), usegmt=True)
                message = {**message, "headers": [*message["headers"], (b"date", date.encode())]}
            await send(message)

        return dated

    async def _answer(self, answer: Answer, send: Send) -> None:
        if answer.body is None:
            await _send(send, answer.status, b"", {})
        else:
            content = encode(answer.body, php_quirks=self.service.switches.php_quirks)
            await _send(send, answer.status, content, {"Content-Type": _JSON})

    async def _suffer(self, fault: Fault, answer: Answer | None, scope: Scope, receive: Receive, send: Send) -> None:
        match fault.kind:
            case "delay":
                await self._sleep(fault.seconds)
            case "reset":
                await _reset(scope, receive, send)
            case "cut":
                body = encode(answer.body if answer else None)
                await _cut(body, answer.status if answer else 200, scope, receive, send)
            case "500":
                await self._answer(_error(500, "server_error", "Unexpected internal error."), send)
            case "html_502":
                page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
                await _send(send, 502, page, {"Content-Type": "text/html"})
            case "429":
                content = encode(_error(429, "rate_limit_exceeded", "Too many requests.").body)
                after = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
                await _send(send, 429, content, {"Content-Type": _JSON, **after})
            case "answer":
                text = fault.body if isinstance(fault.body, str) else json.dumps(fault.body)
                content = b"" if fault.body is None else text.encode()
                await _send(send, fault.status, content, {"Content-Type": _JSON, **fault.headers})
            case _:
                pass

    def _log(self, method: str, path: str, status: int | None) -> None:
        self.requests.append(RequestRecord(method, path, status))

    async def _sleep(self, seconds: float) -> None:
        # In slices, so that a sandbox which closes need not wait for its slowest answer.
        while seconds > 0 and not self.closing.is_set():
            await asyncio.sleep(min(_SLICE, seconds))
            seconds -= _SLICE


def create_app(
    *,
    plan: str = "starter",
    key: str = DEFAULT_KEY,
    seed: int = 0,
    switches: Switches | None = None,
    clock: Clock | None = None,
    store: str | Path | None = None,
    admin: bool = False,
) -> Starlette:
    """The sandbox as an ASGI app, to mount anywhere; its `state.core` holds the parts.

    Call `app.state.core.close()` when done: it ends the webhook threads and closes the store. Under a server that
    does not hand out its transports (see `server`), a `reset` fault can only close the connection.
    """
    core = Core(keys={key: plan}, seed=seed, switches=switches, clock=clock, store=store)
    return app_of(core, admin=admin)


def app_of(core: Core, *, admin: bool) -> Starlette:
    """The ASGI app around a core."""

    async def bill(_: Request) -> JSONResponse:
        with core.lock:
            return JSONResponse(core.service.state.bill()._asdict())

    routes: list[BaseRoute] = [Mount(base, app=core) for base in _BASE_PATHS[core.service.switches.base_paths]]
    routes.append(Route("/__sandbox/bill", bill, methods=["GET"]))
    if admin:
        from .admin import admin_routes

        routes += admin_routes(core)
    app = Starlette(routes=routes)
    app.state.core = core
    return app


def _error(status: int, code: str, message: str) -> Answer:
    return Answer(status, {"error": {"code": code, "message": message, "docs": DOCS}})


def _status_of(fault: Fault) -> int | None:
    return {"500": 500, "html_502": 502, "429": 429, "answer": fault.status}.get(fault.kind)


def _resize(answer: Answer, by: int) -> None:
    rows: list[Any] | None = answer.body.get("results") if answer.body else None
    if rows:
        answer.body["results"] = rows[:by] if by < 0 else rows + rows[-1:] * by


def _inputs(body: bytes) -> Sequence[str]:
    try:
        data: Any = json.loads(body)
    except ValueError:
        return ()
    if not isinstance(data, dict):
        return ()
    entry = cast("dict[str, Any]", data)
    items: Any = entry.get("items")
    rows: list[Any] = [entry, *items] if isinstance(items, list) else [entry]
    found = [cast("dict[str, Any]", row).get("input") for row in rows if isinstance(row, dict)]
    return [text for text in found if isinstance(text, str)]


def _query(scope: Scope) -> dict[str, str]:
    text = scope["query_string"].decode("latin-1")
    return dict(parse_qsl(text, keep_blank_values=True)) if text else {}


def _headers(scope: Scope) -> dict[str, str]:
    wanted = (b"authorization", b"content-type")
    return {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in wanted}


async def _read(receive: Receive, limit: int) -> bytes | None:
    """The body, or its start when it is longer than `limit`; None when the client left."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if len(body) <= limit:
            body += message.get("body", b"")
        if not message.get("more_body", False):
            return body


async def _send(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    pairs = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    if status != 204:  # noqa: PLR2004 (No Content has no length either)
        pairs.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


def _transport(scope: Scope) -> asyncio.Transport | None:
    return cast("asyncio.Transport | None", scope.get("state", {}).get("transport"))


async def _reset(scope: Scope, receive: Receive, send: Send) -> None:
    transport = _transport(scope)
    if transport is None:
        await _cut(b"", 200, scope, receive, send)
        return
    # Lingering for no time turns the close into a TCP RST: what a crashed proxy or a NAT timeout looks like.
    sock: socket.socket = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST)
    transport.abort()
    await _gone(receive)


async def _cut(body: bytes, status: int, scope: Scope, receive: Receive, send: Send) -> None:
    length = str(len(body) or 1).encode()
    head = [(b"content-type", _JSON.encode()), (b"content-length", length)]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    transport = _transport(scope)
    if transport is not None:
        transport.close()
        await _gone(receive)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
