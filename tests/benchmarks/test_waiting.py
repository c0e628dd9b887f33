"""From the commit of a delivery to the wake-up of the one who waits for it, and what a thousand who wait cost.

The waiters are a process of their own. A wake-up is late by what the machine is late anyway, which is measured in the
same process at the same time, and by what is ours; only the latter is judged.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors.store import Arrival, Inbox
from classifaily_connectors.webhooks.waiting import POLL

PROGRAM = Path(__file__).with_name("waiters.py")
DELIVERIES, RATE = 600, 60
OURS = 0.025
"""Seconds that the way from the store to the waiter may take beyond the poll interval."""
SHARE = 0.05
"""Of a core, for a thousand waiters, at sixty deliveries a second."""
TURNS = {"sqlite": 1, "postgresql": 3}
"""How often a wake-up waits for its turn on the machine: ours; with PostgreSQL the server's twice besides."""


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/inbox.db"
    return str(request.getfixturevalue("postgres")())


def measure(store: str, waiters: int) -> dict[str, Any]:
    order = {"store": store, "waiters": waiters, "until": DELIVERIES}
    inbox = Inbox(store)
    acked: dict[str, float] = {}
    try:
        with subprocess.Popen(
            [sys.executable, str(PROGRAM), json.dumps(order)], stdout=subprocess.PIPE, text=True
        ) as there:
            assert there.stdout is not None
            assert there.stdout.readline() == "ready\n"
            began = time.monotonic()
            for number in range(DELIVERIES):
                time.sleep(max(0.0, began + number / RATE - time.monotonic()))
                body = b'{"event":"job.completed","id":"%d","result":{"label":"billing","confidence":0.97}}' % number
                inbox.put([Arrival("default", "job.completed", str(number), body[:32], time.time(), None, body)])
                acked[str(number)] = time.monotonic()
            found: dict[str, Any] = json.loads(there.stdout.readline())
    finally:
        inbox.close()
    waits = sorted(found["awake"][each] - moment for each, moment in acked.items())
    found |= {"p50": waits[len(waits) // 2], "p99": waits[int(len(waits) * 0.99)]}
    kind = store.partition(":")[0]
    milliseconds = {name: f"{found[name] * 1000:.1f} ms" for name in ("p50", "p99", "late")}
    print(f"\n{waiters:,} waiters, {kind}: {milliseconds}, {found['share']:.1%} of a core")
    return found


def test_a_thousand_waiters(store: str) -> None:
    found = measure(store, 1_000)
    kind = store.partition(":")[0].partition("+")[0]
    # PostgreSQL says when something has come; SQLite is looked at now and then.
    allowed = OURS if kind == "postgresql" else POLL + OURS
    assert found["p99"] - TURNS[kind] * found["late"] <= allowed
    assert found["share"] <= SHARE


def test_ten_thousand_waiters_hold(store: str) -> None:
    found = measure(store, 10_000)
    assert len(found["awake"]) == DELIVERIES
