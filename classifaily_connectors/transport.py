"""The wire: the only file that imports httpx, and the two drivers that run operations over it.

The law of this file: no type of httpx leaves it, neither in a value nor in an error (httpx exceptions carry the
request, and the request carries the key); whatever happens on a socket becomes a `Reply` or a `Lost`.

Three faults of httpx 0.28 are cured here. One pool for many requests is scanned for each of them, and a cancelled
request can keep its slot for ever: so a client is a set of *lanes*, each a transport with one connection, and a lane
whose exchange did not end well is thrown away. And a connection used on both sides of a fork hands one process the
other's answer: so a child process starts anew, without closing what is its parent's.

Lanes are httpx transports, driven without `httpx.Client`: what a client adds (redirects, cookies, credentials from
URLs) must not happen to a request that carries our key, and costs a fifth of a call. Its one useful part, the proxies
of the environment, is decided once, as a client of ours speaks to one address only.
"""

from __future__ import annotations

import asyncio
import functools
import os
import platform
import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlencode

import httpx

from classifaily_connectors._version import __version__
from classifaily_connectors.concurrency import check_loop
from classifaily_connectors.connections import AsyncLanes, SyncLanes
from classifaily_connectors.errors import AuthenticationError, ClassifailyError, ConfigurationError
from classifaily_connectors.operations.effects import Lost, Reply, Sleep, name_of
from classifaily_connectors.proxies import Tunnel, proxy_for
from classifaily_connectors.telemetry import span

if TYPE_CHECKING:
    from classifaily_connectors.operations.effects import Answer, Operation, Send
    from classifaily_connectors.settings import Settings

T = TypeVar("T")
Raised = TypeVar("Raised", bound=BaseException)
Lane = TypeVar("Lane", httpx.HTTPTransport, httpx.AsyncHTTPTransport)

CONNECT_TIMEOUT, WRITE_TIMEOUT = 5.0, 30.0
KEEPALIVE = 4.0
"""Seconds, few: a kept connection that the server has just closed makes a billed request's outcome unknown."""

_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.LocalProtocolError,
)

_WORDS: dict[type[Exception], str] = {
    httpx.ConnectError: "the server hung up before there was a connection",
    httpx.ConnectTimeout: "nobody answered in time",
    httpx.ReadTimeout: "it did not come in time",
    TimeoutError: "it did not come in time",
    httpx.ReadError: "the connection broke",
    httpx.WriteTimeout: "the request could not be written in time",
    httpx.WriteError: "the connection broke",
    httpx.RemoteProtocolError: "the server broke off, or what it sent is no HTTP",
    httpx.DecodingError: "what came cannot be decompressed",
}
"""What httpx's errors mean; their own words may quote the request."""


_url = functools.lru_cache(maxsize=64)(httpx.URL)


@functools.cache
def _ssl_context() -> ssl.SSLContext:
    # 25 ms to build; one serves every connection of the process.
    try:
        return httpx.create_ssl_context()
    except OSError as error:  # also ssl.SSLError
        problem = error.strerror or type(error).__name__
    names = [name for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(name)]
    raise ConfigurationError(f"{' or '.join(names) or 'the certificates of this machine'} cannot be used: {problem}")


_LIMITS = httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=KEEPALIVE)


def _lane_maker(kind: Callable[..., Lane], base_url: str) -> Callable[[], Lane]:
    usable = True
    make = functools.partial(kind, verify=_ssl_context(), limits=_LIMITS)
    try:
        make = functools.partial(make, proxy=proxy_for(base_url))
        make()  # opens nothing; a proxy that cannot work shows here
    except (ValueError, ImportError, httpx.InvalidURL):
        usable = False  # raised below: httpx's own words may repeat the proxy's password
    if not usable:
        raise ConfigurationError("the proxy in HTTPS_PROXY, HTTP_PROXY or ALL_PROXY is no http(s) address we can use")
    return make


class _Wire:
    """What both drivers share: addresses, headers, and the reading of httpx's failures."""

    def __init__(self, settings: Settings, *, max_connections: int, application: str | None) -> None:
        if max_connections < 1:
            raise ConfigurationError(f"max_connections is {max_connections}; it must be at least 1")
        self.settings = settings
        self._size = max_connections
        self._application = application
        products = (f"classifaily-connectors/{__version__}", application, _platform())
        self._headers = httpx.Headers(
            {
                "Authorization": f"Bearer {settings.api_key.get_secret_value()}",  # httpx prints it as [secure]
                "Accept": "application/json",
                "Accept-Encoding": "gzip, deflate",
                "User-Agent": " ".join(filter(None, products)),
            }
        )
        self._json_headers = httpx.Headers([*self._headers.raw, (b"Content-Type", b"application/json")])
        self._closed = False
        self._proxy = proxy_for(settings.base_url)

    def _request(self, send: Send, trace: Callable[..., object] | None = None) -> httpx.Request:
        query = f"?{urlencode(send.params)}" if send.params else ""
        return httpx.Request(
            send.method,
            _url(f"{self.settings.base_url}{send.path}{query}"),
            headers=self._headers if send.body is None else self._json_headers,
            content=send.body,
            extensions={
                "timeout": {"connect": CONNECT_TIMEOUT, "write": WRITE_TIMEOUT, "read": send.timeout},
                **({"trace": trace} if trace else {}),
            },
        )

    def _tunnel(self) -> Tunnel | None:
        return Tunnel(self._proxy) if self._proxy is not None else None  # the direct way needs no following

    def for_loop(self) -> AsyncTransport:
        """The same address and key for an event loop: what a bulk run drives in a thread of its own."""
        self._check_open()
        return AsyncTransport(self.settings, max_connections=self._size, application=self._application)

    def _told(self, error: ClassifailyError) -> ClassifailyError:
        """`error` as it may leave: bare, and with what only the wire knows."""
        if isinstance(error, AuthenticationError):
            error.key_source = self.settings.key_source
        return _bare(error)

    def _check_open(self) -> None:
        if self._closed:
            raise ConfigurationError("this client is closed: make a new one, or use it inside its `with` block")


# A server that drips its answer must not hold us for ever: once the head is there, the body has `send.timeout` seconds.
# The head itself is bounded on an event loop; in blocking calls only each of its pieces is, as httpx offers no more.


def _read(response: httpx.Response, deadline: float) -> bytes:
    chunks: list[bytes] = []
    for chunk in response.iter_bytes():
        chunks.append(chunk)
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout("the answer drips")
    return b"".join(chunks)


def _lost(error: Exception, started: float, tunnel: Tunnel | None) -> Lost:
    elapsed, reason = time.monotonic() - started, _WORDS.get(type(error), type(error).__name__)
    if tunnel is not None and not tunnel.sent:
        words = str(error) if isinstance(error, httpx.ProxyError | httpx.ConnectError) else ""
        return Lost("not_sent", f"the proxy did not let the request through ({words or reason})", elapsed, tunnel.proxy)
    if isinstance(error, httpx.ConnectError) and str(error):
        reason = str(error)
    return Lost("not_sent" if isinstance(error, _NOT_SENT) else "unknown", reason, elapsed)


def _platform() -> str:
    return f"({platform.python_implementation()} {platform.python_version()}; {platform.system()})"


def _bare(error: Raised) -> Raised:
    """`error` without the frames and errors behind it: their locals hold inputs, and httpx's hold the key."""
    error.__context__ = None
    return error.with_traceback(None)


_inherited: list[object] = []


def _leave_to_parent(connections: object) -> None:
    # Collecting them would close them: kept until this process ends.
    _inherited.append(connections)


class SyncTransport(_Wire):
    """Runs operations with blocking calls; safe to share between threads and across a fork."""

    def __init__(self, settings: Settings, *, max_connections: int, application: str | None) -> None:
        super().__init__(settings, max_connections=max_connections, application=application)
        self._lock = threading.Lock()
        self._lanes: SyncLanes[httpx.HTTPTransport] | None = None
        self._pid = os.getpid()

    def run(self, operation: Operation[T]) -> T:
        """What `operation` returns; raises what it raises."""
        self._check_open()
        try:
            with span(name_of(operation), self.settings.base_url):
                return self._drive(operation)
        except ClassifailyError as error:
            raise self._told(error) from None

    def _drive(self, operation: Operation[T]) -> T:
        answer: Answer | None = None
        while True:
            try:
                step = operation.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result
            if isinstance(step, Sleep):
                time.sleep(step.seconds)
                answer = None
            else:
                answer = self._exchange(step)

    def _exchange(self, send: Send) -> Answer:
        started, tunnel = time.monotonic(), self._tunnel()
        try:
            with self._open_lanes().lane() as lane:
                started = time.monotonic()  # not before: waiting for a lane is not the server's fault
                response = lane.handle_request(self._request(send, None if tunnel is None else tunnel.note))
                try:
                    body = _read(response, time.monotonic() + send.timeout)
                finally:
                    response.close()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            return _lost(error, started, tunnel)
        except BaseException as error:  # noqa: BLE001  # an interrupt, or a bug of httpx
            raise _bare(error) from None
        return Reply(response.status_code, response.headers, body, time.monotonic() - started)

    def _open_lanes(self) -> SyncLanes[httpx.HTTPTransport]:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._lock = threading.Lock()  # another thread of the parent may have held it
            _leave_to_parent(self._lanes)
            self._lanes = None
        if self._lanes is None:
            with self._lock:
                if self._lanes is None:
                    self._lanes = SyncLanes(self._size, _lane_maker(httpx.HTTPTransport, self.settings.base_url))
        return self._lanes

    def close(self) -> None:
        """Close every connection, those in use when their call ends; closing twice is fine."""
        self._closed = True
        if self._lanes is not None and self._pid == os.getpid():
            self._lanes.close()


class AsyncTransport(_Wire):
    """Runs operations on the running event loop; every loop (and every process) gets connections of its own."""

    def __init__(self, settings: Settings, *, max_connections: int, application: str | None) -> None:
        super().__init__(settings, max_connections=max_connections, application=application)
        self._loops: dict[asyncio.AbstractEventLoop, AsyncLanes[httpx.AsyncHTTPTransport]] = {}
        self._pid = os.getpid()

    async def run(self, operation: Operation[T]) -> T:
        """What `operation` returns; raises what it raises."""
        self._check_open()
        check_loop("AsyncClassifailyClient")
        try:
            with span(name_of(operation), self.settings.base_url):
                return await self._drive(operation)
        except ClassifailyError as error:
            raise self._told(error) from None

    async def _drive(self, operation: Operation[T]) -> T:
        answer: Answer | None = None
        while True:
            try:
                step = operation.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result
            if isinstance(step, Sleep):
                await asyncio.sleep(step.seconds)
                answer = None
            else:
                answer = await self._exchange(step)

    async def _exchange(self, send: Send) -> Answer:
        started, tunnel = time.monotonic(), self._tunnel()
        try:
            lanes = await self._open_lanes()
            async with lanes.lane() as lane:
                started = time.monotonic()
                async with asyncio.timeout(CONNECT_TIMEOUT + WRITE_TIMEOUT + send.timeout) as clock:
                    response = await lane.handle_async_request(
                        self._request(send, None if tunnel is None else tunnel.anote)
                    )
                    clock.reschedule(asyncio.get_running_loop().time() + send.timeout)
                    try:
                        body = await response.aread()
                    finally:
                        await response.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, TimeoutError) as error:
            return _lost(error, started, tunnel)
        except BaseException as error:  # noqa: BLE001  # a cancellation, an interrupt, or a bug of httpx
            raise _bare(error) from None
        return Reply(response.status_code, response.headers, body, time.monotonic() - started)

    async def _open_lanes(self) -> AsyncLanes[httpx.AsyncHTTPTransport]:
        loop = asyncio.get_running_loop()
        if self._pid != os.getpid():
            _leave_to_parent(self._loops)
            self._loops, self._pid = {}, os.getpid()
        lanes = self._loops.get(loop)
        if lanes is None:
            for ended in [each for each in self._loops if each.is_closed()]:
                self._loops.pop(ended, None)
            make = _lane_maker(httpx.AsyncHTTPTransport, self.settings.base_url)
            lanes = self._loops[loop] = AsyncLanes(self._size, make)
            await lanes.open()
        return lanes

    async def close(self) -> None:
        """Close this loop's connections; those of other loops close with their loops."""
        self._closed = True
        if not self._loops:
            return
        lanes = self._loops.pop(asyncio.get_running_loop(), None)
        if lanes is not None and self._pid == os.getpid():
            await lanes.close()
