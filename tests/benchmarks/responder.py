"""A server that costs next to nothing: run as a process of its own, it answers every POST with the same bytes.

Prints its port, then serves until its standard input closes, so that it cannot outlive the benchmarks.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import httptools
import uvloop

CLASSIFIED = {
    "id": "84",
    "status": "completed",
    "type": "text",
    "result": {"label": "billing", "confidence": 0.97},
    "meta": {"model": "classifai-v1", "latency_ms": 218, "tokens": 124, "mode": "single"},
    "created_at": "2025-03-15T10:30:00Z",
}
TOPICS = ("harassment", "hate", "illicit", "self-harm", "sexual", "violence")
MODERATED = {
    "id": "modr-1",
    "model": "omni-moderation-latest",
    "results": [
        {
            "flagged": False,
            "categories": dict.fromkeys(TOPICS, False),
            "category_scores": dict.fromkeys(TOPICS, 0.01),
            "category_applied_input_types": {topic: ["text"] for topic in TOPICS},
        }
    ],
}


def response(body: object) -> bytes:
    raw = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(raw), raw)


ANSWERS = {b"/v1/classify": response(CLASSIFIED), b"/v1/moderations": response(MODERATED)}


class Responder(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self.answer = ANSWERS[url]

    def on_message_complete(self) -> None:
        self.transport.write(self.answer)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Responder, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
