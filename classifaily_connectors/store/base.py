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
from typing import Any, Literal, NoReturn, Self, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from classifaily_connectors.store.address import SQLITE, is_postgresql, shown, store_url
from classifaily_connectors.store.database import StoreFile, open_engine, opening
from classifaily_connectors.store.forks import at_work
from classifaily_connectors.store.migrations import identity, migrate
from classifaily_connectors.store.trouble import is_foreign, store_error, trouble_of

T = TypeVar("T")


class Store:
    """The database at `url` (a URL or a path), brought to the present shape.

    It is safe to share between threads, may be pickled, and used in a `with` block, which closes it.

    Raises ConfigurationError when the place cannot keep a store, or holds one from a newer version, and its kind
    StoreUnavailableError when the database cannot be opened; every call raises StoreError when it fails.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        self.url = store_url(url)
        self._file = None if self._shared else StoreFile(self.url.removeprefix(SQLITE))
        with opening(self.url), at_work:
            self._engine = open_engine(self.url, file=self._file)
            try:
                self._identity = migrate(self._engine)
            except BaseException:
                self._engine.dispose()
                raise
        if self._file:
            self._file.made = True
        self._reader = self._engine.execution_options(classifaily_begin="DEFERRED")
        solo = self._engine.execution_options(classifaily_begin=None)
        self._solo = open_engine(self.url, alone=True) if self._shared else solo
        self._pid = os.getpid()
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.place!r})"

    @property
    def place(self) -> str:
        """The address as it may be shown: without a password."""
        return shown(self.url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url,)

    def close(self) -> None:
        """Close the connections; the store may be used again."""
        with at_work:
            self._hang_up()

    @property
    def identity(self) -> str:
        """The database's own id, made with its first table; a backup and what is restored from it have the same.

        Asked of the database each time: another one may have taken its place.
        """
        return str(self._alone(lambda connection: connection.execute(_IDENTITY).scalar_one()))

    @property
    def _shared(self) -> bool:
        return is_postgresql(self.url)

    def _after_fork(self) -> None:
        if self._pid != os.getpid():  # connections are the parent's: leave them to it
            self._engine.dispose(close=False)
            self._solo.dispose(close=False)
            self._pid = os.getpid()
            self._lock = threading.Lock()

    def _hang_up(self) -> None:
        self._engine.dispose()
        self._solo.dispose()

    @contextmanager
    def _begin(self, mode: Literal["IMMEDIATE", "DEFERRED"] = "IMMEDIATE") -> Generator[sa.Connection]:
        self._after_fork()
        try:
            if mode == "DEFERRED":
                with at_work, self._reader.begin() as connection:
                    yield connection
            else:
                with at_work, self._lock, self._engine.begin() as connection:
                    place = connection.info.get("file")
                    yield connection
                self._check_place(place)
        except Exception as error:
            if not is_foreign(error):
                raise
            self._fail(error)

    def _alone(self, work: Callable[[sa.Connection], T]) -> T:
        """`work`, whose every statement is a transaction by itself; with PostgreSQL it takes one exchange.

        A connection that was lost while it was idle is noticed here, as nobody pings it, and `work` is done once more;
        so it is on another connection where this one's server has become read-only.
        """
        self._after_fork()
        try:
            return self._try_alone(work)
        except Exception as error:
            if not is_foreign(error):
                raise
            self._fail(error)

    def _try_alone(self, work: Callable[[sa.Connection], T]) -> T:
        with at_work, self._solo.connect() as connection:
            place = connection.info.get("file")
            try:
                done = self._in_transaction(connection, work)
            except Exception as error:
                if not _lost(connection, error):
                    raise
                connection.invalidate()
            else:
                self._check_place(place)
                return done
        with at_work, self._solo.connect() as connection:
            return self._in_transaction(connection, work)

    @staticmethod
    def _in_transaction(connection: sa.Connection, work: Callable[[sa.Connection], T]) -> T:
        if not connection.get_execution_options().get("classifaily_particular"):
            return work(connection)
        with connection.begin():
            return work(connection)

    def _check_place(self, place: object) -> None:
        """Before anybody is told that something is kept: it may be kept in a file that is not there any more."""
        if self._file is not None and place != self._file.seen():
            raise self._file.moved()

    def _fail(self, error: Exception) -> NoReturn:
        if trouble_of(error).elsewhere:
            self._hang_up()  # the next connection may lead to the server that took over
        raise (self._file.error(error) if self._file else store_error(self.url, error)) from None

    def _now(self, connection: sa.Connection) -> float:
        # One clock for all: the database's where machines share it, this machine's where it is the only one.
        if self._shared:
            return float(connection.execute(_PG_NOW).scalar_one())
        return time.time()


_IDENTITY = sa.select(identity.c.id)
_PG_NOW = sa.select(sa.extract("epoch", sa.func.clock_timestamp()))


def _lost(connection: sa.Connection, error: Exception) -> bool:
    if trouble_of(error).elsewhere:
        return True
    if isinstance(error, DBAPIError):
        return error.connection_invalidated
    # From the driver itself, which was asked past SQLAlchemy.
    ours, driver = connection.dialect, connection.dialect.loaded_dbapi
    return isinstance(error, driver.Error) and ours.is_disconnect(error, connection.connection.driver_connection, None)
