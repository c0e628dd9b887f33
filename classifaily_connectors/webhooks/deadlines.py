"""uvicorn's HTTP protocol (which waits for ever for the rest of a request, and for any number of headers) with limits.

The law of this file: a request has five seconds from its first byte for its headers, and five more for its body,
also when it follows another one on the same connection; and what is not a body is short.
"""

from __future__ import annotations

import asyncio

try:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
except ImportError:
    raise ImportError("serving webhooks needs uvicorn: pip install 'classifaily-connectors[webhooks]'") from None

DEADLINE = 5.0
"""Seconds for the headers, and again for the body."""
MAX_HEAD = 2**16
"""Bytes of a request that are not its body: the headers, and what goes with chunks."""
_TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class DeadlineProtocol(HttpToolsProtocol):
    """A connection that holds nobody up."""

    deadline = DEADLINE
    _timer: asyncio.TimerHandle | None = None
    _incomplete = True
    _overhead = 0
    """Bytes of the request under way, less those of its body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The first request is awaited from now."""
        super().connection_made(transport)
        self._arm()

    def data_received(self, data: bytes) -> None:
        """A request that came in one piece needs no timer."""
        self._incomplete = True  # until the parser says otherwise: even a blank line must not hold the connection
        self._overhead += len(data)
        super().data_received(data)
        if not self._incomplete:
            self._disarm()
            return
        if self._overhead > MAX_HEAD:
            self._refuse()
        elif self._timer is None:
            self._arm()

    def on_message_begin(self) -> None:
        """One more, perhaps in the piece that ended the last one."""
        self._incomplete = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The body has its own deadline."""
        self._disarm()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """The receiver counts these."""
        self._overhead -= len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """All of it has come."""
        self._incomplete = False
        self._overhead = 0
        self._disarm()
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
        if self._answering():  # nothing more is read from it: the next request's time begins with the answer
            self._arm()
        else:
            self.transport.abort()

    def _answering(self) -> bool:
        """Whether the request before the one under way still waits for its answer."""
        if self.pipeline:
            return True
        return self._begun() and not self.cycle.more_body and not self.cycle.response_complete

    def _begun(self) -> bool:
        return bool(self.cycle)  # None before the first request

    def _refuse(self) -> None:
        self._disarm()
        if not self._begun() or self.cycle.response_complete:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
        else:
            self.transport.abort()
