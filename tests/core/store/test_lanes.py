"""The ways into the inbox from an event loop: they keep what `put` keeps, and outlive what happens to a connection."""

from __future__ import annotations

import asyncio
import math
import os
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import sqlalchemy as sa

from classifaily_connectors.store import Arrival, Inbox
from classifaily_connectors.store.columns import Element, pack, register

if TYPE_CHECKING:
    from classifaily_connectors.store.lanes import Lane


def arrival(job_id: str, body: bytes = b"{}", event: str = "job.completed") -> Arrival:
    return Arrival("default", event, job_id, body[:32].ljust(32), 1e9, None, body)


@pytest.fixture
def inbox(url: str) -> Iterator[Inbox]:
    with closing(Inbox(url)) as inbox:
        yield inbox


async def through(lane: Lane, *batches: list[Arrival]) -> list[Any]:
    """What became of the batches, which are there to be taken from the beginning."""
    waiting, ended, outcomes = deque(batches), asyncio.Event(), list[Any]()

    def tell(size: int, outcome: Any, more: bool) -> None:
        outcomes.append((size, outcome))
        if not more:
            ended.set()

    lane.begin(lambda: waiting.popleft() if waiting else [], tell)
    await ended.wait()
    return outcomes


def test_a_lane_keeps_what_put_keeps(inbox: Inbox) -> None:
    batches = [
        [arrival("1"), arrival("2"), arrival("1")],
        [arrival("3")],
        [arrival("2"), arrival("3", b"other"), arrival("4")],
        [arrival("digest", b"\xff\x00", event=""), arrival("ü'\"\\{},NULL", b"")],
        [arrival(str(number)) for number in range(100, 500)],
    ]

    async def work() -> list[Any]:
        lane = inbox.lane()
        try:
            return await through(lane, *batches)
        finally:
            lane.close()

    outcomes = asyncio.run(work())
    assert outcomes[:4] == [
        (3, ["new", "new", "repeat"]),
        (1, ["new"]),
        (3, ["repeat", "conflict", "new"]),
        (2, ["dead", "new"]),
    ]
    assert outcomes[4:] == [(400, ["new"] * 400)]
    kept = {each.job_id: inbox.get(each.seq) for each in inbox.entries(limit=10)}
    assert {name: (each.state, each.repeats) for name, each in kept.items() if each} == {
        "1": ("ok", 1), "2": ("ok", 1), "3": ("conflict", 0), "4": ("ok", 0), "digest": ("dead", 0),
        "ü'\"\\{},NULL": ("ok", 0), "100": ("ok", 0), "101": ("ok", 0), "102": ("ok", 0),
    }  # fmt: skip
    assert kept["digest"]
    assert (kept["digest"].body, kept["digest"].received_at, kept["digest"].sent_at) == (b"\xff\x00", 1e9, None)


def test_a_batch_that_fails_is_told_so_and_the_next_is_kept(inbox: Inbox) -> None:
    """What the one asked for is undone, and the connection can be used again."""
    torn = arrival("2")._replace(digest=None)  # type: ignore[arg-type]  # no column takes that

    async def work() -> list[Any]:
        lane = inbox.lane()
        outcomes = await through(lane, [arrival("1")], [arrival("3"), torn], [arrival("3")])
        outcomes += await through(lane, [arrival("4")])
        lane.close()
        return outcomes

    first, failed, *later = asyncio.run(work())
    assert (first, later) == ((1, ["new"]), [(1, ["new"]), (1, ["new"])])
    assert failed[0] == 2
    assert isinstance(failed[1], Exception)
    assert [each.job_id for each in inbox.after(0)] == ["1", "3", "4"]


def test_a_connection_that_is_lost_while_idle_costs_no_batch(postgres: Callable[[], str]) -> None:
    with closing(Inbox(postgres())) as inbox:

        async def work() -> list[Any]:
            lane = inbox.lane()
            outcomes = await through(lane, [arrival("1")])
            with inbox._begin() as connection:
                others = "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity"
                connection.execute(sa.text(f"{others} WHERE datname = current_database() AND pid != pg_backend_pid()"))
            outcomes += await through(lane, [arrival("2")])
            lane.close()
            return outcomes

        assert asyncio.run(work()) == [(1, ["new"]), (1, ["new"])]


def test_a_loop_that_ends_leaves_its_lane_in_peace(inbox: Inbox) -> None:
    """Nobody is there to be told any more; what was asked for is done or not, and the lane can be closed."""

    async def work() -> Lane:
        lane = inbox.lane()
        batch = [arrival("1")]
        lane.begin(lambda: [batch.pop()] if batch else [], lambda *_: None)
        return lane

    asyncio.run(work()).close()
    assert inbox.put([arrival("1")])[0] in ("new", "repeat")


@pytest.mark.parametrize(
    ("element", "values"),
    [
        ("text", ["", "a", "ü€𝄞", "NULL", "{}", '"', "\\", ",", None]),
        ("bytea", [b"", b"\x00\xff", os.urandom(70_000), None]),
        ("float8", [0.0, -1.5, 1793607336.123456, math.inf, None]),
        ("text", [None]),
        ("text", []),
    ],
)
def test_postgresql_reads_a_packed_column(postgres: Callable[[], str], element: Element, values: list[Any]) -> None:
    register()
    with psycopg.connect(postgres().replace("+psycopg", "")) as connection:
        [[found]] = connection.execute(f"SELECT %b::{element}[]", [pack(element, values)])  # type: ignore[arg-type]
    assert found == values


def test_a_url_with_several_hosts_is_read_as_an_engines_is(postgres: Callable[[], str]) -> None:
    """The first of them answers nothing: the second is asked."""
    server, _, database = postgres().rpartition("/")
    user, _, address = server.rpartition("@")
    url = f"{user}@/{database}?host=127.0.0.1:9&host={address}"

    async def work(inbox: Inbox) -> list[Any]:
        lane = inbox.lane()
        outcomes = await through(lane, [arrival("1")])
        lane.close()
        return outcomes

    with closing(Inbox(url)) as inbox:
        assert asyncio.run(work(inbox)) == [(1, ["new"])]
