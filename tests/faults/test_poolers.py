"""Behind a pooler, which gives each transaction another connection: ledger, inbox, a receiver's lane, and waiting."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from classifaily_connectors import ClassifailyClient, StoreError
from classifaily_connectors.sandbox import Sandbox
from classifaily_connectors.store import Arrival, Inbox, Ledger
from classifaily_connectors.webhooks.readers import StoreReader

pytestmark = pytest.mark.slow

MODES = [
    ("transaction", {}),
    ("session", {}),
    ("transaction", {"ignore_startup_parameters": "options"}),
    ("statement-like", {"pool_mode": "transaction", "server_reset_query_always": "1", "server_idle_timeout": "1"}),
]


@pytest.fixture(params=MODES, ids=lambda each: "+".join([each[0], *each[1]]))
def url(request: pytest.FixtureRequest, poolers: Callable[..., str]) -> str:
    mode, settings = request.param
    settings = dict(settings)
    return poolers(settings.pop("pool_mode", mode), **settings)


def arrival(job: str) -> Arrival:
    return Arrival("default", "job.completed", job, job.encode(), 1.0, None, b"{}")


def test_rows_are_bought_once(url: str) -> None:
    rows = [f"row {number} was charged" for number in range(200)]
    with Sandbox(plan="pro") as sandbox, ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        for _ in range(2):
            run = client.classify_many(rows, categories=["billing", "technical"], ledger=url, batch_size=20)
            assert {row.status for row in run} == {"completed"}
        assert sandbox.bill().charged == 200
    with Ledger(url) as ledger:
        assert ledger.stats().done == 200


def test_claims_have_one_winner_among_many(url: str) -> None:
    keys = [bytes([number]) * 32 for number in range(40)]

    def claim(_: int) -> set[bytes]:
        with Ledger(url) as ledger:
            return ledger.claim(ledger.start_run(), keys)

    with ThreadPoolExecutor(6) as threads:
        won = list(threads.map(claim, range(6)))
    assert sorted(key for each in won for key in each) == keys


def test_deliveries_get_in_by_every_way_and_are_numbered_in_order(url: str) -> None:
    with Inbox(url) as inbox:
        assert inbox.put([arrival("one"), arrival("one")]) == ["new", "repeat"]

        async def through_a_lane() -> object:
            lane, told = inbox.lane(), asyncio.get_running_loop().create_future()
            batches = [[arrival("two"), arrival("one")], []]
            lane.begin(lambda: batches.pop(0), lambda _size, outcome, _more: told.set_result(outcome))
            outcome = await told
            lane.close()
            return outcome

        assert asyncio.run(through_a_lane()) == ["new", "repeat"]
        assert inbox.redrive(inbox.find("default", ["one"])["one"].seq)
        assert [each.job_id for each in inbox.after(0)] == ["two", "one"]


def test_who_waits_polls_and_it_is_said_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "classifaily_connectors")

    async def wait() -> list[str]:
        reader = StoreReader(url, "default", poll=0.05, owner="test")
        await reader.open()
        seq = await reader.head()
        with Inbox(url) as inbox:
            timer = threading.Timer(0.3, inbox.put, [[arrival("awaited")]])
            timer.start()
            found: list[str] = []
            while not found:
                await reader.open()
                found = [each.job_id for each in await reader.news(seq)]
            timer.join()
        await reader.close()
        return found

    assert asyncio.run(asyncio.wait_for(wait(), 30)) == ["awaited"]
    assert sum("pooler" in record.message for record in caplog.records) == 1


def test_a_tenants_schema_holds_behind_a_pooler_that_drops_options(poolers: Callable[..., str]) -> None:
    import psycopg

    url = poolers("transaction", ignore_startup_parameters="options")
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True, prepare_threshold=None) as connection:
        for tenant in ("a", "b"):
            connection.execute(f"CREATE SCHEMA tenant_{tenant}")  # type: ignore[arg-type]
    tenants = [
        f"{url}?options=-c%20search_path%3Dtenant_{tenant}%20-c%20statement_timeout%3D50s" for tenant in ("a", "b")
    ]
    with Ledger(tenants[0]) as ledger, Inbox(tenants[0]) as inbox:
        ledger.claim(ledger.start_run(), [b"k" * 32])
        assert inbox.put([arrival("one")]) == ["new"]
        identity = ledger.identity
    with Ledger(tenants[1]) as ledger, Inbox(tenants[1]) as inbox:
        assert (ledger.stats().open, inbox.head()) == (0, 0)
        assert ledger.identity != identity

        async def through_a_lane() -> object:
            lane, told = inbox.lane(), asyncio.get_running_loop().create_future()
            batches = [[arrival("two")], []]
            lane.begin(lambda: batches.pop(0), lambda _size, outcome, _more: told.set_result(outcome))
            outcome = await told
            lane.close()
            return outcome

        assert asyncio.run(through_a_lane()) == ["new"]
        assert [each.job_id for each in inbox.after(0)] == ["two"]


def test_an_option_that_nobody_knows_is_an_error_of_ours(poolers: Callable[..., str]) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Ledger(f"{poolers('transaction')}?options=-c%20no_such_setting%3D1")
