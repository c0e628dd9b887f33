"""The receiver as a server of its own.

The law of this file: a connection has five seconds for its headers and five more for its body, so that slow ones
cannot keep the others out; and whoever stops it is waited for until every delivery under way is kept and answered.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import threading
from typing import TYPE_CHECKING, Any

try:
    import uvicorn
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:
    raise ImportError("serving webhooks needs uvicorn: pip install 'classifaily-connectors[webhooks]'") from None

from classifaily_connectors.webhooks.receiver import PATH, Receiver

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

DEADLINE = 5.0
"""Seconds for the headers, and again for the body."""
_GRACE = 15
"""Seconds a stop waits for requests under way: more than a commit may take."""
_START = 30.0
_TURN = 50e-6
"""Seconds for which a thread may keep the interpreter from another one that wants it."""


def devote_process() -> None:
    """Suit a process that does nothing else, once it serves; never call this in somebody else's."""
    # What is loaded by now stays: no collection needs to look through it while deliveries wait.
    gc.collect()
    gc.freeze()
    # A commit that has ended waits for its turn to say so: by default for up to a hundred deliveries' work.
    sys.setswitchinterval(_TURN)


class DeadlineProtocol(HttpToolsProtocol):
    """uvicorn's protocol (which waits for ever for the rest of a request) with a deadline for each part of one."""

    deadline = DEADLINE
    _timer: asyncio.TimerHandle | None = None
    _incomplete = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request is awaited from now."""
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """A request that came in one piece needs no timer."""
        self._incomplete = True  # until the parser says otherwise: even a blank line must not hold the connection
        super().data_received(data)
        if self._incomplete and self._timer is None:
            self._arm()
        elif not self._incomplete:
            self._disarm()

    def on_headers_complete(self) -> None:
        """The body has its own deadline."""
        self._disarm()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """All of it has come."""
        self._incomplete = False
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is awaited any more."""
        self._disarm()
        super().connection_lost(exc)

    def _arm(self) -> None:
        self._timer = self.loop.call_later(self.deadline, self._expire)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._timer = None
        self.transport.abort()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, receiver: Receiver) -> None:
        super().__init__(config)
        self._receiver = receiver

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """First of all, those who wait for news get their answer: the server waits for them."""
        self._receiver.stop()
        await super().shutdown(sockets)


class Serving:
    """A receiver on a real socket, in a thread of its own; use it as a context manager, or `start` and `close` it.

    `port` 0 takes a free one. Raises OSError when the port is taken, ConfigurationError when the store cannot be
    opened.
    """

    def __init__(self, receiver: Receiver, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._receiver = receiver
        self._host, self._port = host, port
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def root_url(self) -> str:
        """The server's address."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}"

    @property
    def url(self) -> str:
        """Where the deliveries of the default source go; those of another one go to `url/{source}`."""
        return f"{self.root_url}{PATH}"

    def start(self) -> Self:
        """Serve; returns when the socket accepts."""
        self._receiver.open()
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.create_server((self._host, self._port), family=family, backlog=2048)
        self._port = listener.getsockname()[1]
        options: dict[str, Any] = {"log_config": None, "log_level": "warning", "access_log": False}
        config = uvicorn.Config(
            self._receiver,  # pyright: ignore[reportArgumentType]  # an ASGI app by its signature
            http=DeadlineProtocol,
            ws="none",
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_GRACE,
            **options,
        )
        server = self._server = _Server(config, self._receiver)
        self._thread = threading.Thread(target=server.run, args=([listener],), name="classifaily-webhooks", daemon=True)
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(_START / 0.005)):
            if server.started:
                return self
            if not self._thread.is_alive():
                break
            waited.wait(0.005)
        raise RuntimeError("the receiver did not start")

    def close(self) -> None:
        """Stop accepting, wait for what is under way, close the store; harmless when called again."""
        if self._server and self._thread:
            self._server.should_exit = True
            self._thread.join()
            self._server = self._thread = None
        self._receiver.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
