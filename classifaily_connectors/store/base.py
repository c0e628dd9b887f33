"""What the ledger and the inbox have in common: one database, opened once, used from any thread and after a fork.

The law of this file: a write is one short transaction and writers of a process take turns; readers disturb nobody;
times are the database's where machines share it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Literal, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from classifaily_connectors.store.database import open_engine, opening
from classifaily_connectors.store.forks import at_work
from classifaily_connectors.store.migrations import identity, migrate

T = TypeVar("T")


class Store:
    """The database at `url`, brought to the present shape; safe to share between threads, and between processes.

    Raises ConfigurationError when the place cannot keep a store, or holds one from a newer version.
    """

    def __init__(self, url: str) -> None:
        with opening(url), at_work:
            self._engine = open_engine(url)
            try:
                migrate(self._engine)
            except BaseException:
                self._engine.dispose()
                raise
        self._reader = self._engine.execution_options(classifaily_begin="DEFERRED")
        solo = self._engine.execution_options(classifaily_begin=None)
        self._solo = open_engine(url, alone=True) if self._shared else solo
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._engine.url.render_as_string(hide_password=True)!r})"

    def close(self) -> None:
        """Close the connections; the store may be used again."""
        with at_work:
            self._engine.dispose()
            self._solo.dispose()

    @property
    def identity(self) -> str:
        """The database's own id, made with its first table; a backup and what is restored from it have the same.

        Asked of the database each time: another one may have taken its place.
        """
        return str(self._alone(lambda connection: connection.execute(_IDENTITY).scalar_one()))

    @property
    def _shared(self) -> bool:
        return self._engine.dialect.name == "postgresql"

    def _after_fork(self) -> None:
        if self._pid != os.getpid():  # connections are the parent's: leave them to it
            self._engine.dispose(close=False)
            self._solo.dispose(close=False)
            self._pid = os.getpid()
            self._lock = threading.Lock()

    @contextmanager
    def _begin(self, mode: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE") -> Generator[sa.Connection]:
        self._after_fork()
        if mode == "DEFERRED":
            with at_work, self._reader.begin() as connection:
                yield connection
        else:
            with at_work, self._lock, self._engine.begin() as connection:
                yield connection

    def _alone(self, work: Callable[[sa.Connection], T]) -> T:
        """`work`, whose every statement is a transaction by itself; with PostgreSQL it takes one exchange.

        A connection that was lost while it was idle is noticed here, as nobody pings it, and `work` is done once more.
        """
        self._after_fork()
        with at_work, self._solo.connect() as connection:
            try:
                return work(connection)
            except Exception as error:
                if not _lost(connection, error):
                    raise
                connection.invalidate()
        with at_work, self._solo.connect() as connection:
            return work(connection)

    def _now(self, connection: sa.Connection) -> float:
        # One clock for all: the database's where machines share it, this machine's where it is the only one.
        if self._shared:
            return float(connection.execute(_PG_NOW).scalar_one())
        return time.time()


_IDENTITY = sa.select(identity.c.id)
_PG_NOW = sa.select(sa.extract("epoch", sa.func.clock_timestamp()))


def _lost(connection: sa.Connection, error: Exception) -> bool:
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    # From the driver itself, which was asked past SQLAlchemy.
    ours, driver = connection.dialect, connection.dialect.loaded_dbapi
    return isinstance(error, driver.Error) and ours.is_disconnect(error, connection.connection.driver_connection, None)
