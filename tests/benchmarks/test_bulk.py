"""Bulk: what the engine and its ledger cost over the bare calls they cannot do without."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from classifaily_connectors import ClassifailyClient
from classifaily_connectors.store import Ledger
from classifaily_connectors.store.entry import Changes

if TYPE_CHECKING:
    from conftest import Race

BATCH, CONCURRENCY, BATCHES = 50, 16, 600
CATEGORIES = ["billing", "technical"]
HERE = Path(__file__).parent
_numbers = itertools.count()


@contextmanager
def batch_responder(delay: float) -> Iterator[str]:
    command = [sys.executable, str(HERE / "batch_responder.py"), str(delay)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.communicate(timeout=10)


@pytest.fixture(scope="module")
def slow() -> Iterator[str]:
    """Answers after 200 ms, as the API does."""
    with batch_responder(0.2) as url:
        yield url


@pytest.fixture(scope="module")
def instant() -> Iterator[str]:
    with batch_responder(0.0) as url:
        yield url


def _rows() -> list[str]:
    run = next(_numbers)
    return [f"run {run} row {n} was charged twice" for n in range(BATCH * BATCHES)]


async def _bare(url: str, key: str, rows: list[str]) -> int:
    limits = httpx.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    parts = iter(range(0, len(rows), BATCH))
    answered = 0

    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=60, limits=limits) as client:

        async def work() -> None:
            nonlocal answered
            for start in parts:
                items = [{"id": f"{n:032x}", "input": rows[n]} for n in range(start, start + BATCH)]
                answer = await client.post(f"{url}/batch", json={"items": items, "categories": CATEGORIES})
                answered += len(answer.json()["results"])

        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    return answered


def _per_second(work: Callable[[], int]) -> float:
    started = time.perf_counter()
    return work() / (time.perf_counter() - started)


def _ours(url: str, key: str, rows: list[str], ledger: str | bool) -> int:
    with ClassifailyClient(key, base_url=url) as client:
        options = {"categories": CATEGORIES, "batch_size": BATCH, "concurrency": CONCURRENCY}
        return sum(row.status == "completed" for row in client.classify_many(rows, ledger=ledger, **options))


def test_throughput(slow: str, key: str, tmp_path: Path, race: type[Race]) -> None:
    """Rows a second against the same batches posted by bare httpx at the same concurrency."""
    contenders = {
        "httpx": lambda: _per_second(lambda: asyncio.run(_bare(slow, key, _rows()))),
        "without ledger": lambda: _per_second(lambda: _ours(slow, key, _rows(), ledger=False)),
        "with ledger": lambda: _per_second(lambda: _ours(slow, key, _rows(), f"sqlite:///{tmp_path}/ledger.db")),
    }
    result = race(f"Rows per second, {CONCURRENCY} batches of {BATCH} in flight, 200 ms", contenders, rounds=5)
    result.show("httpx")
    print(f"  with ledger x without {result.ratio('with ledger', 'without ledger').show('.2f')}")
    assert result.ratio("without ledger", "httpx").middle >= 0.9
    assert result.ratio("with ledger", "without ledger").middle >= 0.9


class BareLedger:
    """The same statements, written by hand."""

    def __init__(self, path: Path) -> None:
        Ledger(f"sqlite:///{path}").close()  # the same tables
        self.db = sqlite3.connect(path, isolation_level=None)
        self.db.execute("PRAGMA synchronous=FULL")
        self.db.execute("PRAGMA wal_autocheckpoint=4000")

    def commit(self, answers: dict[bytes, str], keys: list[bytes]) -> None:
        now = time.time()
        self.db.execute("BEGIN IMMEDIATE")
        finished = [(answer, now, key) for key, answer in sorted(answers.items())]
        self.db.executemany("UPDATE classifaily_entry SET state='done', answer=?, settled_at=? WHERE key=?", finished)
        rows = ",".join(["(?,'','open','run',?)"] * len(keys))
        values = [value for key in sorted(keys) for value in (key, now)]
        insert = "INSERT INTO classifaily_entry (key, namespace, state, run_id, claimed_at) VALUES"
        won = self.db.execute(f"{insert} {rows} ON CONFLICT DO NOTHING RETURNING key", values).fetchall()
        assert len(won) == len(keys)
        self.db.execute("COMMIT")


def test_ledger_cost(tmp_path: Path, race: type[Race]) -> None:
    """Seconds an item to claim batches of 50 and finish the ones before, against bare sqlite3; both are FULL."""
    answer = '{"l":[["billing",0.97,null]],"j":"batch_1"}'

    def batches() -> list[list[bytes]]:
        run = next(_numbers)
        keys = [hashlib.blake2b(f"{run} {n}".encode(), digest_size=16).digest() for n in range(200 * BATCH)]
        return [keys[start : start + BATCH] for start in range(0, len(keys), BATCH)]

    def seconds(commit: Callable[[dict[bytes, str], list[bytes]], object]) -> float:
        parts = batches()
        answers: dict[bytes, str] = {}
        started = time.perf_counter()
        for keys in parts:
            commit(answers, keys)
            answers = dict.fromkeys(keys, answer)
        return (time.perf_counter() - started) / len(parts) / BATCH * 1e6

    ledger, bare = Ledger(f"sqlite:///{tmp_path}/ours.db"), BareLedger(tmp_path / "bare.db")
    run_id = ledger.start_run()
    contenders = {
        "sqlite3": lambda: seconds(bare.commit),
        "ledger": lambda: seconds(
            lambda answers, keys: ledger.commit(run_id, Changes(answers, keys=dict.fromkeys(keys)))
        ),
    }
    result = race("Microseconds per item, claimed and finished in batches of 50", contenders, rounds=7)
    result.show("sqlite3", ".1f")
    ledger.close()
    bare.db.close()
    assert result.ratio("ledger", "sqlite3").middle <= 1.5


def test_replay(instant: str, key: str, tmp_path: Path, race: type[Race]) -> None:
    """Rows a second when everything is in the ledger, against bare sqlite3 looking the same keys up."""
    rows, url = _rows(), f"sqlite:///{tmp_path}/ledger.db"
    _ours(instant, key, rows, url)
    db = sqlite3.connect(tmp_path / "ledger.db")
    keys = [each[0] for each in db.execute("SELECT key FROM classifaily_entry")]

    def bare() -> int:
        found = 0
        for start in range(0, len(keys), 500):
            part = keys[start : start + 500]
            marks = ",".join("?" * len(part))
            select = f"SELECT key, state, answer FROM classifaily_entry WHERE key IN ({marks})"
            for each in db.execute(select, part):
                found += json.loads(each[2])["l"] is not None
        return found

    contenders = {
        "sqlite3 and json": lambda: _per_second(bare),
        "replay": lambda: _per_second(lambda: _ours(instant, key, rows, url)),
    }
    result = race("Rows per second, all answered by the ledger", contenders, rounds=5)
    result.show("sqlite3 and json")
    db.close()


@pytest.mark.parametrize("kind", ["rows", "csv", "parquet"])
def test_a_million_rows(instant: str, tmp_path: Path, kind: str) -> None:
    """1,000,000 rows need no more than 32 MB above 10,000 rows, and the last tenth is as fast as the second."""

    def run(rows: int) -> dict[str, Any]:
        command = [sys.executable, str(HERE / "bulk_rows.py"), instant, str(tmp_path), str(rows), kind]
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=1800)
        return dict(json.loads(done.stdout))

    small, large = run(10_000), run(1_000_000)
    tenths = large["tenths"]
    slowdown = tenths[-1] / tenths[1]
    print(f"\n\n{kind}: peak memory {small['peak']:.0f} MB for 10,000 rows, {large['peak']:.0f} MB for 1,000,000")
    print(f"Seconds a tenth: {' '.join(format(each, '.1f') for each in tenths)}; last / second {slowdown:.2f}")
    assert large["peak"] - small["peak"] <= 32
    assert slowdown <= 1.5
