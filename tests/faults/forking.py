"""A client that was used, then a fork, then calls on both sides; prints what each side saw, as JSON.

A program of its own, because a test runner has threads and must not fork. Arguments: base URL, sync or async, calls.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable

from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient

KEY = "cai_live_0123456789abcdef0123456789abcdef01234567"


def in_turn(kind: str, url: str) -> Callable[[list[str]], list[str | None]]:
    """Classifies texts in turn with one client, made once."""
    if kind == "sync":
        client = ClassifailyClient(KEY, base_url=url)
        return lambda texts: [client.classify(text).label for text in texts]
    patient = AsyncClassifailyClient(KEY, base_url=url)
    runner = asyncio.Runner()

    async def labels(texts: list[str]) -> list[str | None]:
        return [(await patient.classify(text)).label for text in texts]

    def run(texts: list[str]) -> list[str | None]:
        # The loop is its process's own: a child that shared its parent's would share the selector too.
        nonlocal runner
        if os.getpid() != parent:
            runner = asyncio.Runner()
        return runner.run(labels(texts))

    return run


def crossed(classify: Callable[[list[str]], list[str | None]], side: str, calls: int) -> int:
    texts = [f"{side}-{place}" for place in range(calls)]
    return sum(text != label for text, label in zip(texts, classify(texts), strict=True))


if __name__ == "__main__":
    url, kind, calls = sys.argv[1], sys.argv[2], int(sys.argv[3])
    parent = os.getpid()
    classify = in_turn(kind, url)
    classify(["warm"])
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        seen = -1
        try:
            seen = crossed(classify, "child", calls)
        finally:
            os.write(writing, str(seen).encode())
            os._exit(0)
    result = {"parent": crossed(classify, "parent", calls), "child": int(os.read(reading, 16))}
    os.waitpid(child, 0)
    result["parent afterwards"] = crossed(classify, "afterwards", 3)
    print(json.dumps(result))
