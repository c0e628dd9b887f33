"""The inbox: every name once, in an order that readers can trust, and nothing is consumed by looking."""

from __future__ import annotations

import hashlib
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa

from classifaily_connectors import StoreError
from classifaily_connectors.store import Arrival, Inbox, InboxStats, Ledger
from classifaily_connectors.store.delivery import CHANNEL
from classifaily_connectors.store.inbox import TOMBSTONES
from classifaily_connectors.store.inbox_landing import Batch, land
from classifaily_connectors.store.migrations import STEPS, delivery, expectation, version

DAY = 86400.0


def arrival(job_id: str, body: bytes = b"{}", **changed: Any) -> Arrival:
    usual = Arrival("default", "job.completed", job_id, hashlib.sha256(body).digest(), 1e9, None, body)
    return usual._replace(**changed)


@pytest.fixture
def open_inbox(url: str) -> Iterator[Callable[[], Inbox]]:
    with ExitStack() as stack:

        def open_inbox() -> Inbox:
            inbox = Inbox(url)
            stack.callback(inbox.close)
            return inbox

        yield open_inbox


@pytest.fixture
def inbox(open_inbox: Callable[[], Inbox]) -> Inbox:
    return open_inbox()


def shown(inbox: Inbox) -> list[tuple[str, str, int]]:
    return [(each.job_id, each.state, each.repeats) for each in inbox.after(0)]


# --- in ---------------------------------------------------------------------------------------


def test_a_name_is_kept_once_and_its_repeats_are_counted(inbox: Inbox) -> None:
    assert inbox.put([arrival("1"), arrival("2"), arrival("1")]) == ["new", "new", "repeat"]
    assert inbox.put([arrival("2"), arrival("3")]) == ["repeat", "new"]
    assert shown(inbox) == [("1", "ok", 1), ("2", "ok", 1), ("3", "ok", 0)]


def test_source_and_event_are_part_of_the_name(inbox: Inbox) -> None:
    several = [arrival("1"), arrival("1", source="staging"), arrival("1", event="job.failed")]
    assert inbox.put(several) == ["new"] * 3
    assert [each.event for each in inbox.after(0, source="default")] == ["job.completed", "job.failed"]


@pytest.mark.parametrize("together", [True, False])
def test_another_body_under_a_name_is_kept_beside_it(inbox: Inbox, together: bool) -> None:
    first, rival, again = arrival("1"), arrival("1", b"other"), arrival("1", b"other")
    batches = [[first, rival, again, first]] if together else [[first], [rival], [again], [first]]
    landed = [each for batch in batches for each in inbox.put(batch)]
    assert landed == ["new", "conflict", "repeat", "repeat"]
    assert shown(inbox) == [("1", "conflict", 1), ("1", "conflict", 1)]
    [one, other] = inbox.after(0)
    assert [inbox.get(each.seq).body for each in (one, other)] == [b"{}", b"other"]  # type: ignore[union-attr]


def test_what_cannot_be_read_is_kept_under_its_digest(inbox: Inbox) -> None:
    junk = arrival("0badc0de", b"junk", event="")
    assert inbox.put([junk, junk]) == ["dead", "repeat"]
    assert shown(inbox) == [("0badc0de", "dead", 1)]


def test_a_large_batch_is_one_transaction(inbox: Inbox) -> None:
    many = [arrival(str(number)) for number in range(1203)]
    assert inbox.put(many) == ["new"] * 1203
    assert inbox.put(many) == ["repeat"] * 1203
    assert len(inbox.after(0, limit=5000)) == 1203
    broken = [arrival("fine"), arrival("broken", received_at=None)]
    with pytest.raises(StoreError, match="does not take this"):
        inbox.put(broken)
    assert inbox.find("default", ["fine"]) == {}


def put_all(url: str, gate: Any, told: Any) -> None:
    inbox = Inbox(url)
    gate.wait()
    told.put(
        [each for number in range(20) for each in inbox.put([arrival(str(n)) for n in range(number, number + 20)])]
    )
    inbox.close()


def test_processes_keep_each_name_once(url: str, inbox: Inbox) -> None:
    spawn = multiprocessing.get_context("spawn")
    gate, told = spawn.Barrier(3), spawn.Queue()
    workers = [spawn.Process(target=put_all, args=(url, gate, told)) for _ in range(3)]
    for worker in workers:
        worker.start()
    landed = [each for _ in workers for each in told.get(timeout=120)]
    for worker in workers:
        worker.join()
    assert landed.count("new") == 39
    assert landed.count("repeat") == 3 * 20 * 20 - 39
    assert sum(each.repeats for each in inbox.after(0)) == landed.count("repeat")


# --- out --------------------------------------------------------------------------------------


def test_looking_consumes_nothing(inbox: Inbox) -> None:
    inbox.put([arrival("1", b"a", sent_at=2e9), arrival("2")])
    for _ in range(2):
        found = inbox.find("default", ["1", "3"])
        assert set(found) == {"1"}
        assert (found["1"].body, found["1"].sent_at, found["1"].received_at) == (b"a", 2e9, 1e9)
        assert inbox.find("staging", ["1"]) == {}
    assert inbox.find("default", []) == {}
    assert [each.body for each in inbox.after(0)] == [None, None]
    assert "body" not in repr(found["1"])


def test_many_jobs_are_found_at_once(inbox: Inbox) -> None:
    inbox.put([arrival(str(number)) for number in range(700)])
    assert len(inbox.find("default", [str(number) for number in range(10_000)])) == 700


def test_the_feed_goes_on_after_a_number(inbox: Inbox) -> None:
    assert inbox.head() == 0
    inbox.put([arrival(str(number)) for number in range(5)])
    first = inbox.after(0, limit=2)
    rest = inbox.after(first[-1].seq)
    assert [each.job_id for each in [*first, *rest]] == ["0", "1", "2", "3", "4"]
    assert inbox.head() == rest[-1].seq
    assert inbox.after(inbox.head()) == []
    assert [each.job_id for each in inbox.entries(job_id="3")] == ["3"]
    assert inbox.entries(state="conflict") == inbox.entries(event="job.failed") == []


def test_a_reader_never_passes_a_late_commit(inbox: Inbox, open_inbox: Callable[[], Inbox]) -> None:
    """A number that is given first is seen first, however long its transaction takes."""
    other = open_inbox()
    with inbox._begin() as connection:
        land(connection, Batch([arrival("slow")]).insertion(connection.dialect.name))
        fast = threading.Thread(target=other.put, args=([arrival("fast")],))
        fast.start()
        # It has to wait, so nothing can be seen yet; without the turn it would be seen before the slow one.
        fast.join(timeout=0.5)
        assert other.after(0) == []
    fast.join()
    assert [each.job_id for each in other.after(0)] == ["slow", "fast"]


def test_numbers_are_never_used_again(inbox: Inbox) -> None:
    inbox.put([arrival("1"), arrival("2")])
    head = inbox.head()
    _age(inbox, TOMBSTONES + DAY)
    inbox.prune(older_than=DAY)
    assert inbox.after(0) == []
    inbox.put([arrival("3")])
    assert inbox.head() > head


def test_postgresql_is_notified_once_for_a_batch(url: str, inbox: Inbox) -> None:
    if not url.startswith("postgresql"):
        assert inbox.put([arrival("1")]) == ["new"]  # SQLite has nobody to tell
        return
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")
        inbox.put([arrival(str(number)) for number in range(50)])
        inbox.put([arrival("1")])  # no news
        inbox.redrive(1)
        told = list(connection.notifies(timeout=10, stop_after=2))
        assert [each.payload for each in told] == ["", ""]
        assert list(connection.notifies(timeout=0.2)) == []


# --- consumers and expectations ---------------------------------------------------------------


def test_every_consumer_keeps_its_own_place(inbox: Inbox, open_inbox: Callable[[], Inbox]) -> None:
    assert inbox.mark("sensor") == 0
    inbox.set_mark("sensor", 7)
    inbox.set_mark("sensor", 9)
    other = open_inbox()
    assert (other.mark("sensor"), other.mark("forwarder")) == (9, 0)


def test_the_first_means_settles_an_expectation(inbox: Inbox) -> None:
    inbox.expect("default", ["1", "2", "3"], owner="run-1")
    inbox.expect("default", ["1"], owner="run-2")
    inbox.expect("default", [])
    inbox.expect("staging", ["1"])
    assert [(each.job_id, each.owner) for each in inbox.expected("default")] == [
        ("1", "run-1"),
        ("2", "run-1"),
        ("3", "run-1"),
    ]
    assert inbox.settle("default", ["1", "2", "unknown"], by="webhook") == 2
    assert inbox.settle("default", ["2", "3"], by="poll") == 1
    assert [each.source for each in inbox.expected()] == ["staging"]
    stats = inbox.stats()
    assert (stats.expected, stats.settled_by_webhook, stats.settled_by_poll) == (1, 2, 1)


# --- by hand, and in time ---------------------------------------------------------------------


def test_a_redriven_delivery_comes_again_in_the_feed(inbox: Inbox) -> None:
    inbox.put([arrival("1", b"body"), arrival("2")])
    [first, second] = inbox.after(0)
    new = inbox.redrive(first.seq)
    [again] = inbox.after(second.seq)
    assert again.seq == new
    assert (again.job_id, again.redriven, again.received_at) == ("1", 1, first.received_at)
    assert inbox.find("default", ["1"])["1"].body == b"body"
    assert inbox.redrive(first.seq) is None
    assert inbox.put([arrival("1", b"body")]) == ["repeat"]


def test_the_job_settles_a_conflict(inbox: Inbox) -> None:
    inbox.put([arrival("1"), arrival("1", b"other"), arrival("1", b"third")])
    inbox.put([arrival("2")])
    _first, other, third, sound = inbox.after(0)
    assert not inbox.resolve(sound.seq, holds=False)
    assert not inbox.resolve(99)
    assert inbox.resolve(third.seq, holds=False)
    assert inbox.resolve(other.seq)
    assert shown(inbox) == [("1", "refuted", 0), ("1", "ok", 0), ("1", "refuted", 0), ("2", "ok", 0)]
    assert inbox.find("default", ["1"])["1"].seq == other.seq
    assert inbox.put([arrival("1"), arrival("1", b"third")]) == ["repeat", "repeat"]
    assert inbox.stats().conflict == 0
    assert inbox.put([arrival("1", b"fourth")]) == ["conflict"]
    assert inbox.stats().conflict == 4


def _age(inbox: Inbox, seconds: float) -> None:
    with inbox._begin() as connection:
        now = inbox._now(connection)
        connection.execute(sa.update(delivery).values(received_at=now - seconds))
        connection.execute(sa.update(expectation).values(expected_at=now - seconds))
        settled = sa.update(expectation).where(expectation.c.settled_at.is_not(None))
        connection.execute(settled.values(settled_at=now - seconds))


def test_pruning_leaves_what_tells_a_replay_from_news(inbox: Inbox) -> None:
    inbox.put([arrival(str(number)) for number in range(1500)])
    inbox.put([arrival("torn"), arrival("torn", b"other")])
    inbox.expect("default", ["1", "2"])
    inbox.settle("default", ["1"], by="webhook")
    _age(inbox, 100 * DAY)
    assert inbox.prune(older_than=200 * DAY) == 0
    assert inbox.prune(older_than=90 * DAY) == 1500
    assert inbox.prune(older_than=90 * DAY) == 0
    assert inbox.find("default", ["7"])["7"].body is None
    assert {each.body for each in inbox.find("default", ["torn"]).values()} == {b"other"}
    assert inbox.put([arrival("7")]) == ["repeat"]
    assert [each.job_id for each in inbox.expected()] == ["2"]
    _age(inbox, TOMBSTONES + DAY)
    inbox.prune(older_than=90 * DAY)
    assert inbox.stats() == InboxStats(0, 0, 0, 0, 0, 0, 0, 0, 0)


def test_stats_count_everything(inbox: Inbox) -> None:
    inbox.put([arrival("1"), arrival("1"), arrival("2"), arrival("2", b"x"), arrival("dd", event="")])
    assert inbox.stats() == InboxStats(
        head=inbox.head(),
        ok=1,
        conflict=2,
        refuted=0,
        dead=1,
        repeats=1,
        expected=0,
        settled_by_webhook=0,
        settled_by_poll=0,
    )


# --- the place --------------------------------------------------------------------------------


def test_ledger_and_inbox_share_one_database(url: str, inbox: Inbox) -> None:
    ledger = Ledger(url)
    inbox.put([arrival("1")])
    ledger.claim(ledger.start_run(), [b"key"])
    assert (ledger.stats().open, inbox.stats().ok) == (1, 1)
    ledger.close()


def test_a_ledger_of_the_first_version_becomes_an_inbox_too(url: str) -> None:
    ledger = Ledger(url)
    ledger.claim(ledger.start_run(), [b"key"])
    with ledger._begin() as connection:
        for name in ("delivery", "expectation", "mark"):
            connection.exec_driver_sql(f"DROP TABLE classifaily_{name}")
        connection.execute(sa.delete(version).where(version.c.version > 1))
    ledger.close()
    inbox = Inbox(url)
    assert inbox.put([arrival("1")]) == ["new"]
    with inbox._begin("DEFERRED") as connection:
        assert connection.execute(sa.select(sa.func.max(version.c.version))).scalar() == len(STEPS)
    inbox.close()
    ledger = Ledger(url)
    assert ledger.stats().open == 1
    ledger.close()


def put_one(inbox: Inbox, told: Any) -> None:
    told.put(inbox.put([arrival("from the child")]))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # the fork is the point
def test_an_open_inbox_may_be_taken_through_a_fork(inbox: Inbox) -> None:
    inbox.put([arrival("from the parent")])
    fork = multiprocessing.get_context("fork")
    told = fork.Queue()
    child = fork.Process(target=put_one, args=(inbox, told))
    child.start()
    assert told.get(timeout=60) == ["new"]
    child.join()
    assert inbox.put([arrival("from the child")]) == ["repeat"]
