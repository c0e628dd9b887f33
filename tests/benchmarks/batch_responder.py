"""A server that answers every batch after a fixed delay, for next to no work: `python batch_responder.py SECONDS`.

Prints its port, then serves until its standard input closes.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import httptools
import uvloop

_ID = re.compile(rb'"id": ?"([^"]*)"')
_ITEM = b'{"id":"%s","status":"completed","result":{"label":"billing","confidence":0.97}}'
_USAGE = (
    b'{"period":"2026-11","plan":"enterprise","limits":{"requests":null,"batch_size":500},'
    b'"usage":{"requests":0,"remaining":null}}'
)


def response(raw: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(raw), raw)


class Responder(asyncio.Protocol):
    delay = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpRequestParser(self)
        self.body: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        body, self.body = b"".join(self.body), []
        if not body:
            self.transport.write(response(_USAGE))
            return
        results = b",".join(_ITEM % item_id for item_id in _ID.findall(body))
        answer = response(b'{"id":"batch_1","status":"completed","results":[%s]}' % results)
        asyncio.get_running_loop().call_later(self.delay, self.transport.write, answer)


async def main() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Responder, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(main())
