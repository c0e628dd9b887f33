"""A server that gives every text back as its label, a little late, so that a crossed answer shows.

Prints its port, then serves until its standard input closes, so that it cannot outlive the tests.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys

DELAY = 0.004
"""Seconds, at most: enough for requests to meet each other on the way."""


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            asked = json.loads(await reader.readexactly(int(length[1]) if length else 0))
            await asyncio.sleep(random.uniform(0, DELAY))
            answer = json.dumps({"id": "1", "status": "completed", "result": {"label": asked["input"]}}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        writer.close()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
