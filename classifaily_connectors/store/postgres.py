"""Speaking to PostgreSQL, or to a pooler in front of it.

The law of this file: nothing is asked of a session that a pooler may give to somebody else in between. What we want set
is set in each transaction, nothing is prepared, locks end with their transaction. The options in a store's URL, such as
a tenant's `search_path`, hold in every transaction, also where a pooler leaves them out. A server that is silent for
too long is hung up on, because behind a proxy the kernel never notices that a connection is swallowed.
"""

from __future__ import annotations

import inspect
import os
import re
import select
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import psycopg
import sqlalchemy as sa
import sqlalchemy.event as sa_event

from classifaily_connectors.store import columns

if TYPE_CHECKING:
    from sqlalchemy.pool import ConnectionPoolEntry

T = TypeVar("T")
PATIENCE = 15.0
"""Seconds without a word from the server after which a connection is given up."""
LOCK_TIMEOUT = "10s"
"""How long a transaction waits for another one: shorter than our patience."""

# Seconds to connect, and milliseconds until silence is an error: a network that swallows everything is noticed before
# the kernel gives up. `prepare_threshold`: a pooler may take the next statement to another server.
_REACH: Mapping[str, Any] = {"connect_timeout": 10, "tcp_user_timeout": 30_000, "prepare_threshold": None}
OURS: Mapping[str, str] = {"synchronous_commit": "on", "lock_timeout": LOCK_TIMEOUT}
_SETTING = re.compile(r"(?:-c\s*|--)([\w.-]+)=((?:\\.|[^\s\\])*)(?:\s+|$)")
_UNSET = "synchronous_commit"
_READ, _WRITE = 1, 2  # psycopg's words for what it waits for, and for what came
_TIMED = "timeout" in inspect.signature(psycopg.Connection.wait).parameters
_EVENTS = {_READ: select.POLLIN, _WRITE: select.POLLOUT, _READ | _WRITE: select.POLLIN | select.POLLOUT}


class Server(NamedTuple):
    """How the server of a URL is spoken to: the connection's `words` and `options`, the statement that begins a
    transaction, and whether the URL has settings of its own, so that nothing may be asked outside of one."""

    words: list[Any]
    options: dict[str, Any]
    begin: str
    particular: bool


def server(url: sa.URL) -> Server:
    """See `Server`."""
    # Read by SQLAlchemy as an engine's is: its URLs say some things in other words than libpq's, such as several hosts.
    words, options = url.get_dialect()().create_connect_args(url)
    return _server(words, options)


def _server(words: Any, options: Mapping[str, Any]) -> Server:
    settings, left = read_options(str(options.get("options") or ""))
    reach: dict[str, Any] = {**_REACH, **options, "autocommit": True}
    reach.pop("options", None)
    if left:
        reach["options"] = left
    values = {**OURS, **settings, _UNSET: OURS[_UNSET]}
    said = ", ".join(f"set_config({_quoted(name)}, {_quoted(value)}, true)" for name, value in values.items())
    return Server(list(words), reach, f"BEGIN; SELECT {said}", bool(settings))


def read_options(text: str) -> tuple[dict[str, str], str]:
    """The settings in a URL's `options` (`-c name=value`, `--name=value`), and what else stands there.

    What else there is goes to the server as the connection starts, such as a project's name for its proxy.
    """
    settings: dict[str, str] = {}

    def take(match: re.Match[str]) -> str:
        settings[match[1].replace("-", "_")] = re.sub(r"\\(.)", r"\1", match[2])
        return ""

    return settings, _SETTING.sub(take, text).strip()


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''").replace("%", "%%")
    return f"E'{doubled}'".replace("\\", "\\\\") if "\\" in text else f"'{doubled}'"


def engine_for(url: sa.URL, *, alone: bool) -> sa.Engine:
    """An engine; with `alone` every statement is a transaction, and connections are not tried before they are used.

    Raises ImportError without the driver.
    """
    columns.register()
    at = server(url)
    engine = sa.create_engine(
        url,
        pool_pre_ping=not alone,
        isolation_level="AUTOCOMMIT",
        hide_parameters=True,
        use_native_hstore=False,
        execution_options={"classifaily_particular": at.particular},
    )

    # Begun by us, in one exchange with what we want set; the driver would take one of its own for that.
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(at.begin)

    def connect(_dialect: sa.Dialect, _entry: ConnectionPoolEntry, _words: Any, _options: Any) -> PatientConnection:
        connection = PatientConnection.connect(*at.words, **at.options)
        connection.process = os.getpid()
        return connection

    sa_event.listen(engine, "do_connect", connect)
    if at.particular or not alone:
        sa_event.listen(engine, "begin", begin)
    return engine


async def connect(url: sa.URL, *, patience: float = PATIENCE) -> PatientAsyncConnection:
    """A connection that belongs to the event loop, and commits every statement by itself."""
    at = server(url)
    connection = await PatientAsyncConnection.connect(*at.words, **at.options)
    connection.patience = patience
    connection.at = at
    return connection


@contextmanager
def patiently(connection: sa.Connection) -> Generator[None]:
    """Wait for the server and for locks as long as it takes: this transaction changes the tables' shape."""
    connection.exec_driver_sql("SELECT set_config('lock_timeout', '0', true)")
    driver: Any = connection.connection.driver_connection
    driver.patience = None
    try:
        yield
    finally:
        driver.patience = PATIENCE


class PatientConnection(psycopg.Connection[Any]):
    """Gives up when the server has been silent for `patience` seconds."""

    patience: float | None = PATIENCE
    process = 0

    def __del__(self, *_warn: Any) -> None:
        if self.process == os.getpid():  # a child leaves its parent's connections to it, and that is as it should be
            super().__del__()

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """See psycopg, whose own wait cannot be told to end."""
        if args or kwargs:
            return super().wait(gen, *args, **kwargs)
        if _TIMED:  # in C
            try:
                return super().wait(gen, timeout=self.patience)
            except psycopg.OperationalError as error:
                if type(error).__name__ != "_WaitTimeout":
                    raise
            raise _silence(self)
        try:
            want = next(gen)
            while True:
                poll = select.poll()
                poll.register(self.pgconn.socket, _EVENTS[want])
                found = poll.poll(None if self.patience is None else 1000 * self.patience)
                if not found:
                    gen.close()
                    raise _silence(self)
                event = found[0][1]
                # What is neither is an error, which shows itself in the attempt.
                ready = (_READ if event & ~select.POLLOUT else 0) | (_WRITE if event & ~select.POLLIN else 0)
                want = gen.send(ready & want)
        except StopIteration as end:
            return cast("T", end.value)
        except KeyboardInterrupt:
            self.pgconn.finish()  # in the middle of an answer
            raise


class PatientAsyncConnection(psycopg.AsyncConnection[Any]):
    """The same, in an event loop. `at` says how it is spoken to."""

    patience = PATIENCE
    at: Server

    async def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:
        """See psycopg."""
        return await super().wait(_listening(gen, self), *args, **kwargs)

    async def ask(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        """The rows of one statement, which is a transaction."""
        query = statement.encode()
        if not self.at.particular:
            return await _rows(await self.execute(query, values))
        await self.execute(self.at.begin.replace("%%", "%").encode())
        rows = await _rows(await self.execute(query, values))
        await self.execute(b"COMMIT")
        return rows


async def _rows(cursor: Any) -> list[Any]:
    return list(await cursor.fetchall()) if cursor.description else []


def _listening(gen: Generator[Any, Any, T], connection: Any) -> Generator[Any, Any, T]:
    """`gen`, which is resumed with nothing ten times a second while there is nothing to read or write."""
    silent_since: float | None = None
    try:
        want = next(gen)
        while True:
            ready = yield want
            if ready:
                silent_since = None
            elif silent_since is None:
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > connection.patience:
                gen.close()
                raise _silence(connection)
            want = gen.send(ready)
    except StopIteration as end:
        return cast("T", end.value)


def _silence(connection: Any) -> psycopg.OperationalError:
    connection.pgconn.finish()
    return psycopg.OperationalError(f"the server was silent for {connection.patience:g} seconds")
