"""Whatever is wrong with a store, every door of it raises an error of ours: no database library's, and no password."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from classifaily_connectors import ClassifailyError, StoreError
from classifaily_connectors.cli import main
from classifaily_connectors.store import Inbox, Ledger, database
from tests.faults.sweep.examples import ARRIVAL, DIGEST, INBOX_CALLS, LEDGER_CALLS

if TYPE_CHECKING:
    from tests.conftest import Cluster

KEY, DELIVERY = DIGEST, ARRIVAL
READING = {"lookup", "live_runs", "stats", "unsettled", "identity", "now"}
READING |= {"find", "get", "after", "entries", "head", "end", "mark", "expected", "lags"}


def all_doors(ledger: Ledger, inbox: Inbox) -> dict[str, StoreError | None]:
    """What every door raised."""
    found: dict[str, StoreError | None] = {}
    for name, call, store in (
        *((name, call, ledger) for name, call in LEDGER_CALLS.items()),
        *((name, call, inbox) for name, call in INBOX_CALLS.items()),
    ):
        error = None
        try:
            call(store, None)  # type: ignore[arg-type]
        except StoreError as caught:
            error = caught
        assert error is None or not re.search("INSERT INTO|SELECT c|UPDATE c", str(error))
        found[f"{type(store).__name__}.{name}"] = error
    return found


def commands(url: str) -> Iterator[tuple[int, str]]:
    """How the commands end."""
    for words in (["ledger", "stats"], ["ledger", "show"], ["ledger", "prune", "--older-than", "1d"]):
        done = CliRunner().invoke(main, [*words, "--ledger", url])
        yield done.exit_code, done.output
    done = CliRunner().invoke(main, ["webhooks", "list", "--store", url])
    yield done.exit_code, done.output


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "store.db"
    with Ledger(path) as ledger, Inbox(path) as inbox:
        ledger.claim("run", [KEY])
        inbox.put([DELIVERY])
    return path


def dropped(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        ours = "SELECT name FROM sqlite_master WHERE name LIKE 'classifaily%' AND type = 'table'"
        for (name,) in connection.execute(ours).fetchall():
            connection.execute(f"DROP TABLE {name}")
    connection.close()


def garbled(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)


def deleted(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("trouble", "words"), [(dropped, "lost its tables"), (garbled, "damaged"), (deleted, "moved, replaced or deleted")]
)
def test_a_file_in_trouble(path: Path, trouble: Callable[[Path], None], words: str) -> None:
    with Ledger(path) as ledger, Inbox(path) as inbox:
        trouble(path)
        for door, error in all_doors(ledger, inbox).items():
            if door != "Ledger.now":  # which reads no table
                assert error is not None, door
                assert words in str(error), (door, str(error))
    if trouble is garbled:
        for code, text in commands(str(path)):
            assert code != 0
            assert "unexpected" not in text
            assert "Traceback" not in text


def test_a_file_that_is_locked_or_full(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT", 0.01)
    blocker = sqlite3.connect(path, isolation_level=None)
    with Ledger(path) as ledger, Inbox(path) as inbox:
        blocker.execute("BEGIN IMMEDIATE")
        for door, error in all_doors(ledger, inbox).items():
            if door.partition(".")[2] not in READING and door != "Inbox.prune":
                assert error is not None, door
                assert error.passing, door
                assert "locked" in str(error), (door, str(error))
        assert {code for code, _text in commands(str(path))} == {0, 1, 4}
        blocker.execute("ROLLBACK")
        pages = blocker.execute("PRAGMA page_count").fetchone()[0]
        limit = f"PRAGMA max_page_count={pages}"
        for store in (ledger, inbox):
            store.close()
            sa.event.listen(store._engine, "connect", lambda made, _entry: made.execute(limit))
        keys = [bytes([number]) * 32 for number in range(250)]
        many = [DELIVERY._replace(job_id=str(number)) for number in range(50)]
        for call in (lambda: ledger.claim("other", keys), lambda: inbox.put(many)):
            with pytest.raises(StoreError, match=r"is full.*make room"):
                call()
    blocker.close()


@pytest.mark.slow
def test_a_server_in_trouble(cluster: Cluster) -> None:
    import psycopg

    url = f"{cluster.url.replace('classifaily@', 'classifaily:hush-hush@')}/postgres"
    with Ledger(url) as ledger, Inbox(url) as inbox:
        ledger.claim("run", [KEY])
        inbox.put([DELIVERY])
        with psycopg.connect(f"{cluster.url.replace('+psycopg', '')}/postgres", autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET default_transaction_read_only = on")
            connection.execute("SELECT pg_reload_conf()")
        ledger.close()
        inbox.close()
        for door, error in all_doors(ledger, inbox).items():
            name = door.partition(".")[2]
            assert error is None or (name not in READING and "read-only" in str(error)), (door, str(error))
            assert error is not None or name in {*READING, "resolve", "redrive"}, door  # which find nothing to do
        with psycopg.connect(f"{cluster.url.replace('+psycopg', '')}/postgres", autocommit=True) as connection:
            connection.execute("SET default_transaction_read_only = off")
            connection.execute("ALTER SYSTEM RESET default_transaction_read_only")
            connection.execute("SELECT pg_reload_conf()")
            for name in ("entry", "run", "meter", "delivery", "expectation", "mark", "store"):
                connection.execute(f"DROP TABLE classifaily_{name}".encode())
        ledger.close()
        inbox.close()
        for door, error in all_doors(ledger, inbox).items():
            if door != "Ledger.now":
                assert error is not None, door
                assert "lost its tables" in str(error), (door, str(error))
                assert not error.passing
        cluster.kill()
        for door, error in all_doors(ledger, inbox).items():
            assert error is not None, door
            assert "cannot be reached" in str(error), (door, str(error))
            assert error.passing
            assert "hush-hush" not in str(error)
        for code, text in commands(url):
            assert code != 0
            assert "hush-hush" not in text
            assert "unexpected" not in text
        cluster.start()
    with pytest.raises(ClassifailyError):
        Ledger(f"{cluster.url}/no_such_database")
