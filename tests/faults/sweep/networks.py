"""What breaks under a public call: the network, the store, or the table."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.faults.sweep.stage import PASSWORD

if TYPE_CHECKING:
    import pytest

    from tests.faults.conftest import Exchange
    from tests.faults.sweep.stage import Theatre

Act = Callable[["Exchange"], None]
PAGE = b"<html><body><h1>502 Bad Gateway</h1></body></html>"


# --- a network whose server is reached -----------------------------------------------------------


class Road:
    """Hands each request on to the API, or to the receiver, and brings the answer; or breaks on the way."""

    def __init__(self, theatre: Theatre) -> None:
        self._api = urlsplit(theatre.sandbox.base_url)
        self._receiver = urlsplit(theatre.receiver.url)

    def pass_on(self, exchange: Exchange) -> bytes:
        """The answer, head and body."""
        line, *fields = exchange.head.decode().split("\r\n")
        method, path, _ = line.split(" ")
        headers = dict(each.split(": ", 1) for each in fields)
        target = self._receiver if path.startswith("/classifaily/") else self._api
        connection = http.client.HTTPConnection(str(target.hostname), target.port, timeout=30)
        try:
            connection.request(method, path, exchange.body or None, headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        named = {name: value for name, value in answer.getheaders() if name.lower() not in _OF_CONNECTION}
        lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
        return f"HTTP/1.1 {answer.status} Said\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body

    def good(self, exchange: Exchange) -> None:
        exchange.sock.sendall(self.pass_on(exchange))

    def reset(self, exchange: Exchange) -> None:
        """The answer breaks off half-way."""
        answer = self.pass_on(exchange)
        exchange.sock.sendall(answer[: len(answer) // 2])
        exchange.reset()

    def cut(self, exchange: Exchange) -> None:
        """The body is shorter than was said."""
        exchange.sock.sendall(self.pass_on(exchange)[:-1])
        exchange.close()

    def empty(self, exchange: Exchange) -> None:
        """HTTP 200 with nothing in it."""
        self.pass_on(exchange)
        exchange.answer(200, b"")

    def huge_header(self, exchange: Exchange) -> None:
        self.pass_on(exchange)
        with suppress(OSError):  # they hang up before they have read it all
            exchange.answer(200, b"{}", X_Padding="x" * 1_000_000)
        exchange.close()

    def nonsense(self, exchange: Exchange) -> None:
        """What comes is no HTTP."""
        self.pass_on(exchange)
        exchange.sock.sendall(b"\x15\x03\x01\x00\x02\x02\x16 this is no HTTP\r\n\r\n")
        exchange.close()

    def gateway(self, exchange: Exchange) -> None:
        """A proxy's page in the API's place."""
        exchange.answer(502, PAGE, Content_Type="text/html")

    def redirects(self, exchange: Exchange) -> None:
        """To itself, for ever."""
        path = exchange.head.split(b" ")[1].decode()
        exchange.answer(302, b"", Location=path)

    def answers(self, status: int, body: Any, **headers: str) -> Act:
        """Something else than the API's answer; what is no refusal has been executed."""

        def act(exchange: Exchange) -> None:
            if status < 300:
                self.pass_on(exchange)
            exchange.answer(status, body, **headers)

        return act

    def says(self, text: bytes) -> Act:
        """These bytes, and no more."""

        def act(exchange: Exchange) -> None:
            self.pass_on(exchange)
            exchange.sock.sendall(text)
            exchange.close()

        return act


_OF_CONNECTION = ("content-length", "connection", "transfer-encoding")
ON_THE_WAY: dict[str, Callable[[Road], Act]] = {
    "reset half-way": lambda road: road.reset,
    "cut body": lambda road: road.cut,
    "empty 200": lambda road: road.empty,
    "huge header": lambda road: road.huge_header,
    "no HTTP": lambda road: road.nonsense,
    "HTML 502": lambda road: road.gateway,
    "redirect loop": lambda road: road.redirects,
}
"""What happens to a request on the way to the API or back."""
_OK = b"HTTP/1.1 200 OK\r\n"
_LIMIT = {"error": {"code": "rate_limit_exceeded", "message": "Monthly limit reached.", "limit": 9, "used": 9}}
ODD_ANSWERS: dict[str, Callable[[Road], Act]] = {
    "HTTP/9": lambda road: road.says(b"HTTP/9.9 777 What\r\n\r\n"),
    "negative length": lambda road: road.says(_OK + b"Content-Length: -5\r\n\r\n{}"),
    "broken chunks": lambda road: road.says(_OK + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n"),
    "broken gzip": lambda road: road.answers(200, b"\x1f\x8b\x08\x00nonsense", Content_Encoding="gzip"),
    "HTML 200": lambda road: road.answers(200, b"<html>the hotel's network</html>", Content_Type="text/html"),
    "null": lambda road: road.answers(200, b"null"),
    "a list": lambda road: road.answers(200, b"[1, [2], null]"),
    "a number": lambda road: road.answers(200, b"17"),
    "deep": lambda road: road.answers(200, b'{"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "no Unicode": lambda road: road.answers(200, b'{"id": "\xff\xfe"}'),
    "half a pair": lambda road: road.answers(200, b'{"id": "\\ud83d", "result": {"label": "\\ud83d"}}'),
    "endless redirect": lambda road: road.answers(307, b"", Location="/v1/elsewhere"),
    "401": lambda road: road.answers(401, {"error": "invalid key"}),
    "403": lambda road: road.answers(403, {"error": {"code": "plan_restriction", "message": "not in your plan"}}),
    "404": lambda road: road.answers(404, b"not found"),
    "405": lambda road: road.answers(405, b""),
    "407": lambda road: road.answers(407, b"proxy login"),
    "413": lambda road: road.answers(413, b""),
    "418": lambda road: road.answers(418, {"error": ["a", "list"]}),
    "429": lambda road: road.answers(429, _LIMIT),
    "500": lambda road: road.answers(500, {"error": 7}),
    "503": lambda road: road.answers(503, b"", Retry_After="never"),
}
"""What may come in the place of the answer: some of it can be read all the same."""


# --- a network in which no server is reached -----------------------------------------------------


@contextmanager
def answering(answer: bytes, before: bytes = b"") -> Iterator[int]:
    """The port of a server that says this to everybody, and hangs up; `before` is its word between two of theirs."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            with suppress(OSError), listener.accept()[0] as connection:
                connection.settimeout(5)
                connection.recv(65536)
                if before:
                    connection.sendall(before)
                    connection.recv(65536)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        listener.settimeout(0.05)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            thread.join()


@contextmanager
def refused(_patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@contextmanager
def unknown_host(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """DNS knows no such name."""
    look_up = socket.getaddrinfo

    def no_such_name(host: str | bytes | None, *rest: object, **options: object) -> object:
        if host in ("api.invalid", b"api.invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *rest, **options)  # type: ignore[arg-type]

    patch.setattr(socket, "getaddrinfo", no_such_name)
    yield "https://api.invalid"


@contextmanager
def cut_tls(_patch: pytest.MonkeyPatch) -> Iterator[str]:
    """The handshake ends in its first record."""
    with answering(b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03") as port:
        yield f"https://127.0.0.1:{port}"


@contextmanager
def no_tls(_patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Plain HTTP at a port that should speak TLS."""
    with answering(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as port:
        yield f"https://127.0.0.1:{port}"


@contextmanager
def proxy_refuses(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """The proxy wants another password than ours."""
    refusal = b'HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="x"\r\n'
    with answering(refusal + b"Content-Length: 0\r\n\r\n") as port:
        for name in ("HTTPS_PROXY", "https_proxy"):
            patch.setenv(name, f"http://user:{PASSWORD}@127.0.0.1:{port}")
        for name in ("NO_PROXY", "no_proxy"):
            patch.delenv(name, raising=False)
        yield "https://api.invalid"


NOBODY_THERE = {
    "refused port": refused,
    "DNS failure": unknown_host,
    "cut TLS": cut_tls,
    "no TLS": no_tls,
    "407 of a proxy": proxy_refuses,
}
"""Addresses at which the API is not reached: nothing is executed, so nothing is billed."""
