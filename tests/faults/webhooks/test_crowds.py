"""Many at once: repeats, slow ones, and senders on both sides of a rotation."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from classifaily_connectors.store import Inbox
from classifaily_connectors.webhooks import sign

if TYPE_CHECKING:
    from conftest import Server, Yard

SECRET = "whsec-of-the-fault-tests"
OLD, NEW = "whsec-of-the-year-before", "whsec-of-the-year-after"
PATIENCE = 120.0


def request(body: bytes) -> bytes:
    head = f"POST /classifaily/webhooks HTTP/1.1\r\nHost: x\r\nX-ClassifAIly-Signature: {sign(body, SECRET)}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def post(port: int, raw: bytes, together: asyncio.Barrier) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await together.wait()
    writer.write(raw)
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


def test_400_identical_deliveries_to_two_receivers_are_one(yard: Yard, store: str) -> None:
    servers = [yard.serve(store) for _ in range(2)]
    raw = request(b'{"event":"job.completed","id":"84","result":{"label":"invoice","confidence":0.9}}')

    async def crowd() -> Counter[int]:
        together = asyncio.Barrier(400)
        posts = [post(servers[n % 2].port, raw, together) for n in range(400)]
        return Counter(await asyncio.gather(*posts))

    assert asyncio.run(crowd()) == {204: 400}
    inbox = Inbox(store)
    [delivery] = inbox.after(0)
    inbox.close()
    assert (delivery.job_id, delivery.state, delivery.repeats) == ("84", "ok", 399)


def one(server: Server, body: bytes) -> int:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(request(body))
        return int(connection.recv(1000).split()[1])


def test_slow_connections_are_gone_and_keep_nobody_out(yard: Yard) -> None:
    """300 that never end their headers and 150 that never end their bodies."""
    server = yard.serve(f"sqlite:///{yard.folder}/inbox.db")
    begun = b"POST /classifaily/webhooks HTTP/1.1\r\nHost: x\r\n"
    slow: list[socket.socket] = []
    for number in range(450):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
        connection.sendall(begun + (b"X-Y: 1\r\n" if number < 300 else b"Content-Length: 1000\r\n\r\n{"))
        slow.append(connection)
    assert one(server, b'{"event":"job.completed","id":"during"}') == 204
    for connection in slow:
        # Closed by the server; should it not be, `timeout` ends the wait with an error.
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
        connection.close()
    assert one(server, b'{"event":"job.completed","id":"after"}') == 204
    assert yard.kept(f"sqlite:///{yard.folder}/inbox.db") == {"during", "after"}


def test_a_trickle_does_not_hold_a_connection(yard: Yard) -> None:
    """The deadline is for all of the body, not for its next byte."""
    server = yard.serve(f"sqlite:///{yard.folder}/inbox.db")
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as connection:
        connection.sendall(b"POST /classifaily/webhooks HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        until = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < until:
                connection.sendall(b" ")
                time.sleep(0.05)
        except (BrokenPipeError, ConnectionResetError):
            return
    raise AssertionError("the connection was never closed")


def test_rotation_under_load_rejects_nothing_that_is_good(yard: Yard) -> None:
    secrets = yard.folder / "secrets.json"
    write(secrets, [OLD])
    store = f"sqlite:///{yard.folder}/inbox.db"
    server = yard.serve(store, secret=None, CLASSIFAILY_WEBHOOK_SECRETS_FILE=str(secrets))
    before = yard.send(server, 8_000, secret=OLD, connections=8)
    before.wait_for(500)
    write(secrets, [NEW, OLD])
    after = yard.send(server, 8_000, secret=NEW, connections=8, start=8_000)
    after.wait_for(500)
    assert before.finish()["statuses"] == {"204": 8_000}
    write(secrets, [NEW])
    assert after.finish()["statuses"] == {"204": 8_000}
    assert yard.send(server, 10, secret=OLD, connections=1, start=16_000).finish()["statuses"] == {"401": 10}
    assert len(yard.kept(store)) == 16_000


def write(secrets: Path, several: list[str]) -> None:
    new = secrets.with_suffix(".new")
    new.write_text(json.dumps({"default": several}))
    new.replace(secrets)


def test_a_graceful_stop_under_load_loses_nothing(yard: Yard, store: str) -> None:
    """SIGTERM: what was accepted is answered, what was answered is kept, and no request is cut off unanswered."""
    server = yard.serve(store)
    sender = yard.send(server, 20_000)
    sender.wait_for(1_000)
    assert server.terminate() == 0
    report = sender.finish()
    acked = {f"job-{each}" for each in report["acked"]}
    assert set(report["statuses"]) == {"204"}
    assert len(acked) >= 1_000
    assert acked - yard.kept(store) == set()
