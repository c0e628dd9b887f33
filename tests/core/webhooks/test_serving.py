"""The receiver on its sockets: nobody is waited for beyond a deadline, and it listens wherever a proxy can reach it."""

from __future__ import annotations

import http.client
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from classifaily_connectors import ConfigurationError
from classifaily_connectors.webhooks import sign
from classifaily_connectors.webhooks.deadlines import MAX_HEAD, DeadlineProtocol
from classifaily_connectors.webhooks.receiver import PATH, Receiver
from classifaily_connectors.webhooks.serving import Serving, activated

SECRET = "whsec-of-the-tests"
EVENT = b'{"event":"job.completed","id":"84"}'
HEAD = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-ClassifAIly-Signature: {sign(EVENT, SECRET)}\r\n".encode()
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(EVENT) + EVENT


@pytest.fixture
def receiver(tmp_path: Path) -> Receiver:
    return Receiver(f"sqlite:///{tmp_path}/inbox.db", SECRET)


@pytest.fixture
def serving(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serving]:
    monkeypatch.setattr(DeadlineProtocol, "deadline", 0.3)
    with Serving(receiver, keep_alive=60.0) as serving:
        yield serving


def connect(serving: Serving) -> socket.socket:
    return socket.create_connection(("127.0.0.1", serving._port), timeout=30)


def rest(connection: socket.socket) -> bytes:
    """All that comes until the other side closes; an error when it does not."""
    told = b""
    try:
        while more := connection.recv(65536):
            told += more
    except ConnectionResetError:
        pass
    return told


def send_without_end(connection: socket.socket, data: bytes) -> None:
    sent = 0
    while sent < 2**26:
        sent += connection.send(data)


@pytest.mark.parametrize(
    "half",
    [
        b"",
        b"\r\n",
        b"POST",
        HEAD,
        HEAD + b"Content-Length: 100\r\n\r\n",
        HEAD + b"Content-Length: 100\r\n\r\n{",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
    ],
    ids=["nothing", "a blank line", "a word", "headers", "no body", "half a body", "half a chunk"],
)
@pytest.mark.parametrize("before", [0, 2])
def test_half_a_request_has_its_deadline_also_behind_whole_ones(before: int, half: bytes, serving: Serving) -> None:
    if before and not half.strip():
        return  # an idle connection, which is kept
    with connect(serving) as connection:
        connection.sendall(WHOLE * before + half)
        told = rest(connection)
    assert told.count(b"HTTP/1.1 204") == before


def test_a_request_in_two_pieces_on_a_used_connection(serving: Serving) -> None:
    with connect(serving) as connection:
        for _ in range(3):
            connection.sendall(WHOLE + WHOLE[:60])
            time.sleep(0.05)
            connection.sendall(WHOLE[60:])
            told = b""
            while told.count(b"HTTP/1.1 204") < 2:
                told += connection.recv(65536)


def test_headers_without_end_are_refused(serving: Serving) -> None:
    with connect(serving) as connection:
        connection.sendall(HEAD + b"X-Y: " + b"y" * (MAX_HEAD - len(HEAD) - 100))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_without_end(connection, b"y" * 1000)
    with connect(serving) as connection:
        connection.sendall(WHOLE)
        assert connection.recv(100).startswith(b"HTTP/1.1 204")


def test_what_goes_with_chunks_is_short_too(serving: Serving) -> None:
    with connect(serving) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_without_end(connection, b"X-Y: " + b"y" * 10_000 + b"\r\n")


def test_a_large_body_is_no_overhead(serving: Serving) -> None:
    body = b'{"event":"job.completed","id":"85","more":"' + b"x" * 900_000 + b'"}'
    connection = http.client.HTTPConnection("127.0.0.1", serving._port, timeout=30)
    with closing(connection):
        for chunked in (False, True):
            headers = {"X-ClassifAIly-Signature": sign(body, SECRET)}
            content = iter([body[:400_000], body[400_000:]]) if chunked else body
            connection.request("POST", PATH, content, headers, encode_chunked=chunked)
            response = connection.getresponse()
            response.read()
            assert response.status == 204


def test_an_idle_connection_is_kept_as_long_as_was_said(receiver: Receiver) -> None:
    with Serving(receiver, keep_alive=0.2) as serving, connect(serving) as connection:
        connection.sendall(WHOLE)
        assert rest(connection).startswith(b"HTTP/1.1 204")


def test_every_address_is_ipv6_and_ipv4(receiver: Receiver) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with Serving(receiver, host="::") as serving:
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, serving._port), timeout=30) as connection:
                connection.sendall(WHOLE)
                assert connection.recv(100).startswith(b"HTTP/1.1 204")


def test_a_unix_socket(receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "hooks.sock"
    with socket.socket(socket.AF_UNIX) as left:  # by a process that was killed
        left.bind(str(path))
    with Serving(receiver, uds=path) as serving:
        assert serving.url == f"unix:{path}:{PATH}"
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(30)
            connection.connect(str(path))
            connection.sendall(WHOLE)
            assert connection.recv(100).startswith(b"HTTP/1.1 204")
        with pytest.raises(OSError, match="in use"):
            Serving(receiver, uds=path).start()
    assert not path.exists()


def test_a_unix_socket_replaces_no_file(receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("kept")
    with pytest.raises(OSError, match="in use"):
        Serving(receiver, uds=path).start()
    assert path.read_text() == "kept"


def test_a_socket_that_listens_already(receiver: Receiver) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with Serving(receiver, fd=os.dup(listener.fileno())) as serving:
            assert serving.root_url == f"http://127.0.0.1:{port}"
            with connect(serving) as connection:
                connection.sendall(WHOLE)
                assert connection.recv(100).startswith(b"HTTP/1.1 204")


def test_a_descriptor_that_is_no_such_socket_is_refused(receiver: Receiver, tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(ConfigurationError, match="no socket to listen on"):
        Serving(receiver, fd=file.fileno()).start()
    with socket.socket() as idle, pytest.raises(ConfigurationError, match="does not listen"):
        Serving(receiver, fd=idle.fileno()).start()


def test_what_systemd_hands_over(monkeypatch: pytest.MonkeyPatch) -> None:
    assert activated() is None
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert activated() == 3
    monkeypatch.setenv("LISTEN_PID", "1")
    assert activated() is None
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    monkeypatch.setenv("LISTEN_FDS", "2")
    with pytest.raises(ConfigurationError, match="one socket"):
        activated()
