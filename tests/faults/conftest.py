"""A server that counts what it executed and then breaks as told, byte by byte; and both clients behind one call.

The law of the server: a request counts as executed once it has been read whole, whatever becomes of its answer. That
is what a bill counts too.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient, RetryPolicy

KEY = "cai_live_0123456789abcdef0123456789abcdef01234567"
QUICK = RetryPolicy(base=0.0, cap=0.0)
GOOD = {"id": "84", "status": "completed", "type": "text", "result": {"label": "billing", "confidence": 0.97}}


class Exchange:
    """One request that was executed, and the socket its answer is owed on."""

    def __init__(self, sock: socket.socket, head: bytes, body: bytes, over: threading.Event) -> None:
        self.sock, self.head, self.body = sock, head, body
        self.over = over
        """Set when the test has ended: wait on it, never sleep."""

    def answer(self, status: int = 200, body: Any = GOOD, **headers: str) -> None:
        self.sock.sendall(self.response(status, body, **headers))

    @staticmethod
    def response(status: int = 200, body: Any = GOOD, **headers: str) -> bytes:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        fields = {"Content-Type": "application/json", "Content-Length": str(len(raw))}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode() + raw

    def reset(self) -> None:
        """RST, not a polite close."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        self.sock.close()


Act = Callable[[Exchange], None]


class FaultServer:
    """Ends each executed request with the next of `acts` (the last one again and again)."""

    def __init__(self) -> None:
        self.acts: list[Act] = [Exchange.answer]
        self.executed: list[bytes] = []
        self.connections = 0
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", 0))  # connections are refused until `listen`
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/v1"

    def listen(self) -> None:
        self._listener.listen(64)
        self._start(self._accept)

    def stop(self) -> None:
        self._over.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes `accept`
        self._listener.close()
        while self._threads:
            self._threads.pop().join()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.settimeout(0.05)
                self.connections += 1
                self._start(self._serve, sock)

    def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(ConnectionError):
            while sock.fileno() >= 0 and (request := self._read(sock)):
                with self._lock:
                    self.executed.append(request[1])
                    act = self.acts.pop(0) if len(self.acts) > 1 else self.acts[0]
                act(Exchange(sock, *request, self._over))

    def _read(self, sock: socket.socket) -> tuple[bytes, bytes] | None:
        data = b""
        while not self._over.is_set():
            head, blank, body = data.partition(b"\r\n\r\n")
            if blank and len(body) == _length(head):
                return head, body
            try:
                data += (chunk := sock.recv(65536))
            except TimeoutError:
                continue
            if not chunk:
                return None
        return None


def _length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.split(b"\r\n"))
    return next((int(value) for name, _, value in lines if name.lower() == b"content-length"), 0)


@pytest.fixture
def silent() -> Iterator[FaultServer]:
    """A fault server that refuses connections until told to listen."""
    server = FaultServer()
    yield server
    server.stop()


@pytest.fixture
def server(silent: FaultServer) -> FaultServer:
    silent.listen()
    return silent


Call = Callable[[Any], Any]


class Caller:
    """Runs each of `calls` in turn on one client and gives what the last one gave."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __call__(self, url: str, *calls: Call, **settings: Any) -> Any:
        settings = {"api_key": KEY, "base_url": url, "retry": QUICK, "timeout": 0.5, **settings}
        if self.kind == "async":
            return asyncio.run(self._async(calls, settings))
        with ClassifailyClient(**settings) as client:
            return [call(client) for call in calls][-1]

    def failing(self, call: Call, error: type[Exception]) -> Call:
        """`call`, which must raise `error`."""

        def failed(client: Any) -> None:
            with pytest.raises(error):
                call(client)

        async def failed_later(client: Any) -> None:
            with pytest.raises(error):
                await call(client)

        return failed if self.kind == "sync" else failed_later

    @staticmethod
    async def _async(calls: tuple[Call, ...], settings: dict[str, Any]) -> Any:
        async with AsyncClassifailyClient(**settings) as client:
            found = None
            for call in calls:
                found = call(client)
                found = await found if inspect.isawaitable(found) else found
            return found


@pytest.fixture(params=["sync", "async"])
def caller(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


@pytest.fixture(scope="session")
def echo() -> Iterator[str]:
    """The base URL of a server, in a process of its own, whose verdict on a text is that text."""
    command = [sys.executable, str(Path(__file__).with_name("echo.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.communicate(timeout=10)
