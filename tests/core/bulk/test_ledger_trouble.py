"""A ledger that cannot be read or written ends the run loudly: it is never taken for an empty one."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from classifaily_connectors import StoreError
from classifaily_connectors.bulk import desk
from classifaily_connectors.bulk.desk import Desk
from classifaily_connectors.store import Ledger, database

if TYPE_CHECKING:
    from conftest import Shop

ROWS = [f"invoice {n}" for n in range(100)]


def test_a_full_disk_ends_the_run_and_what_was_paid_is_rescued(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk, "PATIENCE", 0.5)
    ledger = shop.ledger()
    with ledger._begin() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    @sa.event.listens_for(ledger._engine, "connect")
    def limit(connection: sqlite3.Connection, _entry: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")  # SQLite's own SQLITE_FULL, as on a full disk

    ledger.close()
    with pytest.raises(StoreError, match=r"is full: .*paid answers could not be written.*kept in") as caught:
        shop.buy([f"invoice {n}" for n in range(3000)], ledger=ledger, batch_size=50)
    ledger.close()
    paid = shop.paid()
    assert caught.value.unwritten > 0
    assert Path(str(caught.value.rescue)).stat().st_mode & 0o077 == 0
    assert "invoice" not in Path(str(caught.value.rescue)).read_text()
    rows = shop.buy([f"invoice {n}" for n in range(3000)])
    assert {row.status for row in rows} == {"completed"}
    assert (shop.paid(), shop.paid_twice()) == (3000, 0)
    assert sum(row.source == "ledger" for row in rows) == paid
    assert not Path(str(caught.value.rescue)).exists()


def test_a_ledger_locked_by_somebody_else_ends_the_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.2)
    shop.buy(ROWS[:10])
    blocker = sqlite3.connect(shop.ledger_url.removeprefix("sqlite:///"), isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked"):
        shop.buy(ROWS)
    assert shop.paid() == 10
    blocker.execute("ROLLBACK")
    blocker.close()
    assert len(shop.buy(ROWS)) == 100
    assert shop.paid_twice() == 0


def test_a_short_lock_is_waited_for(shop: Shop) -> None:
    import threading
    import time

    shop.ledger().close()
    blocker = sqlite3.connect(shop.ledger_url.removeprefix("sqlite:///"), isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")

    def release() -> None:
        time.sleep(0.4)
        blocker.execute("ROLLBACK")
        blocker.close()

    thread = threading.Thread(target=release)
    thread.start()
    assert {row.status for row in shop.buy(ROWS)} == {"completed"}
    thread.join()


def test_a_damaged_ledger_is_not_an_empty_one(shop: Shop) -> None:
    shop.buy(ROWS[:10])
    path = shop.ledger_url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with open(path, "r+b") as file:  # noqa: PTH123
        file.seek(4096)
        file.write(b"\xff" * 20_000)
    with pytest.raises(StoreError, match="damaged|malformed"):
        shop.buy(ROWS[:10])
    assert shop.paid() == 10


def test_a_server_that_goes_away_ends_the_run(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = shop.ledger()

    def gone(*_: Any) -> Any:
        raise sa.exc.OperationalError("SELECT", {}, Exception("server closed the connection"))

    monkeypatch.setattr(ledger, "lookup", gone)
    with pytest.raises(sa.exc.OperationalError, match="server closed"):
        shop.buy(ROWS, ledger=ledger)
    assert shop.paid() == 0
    ledger.close()


def test_answers_that_could_not_be_written_are_tried_again(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """They were paid for: one commit that fails must not turn them into open questions."""
    ledger = shop.ledger()
    commit, failed = Ledger.commit, []

    def once(self: Ledger, run_id: str, changes: Any) -> Any:
        if changes.answers and not failed:
            failed.append(len(changes.answers))
            raise sa.exc.OperationalError("UPDATE", {}, Exception("disk I/O error"))
        return commit(self, run_id, changes)

    monkeypatch.setattr(Ledger, "commit", once)
    with pytest.raises(sa.exc.OperationalError, match="disk I/O"):
        shop.buy(ROWS[:20], ledger=ledger)
    ledger.close()
    assert failed == [20]
    assert shop.unsettled() == 0
    assert {row.source for row in shop.buy(ROWS[:20])} == {"ledger"}
    assert shop.paid() == 20


async def test_small_commits_of_one_moment_become_one(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    ledger = shop.ledger()
    commits: list[Any] = []
    commit = Ledger.commit
    monkeypatch.setattr(Ledger, "commit", lambda self, *what: commits.append(what) or commit(self, *what))
    counter = Desk(ledger)
    await counter.open()
    keys = [bytes([n]) * 16 for n in range(20)]
    counter.limits["n"] = 18
    done = await asyncio.gather(*(counter.claim([key], ()) for key in keys))
    assert all(each.won >= {key} for each, key in zip(done, keys, strict=True))
    assert set().union(*(each.covered for each in done)) == set(keys[:18]), "in the order they came"
    assert len(commits) <= 2
    assert (counter.counts, counter.spent) == ({"n": 18}, 18)
    await asyncio.gather(*(counter.finish({key: "{}"}) for key in keys[:15]), counter.release(keys[15:], 3))
    await counter.close()
    assert len(commits) <= 6
    assert (ledger.spend("n", 0), counter.spent) == (15, 15)
    assert [each.state for each in ledger.lookup(keys).values()] == ["done"] * 15
    ledger.close()
