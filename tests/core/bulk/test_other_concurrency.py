"""Where there is no event loop of asyncio, or threads are greenlets: it works, or is refused with the reason."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import trio

from classifaily_connectors import ConfigurationError, aclassify_table, aplan_table, asubmit_once

if TYPE_CHECKING:
    from conftest import Shop

CATEGORIES = ["billing", "technical"]
OPTIONS: dict[str, Any] = {"categories": CATEGORIES, "ledger": False}


async def _iterate(run: Any) -> None:
    async for _row in run:
        pass


DOORS: dict[str, Callable[[Any], Awaitable[Any]]] = {
    "usage": lambda client: client.usage(),
    "classify": lambda client: client.classify("invoice", categories=CATEGORIES),
    "plan": lambda client: client.plan(["invoice"], **OPTIONS),
    "classify_many": lambda client: _iterate(client.classify_many(["invoice"], **OPTIONS)),
    "classify_axes": lambda client: _iterate(client.classify_axes(["invoice"], {"a": CATEGORIES}, ledger=False)),
    "aclassify_table": lambda client: aclassify_table(client, [{"a": "invoice"}], text="a", **OPTIONS),
    "aplan_table": lambda client: aplan_table(client, [{"a": "invoice"}], text="a", **OPTIONS),
    "asubmit_once": lambda client: asubmit_once(client, "invoice", ledger="sqlite://", categories=CATEGORIES),
}


@pytest.mark.parametrize("door", DOORS)
def test_trio_is_refused_with_the_way_out(shop: Shop, door: str) -> None:
    async def ask() -> None:
        async with shop.async_client() as client:
            await DOORS[door](client)

    with pytest.raises(ConfigurationError, match=r"asyncio event loop.*trio.to_thread"):
        trio.run(ask)
    assert shop.paid() == 0


def test_that_way_out_works(shop: Shop) -> None:
    rows = trio.run(trio.to_thread.run_sync, lambda: shop.buy(["invoice 1", "invoice 2"]))
    assert [row.status for row in rows] == ["completed", "completed"]


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import sys, gevent
from classifaily_connectors import ClassifailyClient
key, url, ledger = sys.argv[1:]
def buy(number):
    with ClassifailyClient(key, base_url=url) as client:
        rows = [f"greenlet {number} invoice {n}" for n in range(60)]
        run = client.classify_many(rows, categories=["billing", "technical"], ledger=ledger, batch_size=20)
        return sum(row.status == "completed" for row in run)
both = [gevent.spawn(buy, number) for number in range(2)]
gevent.joinall(both)
for each in both: print(each.value if each.exception is None else f"{type(each.exception).__name__}: {each.exception}")
print(buy(3))
"""


@pytest.mark.slow
def test_greenlets_have_room_for_one_run_at_a_time(shop: Shop) -> None:
    command = [sys.executable, "-c", GREENLETS, shop.sandbox.key, shop.sandbox.base_url, shop.ledger_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    first, second, after = done.stdout.splitlines()
    assert (first, after) == ("60", "60")
    assert second.startswith("ConfigurationError: gevent has replaced the threads")
    assert shop.paid() == 120
