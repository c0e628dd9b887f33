"""A sender of deliveries, in a process of its own: `python webhook_load.py '{"port": …, "count": …, "report": PATH}'`
says `ready`, then how many are acknowledged from time to time, and leaves what came of them in the report.

Each connection sends its next request when it has the last one's answer. Everything is made and signed before the
first is sent, so that what is measured is the receiver. With `rate`, requests are due at that many a second, and their
latency counts from when they were due.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, cast

import uvloop

from classifaily_connectors.webhooks import sign

TELL = 500


def request(path: str, secret: str, number: int, start: int) -> bytes:
    body = json.dumps(
        {
            "event": "job.completed",
            "id": f"job-{start + number}",
            "result": {"labels": [{"label": "invoice", "confidence": 0.97, "explanation": "It speaks of an invoice."}]},
            "type": "audio",
            "schema": None,
            "timestamp": "2026-11-02T08:15:36Z",
            "note": "x" * 110,
        }
    ).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nX-ClassifAIly-Signature: {sign(body, secret)}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


class Load:
    def __init__(self, order: dict[str, Any]) -> None:
        self.port, self.rate = order["port"], order.get("rate")
        path, start = order.get("path", "/classifaily/webhooks"), order.get("start", 0)
        secrets = order.get("secrets") or [order["secret"]]
        made = (request(path, secrets[n % len(secrets)], n, start) for n in range(order["count"]))
        self.waiting = deque((start + n, raw) for n, raw in enumerate(made))
        self.connections = order.get("connections", 32)
        self.statuses: Counter[int] = Counter()
        self.acked: list[int] = []
        self.latencies: list[float] = []
        self.open: set[Connection] = set()
        self.idle: deque[Connection] = deque()
        self.ended = asyncio.Event()

    async def run(self) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        for _ in range(self.connections):
            await loop.create_connection(lambda: Connection(self), "127.0.0.1", self.port)
        print("ready", flush=True)
        began = time.perf_counter()
        if self.rate:
            await self.pace(began)
        else:
            while self.idle and self.waiting:
                self.idle.popleft().next()
        await self.ended.wait()
        seconds = time.perf_counter() - began
        ordered = sorted(self.latencies) or [0.0]
        percentiles = {f"p{n}": ordered[min(len(ordered) - 1, len(ordered) * n // 100)] for n in (50, 99)}
        return {"seconds": seconds, "statuses": self.statuses, "acked": self.acked, **percentiles}

    async def pace(self, began: float) -> None:
        sent = 0
        while self.waiting and self.open:
            due = began + sent / self.rate
            pause = due - time.perf_counter()
            if pause > 0:
                await asyncio.sleep(pause)
            if self.idle:
                self.idle.popleft().next(due)
                sent += 1
            else:
                await asyncio.sleep(0)

    def done(self) -> None:
        if not self.open or (not self.waiting and len(self.idle) == len(self.open)):
            self.ended.set()


class Connection(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self.load = load
        self.number = -1
        self.began = 0.0
        self.seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.load.open.add(self)
        self.load.idle.append(self)

    def next(self, due: float | None = None) -> None:
        self.number, raw = self.load.waiting.popleft()
        self.began = due or time.perf_counter()
        self.transport.write(raw)

    def data_received(self, data: bytes) -> None:
        self.seen += data
        if not self.seen.endswith(b"\r\n\r\n"):  # no answer of a receiver to a delivery has a body
            return
        status, self.seen = int(self.seen[9:12]), b""
        load = self.load
        load.latencies.append(time.perf_counter() - self.began)
        load.statuses[status] += 1
        if status == 204:
            load.acked.append(self.number)
            if len(load.acked) % TELL == 0:
                print(len(load.acked), flush=True)
        if load.waiting and not load.rate:
            self.next()
        else:
            load.idle.append(self)
            load.done()

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.open.discard(self)
        self.load.done()


def main(order: dict[str, Any]) -> None:
    Path(order["report"]).write_text(json.dumps(uvloop.run(Load(order).run())))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
