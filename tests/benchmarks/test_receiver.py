"""Durable deliveries per second, and how long one takes, against an endpoint that does nothing in the same server.

The sender and the two receivers are processes of their own. The receivers run as services do: from the first pair to
the last. Each pair is measured one after the other, and the pairs in turn.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

if TYPE_CHECKING:
    from conftest import Race

SECRET = "whsec-of-the-benchmarks"
RECEIVING = Path(__file__).with_name("receiving.py")
LOAD = Path(__file__).parents[1] / "webhook_load.py"
DELIVERIES, ROUNDS = 10_000, 15
GOALS = {"sqlite": 0.35, "postgresql": 0.25}
RATE, SLOWER, PACED_ROUNDS = 1_000, 4.0, 9
LOG_FILES = 16

Send = Callable[..., dict[str, Any]]


@pytest.fixture(params=["sqlite", "postgresql"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def send(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Send]:
    """Sends to one of the receivers: `send("durable", rate=…)`, or `send("no-op")`."""
    if kind == "sqlite":
        store = f"sqlite:///{tmp_path}/inbox.db"
    else:
        store = str(request.getfixturevalue("postgres")())
        _grow_log(store)
    starts = itertools.count(step=DELIVERIES)
    with _receiver("none") as no_op, _receiver(store) as durable:
        ports = {"no-op": no_op, "durable": durable}

        def send(contender: str, count: int = DELIVERIES, **order: Any) -> dict[str, Any]:
            report = tmp_path / "report.json"
            given = {"port": ports[contender], "secret": SECRET, "count": count, "report": str(report)}
            order = {**given, "start": next(starts), "connections": 32, **order}
            subprocess.run([sys.executable, str(LOAD), json.dumps(order)], check=True, stdout=subprocess.DEVNULL)
            found = json.loads(report.read_text())
            assert found["statuses"] == {"204": count}
            return found  # type: ignore[no-any-return]

        yield send


def _grow_log(store: str) -> None:
    """A database that has run for a while has files of its log to use again; a new one makes each as it goes, and
    everyone waits for that. SQLite's is there after the first pair."""
    with psycopg.connect(store.replace("+psycopg", ""), autocommit=True) as connection:
        for _ in range(LOG_FILES):
            connection.execute("SELECT pg_logical_emit_message(false, '', ''), pg_switch_wal()")
        connection.execute("CHECKPOINT")


@contextlib.contextmanager
def _receiver(store: str) -> Iterator[int]:
    """The port of one."""
    command = [sys.executable, str(RECEIVING), store]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
        process.communicate(timeout=60)


def test_durable_deliveries_per_second(kind: str, send: Send, race: type[Race]) -> None:
    def rate(contender: str) -> float:
        return DELIVERIES / send(contender)["seconds"]  # type: ignore[no-any-return]

    contenders = {name: functools.partial(rate, name) for name in ("no-op", "durable")}
    result = race(f"Deliveries per second, {kind}, 32 connections", contenders, rounds=ROUNDS)
    result.show("no-op")
    assert result.ratio("durable", "no-op").middle >= GOALS[kind]


def test_latency_at_a_thousand_a_second(kind: str, send: Send, race: type[Race]) -> None:
    def p99(contender: str) -> float:
        return send(contender, 4 * RATE, rate=RATE)["p99"] * 1000  # type: ignore[no-any-return]

    contenders = {name: functools.partial(p99, name) for name in ("no-op", "durable")}
    result = race(f"p99 in ms at {RATE} a second, {kind}", contenders, rounds=PACED_ROUNDS)
    result.show("no-op", ".1f")
    assert result.ratio("durable", "no-op").middle <= SLOWER
