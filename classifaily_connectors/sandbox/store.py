"""The sandbox's memory in one SQLite file, so that it outlives its process.

The law of this file: what was answered was written before. `State` in memory is what is read; a record that changed is
written whole, as JSON, in one transaction per request.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

from classifaily_connectors.errors import ConfigurationError

from .state import Account, Job, Month, Outcome, Schema, State, Webhook

if TYPE_CHECKING:
    from pathlib import Path


class Store:
    """One SQLite file of records. Raises ConfigurationError when the file cannot be used."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        with self._ours():
            # The caller's lock serialises access; the thread that serves is not the thread that opened.
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        try:
            with self._ours():
                self._db.execute("PRAGMA journal_mode=WAL")
                # Enough to survive the death of the process; a machine's is not the sandbox's business.
                self._db.execute("PRAGMA synchronous=OFF")
                self._db.execute(
                    "CREATE TABLE IF NOT EXISTS records"
                    " (kind TEXT, id TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID"
                )
        except ConfigurationError:
            self._db.close()
            raise

    @contextmanager
    def _ours(self) -> Generator[None]:
        """SQLite's errors, made ours."""
        problem: str | None = None
        try:
            yield
        except sqlite3.Error as error:
            problem = str(error)
        if problem is not None:
            raise ConfigurationError(f"the sandbox's store {self._path} cannot be used: {problem}; name another file")

    def load(self, state: State) -> None:
        """Fill a state from the file."""
        with self._ours():
            records = self._db.execute("SELECT kind, id, value FROM records").fetchall()
        for kind, id, value in records:
            _put(state, kind, id, json.loads(value))
        # The primary key sorts ids as text; jobs are listed in the order they were made.
        state.jobs = dict(sorted(state.jobs.items(), key=lambda pair: (pair[1].created, len(pair[0]), pair[0])))

    def save(self, state: State) -> None:
        """Write every record touched since the last call, all or none."""
        if not state.dirty:
            return
        changed: list[tuple[str, str, str]] = []
        gone: list[tuple[str, str]] = []
        for kind, id in state.dirty:
            records: dict[Any, Any] = getattr(state, kind)
            record = records.get(int(id) if kind in ("schemas", "webhooks") else id)
            if record is None:
                gone.append((kind, id))
            else:
                changed.append((kind, id, json.dumps(asdict(record) if is_dataclass(record) else record)))  # type: ignore[arg-type]
        with self._ours():
            self._db.execute("BEGIN")
            try:
                self._db.executemany("INSERT OR REPLACE INTO records VALUES (?, ?, ?)", changed)
                self._db.executemany("DELETE FROM records WHERE kind = ? AND id = ?", gone)
                self._db.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
        state.dirty.clear()

    def close(self) -> None:
        """Close the file."""
        self._db.close()


def _put(state: State, kind: str, id: str, value: Any) -> None:
    match kind:
        case "accounts":
            months = {period: Month(**used) for period, used in value.pop("months").items()}
            state.accounts[id] = Account(**value, months=months)
        case "schemas":
            state.schemas[int(id)] = Schema(**value)
        case "webhooks":
            state.webhooks[int(id)] = Webhook(**value)
        case "jobs":
            outcomes = [Outcome(**outcome) for outcome in value.pop("outcomes")]
            state.jobs[id] = Job(**value, outcomes=outcomes)
        case "billed":
            state.billed[id] = value
        case _:
            state.counters[id] = value
