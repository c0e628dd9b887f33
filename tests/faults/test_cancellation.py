"""Thousands of cancelled calls leave the client as usable as a new one.

With one pool of httpx 0.28 a cancelled request can keep its slot for ever (encode/httpcore#1093): after this churn
the pool says "10 active, 0 idle" and the next request never gets a connection.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from classifaily_connectors import AsyncClassifailyClient

CANCELLATIONS, WORKERS, CONNECTIONS = 2_000, 20, 10
KEY = "cai_live_0123456789abcdef0123456789abcdef01234567"


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.timeout(120)
async def test_churn(echo: str) -> None:
    cancelled = completed = 0
    patience = random.Random(1093)
    async with AsyncClassifailyClient(KEY, base_url=echo, max_connections=CONNECTIONS) as client:

        async def asked(text: str) -> str | None:
            return (await client.classify(text)).label

        async def work(name: int) -> None:
            nonlocal cancelled, completed
            turn = 0
            while cancelled < CANCELLATIONS:
                turn += 1
                text = f"{name}-{turn}"
                try:
                    async with asyncio.timeout(patience.uniform(0.0005, 0.03)):
                        assert await asked(text) == text, "an answer meant for a cancelled call"
                    completed += 1
                except TimeoutError:
                    cancelled += 1

        before = descriptors()
        await asyncio.gather(*(work(name) for name in range(WORKERS)))
        assert completed > 0, "every call was cancelled: the churn shows nothing"
        texts = [f"after-{place}" for place in range(5 * CONNECTIONS)]
        async with asyncio.timeout(30):
            assert await asyncio.gather(*map(asked, texts)) == texts
        assert descriptors() <= before + CONNECTIONS
    assert descriptors() <= before
