"""`kill -9` at any moment: paid = unique, counted by the bill."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from classifaily_connectors import ClassifailyClient
from classifaily_connectors.bulk.settling import Settled, reconcile
from classifaily_connectors.sandbox import Fault
from classifaily_connectors.store import Ledger

if TYPE_CHECKING:
    from conftest import Yard

ROWS, UNIQUE = 20_000, 16_001


def _kill_while_buying(yard: Yard, chance: random.Random) -> None:
    """Kill a worker at a random moment of its buying."""
    before = yard.sandbox.bill().charged
    wanted = before + chance.randint(1, 4000)
    worker = yard.start(ROWS, UNIQUE, batch_size=50)
    while yard.sandbox.bill().charged < wanted and worker.poll() is None:
        time.sleep(chance.random() * 0.01)
    assert worker.poll() is None, "it should not have finished"
    yard.kill(worker)


def test_three_kills_and_nothing_is_paid_twice(yard: Yard) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(3):
        _kill_while_buying(yard, chance)
    bought = yard.sandbox.bill().charged
    assert 0 < bought < UNIQUE
    assert yard.times_paid() == {1: bought}

    report = yard.run(ROWS, UNIQUE, batch_size=50)
    assert set(yard.times_paid()) == {1}
    assert sum(report["statuses"].values()) == ROWS
    assert set(report["statuses"]) <= {"completed", "unknown"}
    assert yard.unsettled() == report["unknown"], "every parked row is listed"
    # What was killed between payment and answer is parked, so the bill and the parked rows overlap.
    assert UNIQUE - report["unknown"] <= yard.sandbox.bill().charged <= UNIQUE

    report = yard.run(ROWS, UNIQUE, batch_size=50, on_unknown="reconcile")
    assert report["statuses"] == {"completed": ROWS}
    assert yard.unsettled() == 0
    assert yard.times_paid() == {1: UNIQUE}

    requests = len(yard.sandbox.requests)
    report = yard.run(ROWS, UNIQUE, batch_size=50)
    assert report["statuses"] == {"completed": ROWS}
    assert yard.times_paid() == {1: UNIQUE}, "a rerun bills nothing"
    assert len(yard.sandbox.requests) == requests, "and asks nothing"


def test_what_was_paid_and_not_answered_is_listed_and_settled_for_free(yard: Yard) -> None:
    """One batch at a time, killed for certain between payment and answer."""
    yard.sandbox.inject(Fault(kind="delay", method="POST", after_work=True, nth=3, seconds=60.0))
    worker = yard.start(500, 400, batch_size=50, concurrency=1)
    while yard.sandbox.bill().charged < 150:
        assert worker.poll() is None
        time.sleep(0.005)
    yard.kill(worker)

    report = yard.run(500, 400, batch_size=50, on_unknown="park")
    assert report["unknown"] == yard.unsettled() == 50
    assert report["statuses"]["completed"] + report["statuses"]["unknown"] == 500
    assert yard.times_paid() == {1: 400}

    ledger = Ledger(yard.ledger_url)
    with ClassifailyClient(yard.sandbox.key, base_url=yard.sandbox.base_url) as client:
        assert reconcile(client, ledger) == Settled(answered=50, dropped=0, left=0)
    ledger.close()
    requests = len(yard.sandbox.requests)
    assert yard.run(500, 400, batch_size=50)["statuses"] == {"completed": 500}
    assert len(yard.sandbox.requests) == requests, "nothing is left to ask or to buy"


def test_an_edited_taxonomy_is_paid_anew_once(yard: Yard) -> None:
    yard.run(1200, 1000)
    edited = ["billing", {"name": "technical", "description": "It is broken."}, "account"]
    yard.run(1200, 1000, categories=edited)
    assert yard.times_paid() == {2: 1000}
    yard.run(1200, 1000, categories=edited)
    yard.run(1200, 1000)
    assert yard.times_paid() == {2: 1000}


def test_killed_while_a_queued_job_is_polled(open_yard: Callable[..., Yard]) -> None:
    """The job's id is recorded as soon as the 202 arrives: the next run waits for that job and pays for nothing."""
    yard = open_yard(unasked_async="batch", job_delay=3.0)
    worker = yard.start(200, 200, batch_size=50)
    # Polled means: the 202 arrived, and its id was committed before the first look.
    while sum(each.path.endswith("/jobs") for each in yard.sandbox.requests) < 20:
        assert worker.poll() is None
        time.sleep(0.005)
    yard.kill(worker)
    bought = yard.sandbox.bill().charged
    assert bought > 0
    report = yard.run(200, 200, batch_size=50)
    assert report["statuses"] == {"completed": 200}
    assert report["sources"] == {"ledger": bought, "api": 200 - bought} or bought == 200
    assert yard.times_paid() == {1: 200}
    assert yard.unsettled() == 0


@pytest.mark.parametrize("ledger_url", ["postgresql"], indirect=True)
def test_a_kill_on_postgresql(yard: Yard) -> None:
    worker = yard.start(3000, 3000, batch_size=20)
    while yard.sandbox.bill().charged < 300 and worker.poll() is None:
        time.sleep(0.002)
    yard.kill(worker)
    report = yard.run(3000, 3000, batch_size=20, on_unknown="reconcile")
    assert report["statuses"] == {"completed": 3000}
    assert yard.times_paid() == {1: 3000}
    assert yard.unsettled() == 0
