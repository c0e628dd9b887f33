"""What one call costs in CPU: ours against raw httpx and against the openai SDK, the same size of POST, one server.

Ours checks the arguments, judges the answer and builds a typed result; raw httpx decodes JSON.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import httpx
import openai

from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient

if TYPE_CHECKING:
    from conftest import Measure, Race

CALLS, WARM_UP, ROUNDS = 300, 30, 9
GOAL, SLACK = 1.10, 0.05
"""Times raw httpx, in the middle round. The slack is for a machine whose two cores are shared: the middle of nine
rounds still moves by a few hundredths."""


def cpu(call: Callable[[], object]) -> Measure:
    """Microseconds of this process for one call."""
    for _ in range(WARM_UP):
        call()

    def measure() -> float:
        started = time.process_time()
        for _ in range(CALLS):
            call()
        return (time.process_time() - started) / CALLS * 1e6

    return measure


def test_sync(responder: str, body: dict[str, Any], key: str, race: type[Race]) -> None:
    with (
        httpx.Client(headers={"Authorization": f"Bearer {key}"}) as raw,
        ClassifailyClient(key, base_url=responder) as ours,
        openai.OpenAI(api_key=key, base_url=responder, max_retries=0) as sdk,
    ):

        def post() -> str:
            response = raw.post(f"{responder}/classify", json=body)
            response.raise_for_status()
            return response.json()["result"]["label"]

        contenders = {
            "httpx": cpu(post),
            "classifaily": cpu(lambda: ours.classify(body["input"], categories=body["categories"]).label),
            "openai moderations.create": cpu(lambda: sdk.moderations.create(input=body["input"]).results[0].flagged),
        }
        result = race("CPU µs per call, sync", contenders, rounds=ROUNDS)
    judge(result)


def test_async(responder: str, body: dict[str, Any], key: str, race: type[Race]) -> None:
    with asyncio.Runner() as runner:
        raw = httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"})
        ours = AsyncClassifailyClient(key, base_url=responder)
        sdk = openai.AsyncOpenAI(api_key=key, base_url=responder, max_retries=0)

        async def post() -> str:
            response = await raw.post(f"{responder}/classify", json=body)
            response.raise_for_status()
            return response.json()["result"]["label"]

        def in_turn(call: Callable[[], Awaitable[object]]) -> Measure:
            async def calls(count: int) -> float:
                started = time.process_time()
                for _ in range(count):
                    await call()
                return (time.process_time() - started) / count * 1e6

            runner.run(calls(WARM_UP))
            return lambda: runner.run(calls(CALLS))

        contenders = {
            "httpx": in_turn(post),
            "classifaily": in_turn(lambda: ours.classify(body["input"], categories=body["categories"])),
            "openai moderations.create": in_turn(lambda: sdk.moderations.create(input=body["input"])),
        }
        result = race("CPU µs per call, async, one in flight", contenders, rounds=ROUNDS)
        for client in (raw.aclose, ours.close, sdk.close):
            runner.run(client())
    judge(result)


def judge(result: Race) -> None:
    result.show("httpx")
    assert result.ratio("classifaily", "httpx").middle <= GOAL + SLACK
    assert result.ratio("openai moderations.create", "classifaily").middle > 1.5, "a client slower than the SDK's"
