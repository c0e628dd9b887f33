"""A store knows which one it is; one that an older version wrote is opened with all that it holds."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from classifaily_connectors.store import Arrival, Inbox, Ledger
from classifaily_connectors.store.delivery import FeedEnd

STORES = Path(__file__).parent / "stores"


def arrival(job: str) -> Arrival:
    return Arrival("default", "job.completed", job, job.encode(), 1.0, None, b"{}")


def test_a_store_keeps_its_identity_and_two_have_two(url: str, tmp_path: Path) -> None:
    first, again, inbox, other = Ledger(url), Ledger(url), Inbox(url), Ledger(f"sqlite:///{tmp_path}/other.db")
    assert first.identity == again.identity == inbox.identity == inbox.end().store
    assert other.identity != first.identity
    assert len(first.identity) == 32
    for each in (first, again, inbox, other):
        each.close()


def test_a_copy_has_the_identity_and_an_end_of_its_own(tmp_path: Path) -> None:
    original = Inbox(f"sqlite:///{tmp_path}/store.db")
    assert original.end() == FeedEnd(original.identity, 0)
    original.put([arrival("one")])
    original.close()
    shutil.copy(tmp_path / "store.db", tmp_path / "backup.db")
    original.put([arrival("two")])
    restored = Inbox(f"sqlite:///{tmp_path}/backup.db")
    assert restored.end() == FeedEnd(original.identity, 1)
    assert original.end() == FeedEnd(original.identity, 2)
    restored.close()
    original.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A store as version 2 left it."""
    made = (STORES / f"version_2_{request.param}.sql").read_text()
    if request.param == "sqlite":
        connection = sqlite3.connect(tmp_path / "old.db")
        connection.executescript(made)
        connection.close()
        return f"sqlite:///{tmp_path}/old.db"
    import psycopg

    make: Callable[[], str] = request.getfixturevalue("postgres")
    url = make()
    with psycopg.connect(url.replace("+psycopg", "")) as server:
        server.execute(made.encode())
    return url


def test_an_older_store_is_opened_with_all_that_it_holds(old: str) -> None:
    ledger, submitted, inbox = Ledger(old), Ledger(old, namespace="submitted"), Inbox(old)
    stats = ledger.stats()
    assert (stats.done, stats.parked, stats.interrupted, stats.jobs) == (3, 1, 1, 1)
    assert submitted.stats().done == 1
    found = ledger.lookup([bytes([number]) * 32 for number in range(1, 7)])
    assert [each.state for each in sorted(found.values(), key=lambda each: each.key)] == [
        *["done"] * 3,
        "parked",
        "open",
        "open",
    ]
    assert ledger.spend("quota", 0) == 6
    deliveries = inbox.stats()
    assert (deliveries.head, deliveries.ok, deliveries.conflict, deliveries.repeats) == (7, 2, 2, 1)
    assert (inbox.mark("sink"), [each.job_id for each in inbox.expected()]) == (2, ["job_7"])
    assert inbox.end() == FeedEnd(ledger.identity, 7)
    assert inbox.put([arrival("job_8")]) == ["new"]
    assert inbox.head() == 8
    for each in (ledger, submitted, inbox):
        each.close()


def test_a_store_in_its_present_shape_is_opened_without_waiting_for_a_writer(url: str) -> None:
    writer = Ledger(url)
    with writer._begin():
        Ledger(url).close()
    writer.close()
