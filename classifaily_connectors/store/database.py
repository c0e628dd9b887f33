"""Opening the database.

The law of this file: what is committed survives the power cut (SQLite: WAL and synchronous=FULL; PostgreSQL:
synchronous_commit=on), and a place that cannot promise that, such as SQLite on a network file system, is refused.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.store import forks

try:
    import sqlalchemy as sa
    import sqlalchemy.event as sa_event
    from sqlalchemy.exc import ArgumentError, DBAPIError
except ImportError:
    raise ImportError(
        "the ledger needs SQLAlchemy: pip install 'classifaily-connectors[store]' (or [postgres])"
    ) from None

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT = 30.0
"""Seconds a writer waits for another one."""

# Seconds to connect, and milliseconds until silence is an error: a network that swallows everything is noticed before
# the kernel gives up.
_REACH: Mapping[str, Any] = {"connect_timeout": 10, "tcp_user_timeout": 30_000}
_OPTIONS = "-c synchronous_commit=on -c lock_timeout=60s"

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "glusterfs", "ceph", "lustre", "afs"})
_MOUNTS = Path("/proc/self/mounts")
_DRIVERS = {"sqlite": "sqlite", "postgresql": "psycopg", "postgres": "psycopg"}


@contextmanager
def opening(url: str) -> Generator[None]:
    """Turns what the database says of a place it cannot open into a ConfigurationError that names the place."""
    problem = ""
    try:
        yield
    except (OSError, DBAPIError) as error:
        origin = error.orig if isinstance(error, DBAPIError) else error
        problem = str(origin).strip().splitlines()[0]
    if problem:
        raise ConfigurationError(f"the store {_parse(url).render_as_string()} cannot be opened: {problem}")


def open_engine(url: str, *, alone: bool = False) -> sa.Engine:
    """An engine for `sqlite:///path` or `postgresql+psycopg://…`; the folder of a SQLite file is made if need be.

    With `alone`, PostgreSQL commits every statement by itself and its connections are not tried before they are used.

    Raises ConfigurationError for any other URL, a missing driver, and SQLite on a network file system.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        return _sqlite(parsed)
    try:
        from classifaily_connectors.store import columns

        columns.register()
        return sa.create_engine(
            parsed,
            pool_pre_ping=not alone,
            **({"isolation_level": "AUTOCOMMIT"} if alone else {}),
            hide_parameters=True,
            connect_args={"options": _OPTIONS, **_REACH},
        )
    except ImportError:
        driver = parsed.get_driver_name()
    raise ConfigurationError(f"no driver {driver!r} for the store: pip install 'classifaily-connectors[postgres]'")


async def connect(url: str | sa.URL) -> AsyncConnection:
    """A connection to PostgreSQL that belongs to the event loop, and commits every statement by itself."""
    import psycopg

    # Read by SQLAlchemy as an engine's is: its URLs say some things in other words than libpq's, such as several hosts.
    parsed = _parse(url)
    words, options = parsed.get_dialect()().create_connect_args(parsed)
    return await psycopg.AsyncConnection.connect(
        *words, **{**options, "autocommit": True, "options": _OPTIONS, **_REACH}
    )


def _parse(url: str | sa.URL) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() not in _DRIVERS:
        raise ConfigurationError("the store URL must start with sqlite:/// or postgresql+psycopg://")
    return parsed


def _sqlite(url: sa.URL) -> sa.Engine:
    if not url.database or url.database == ":memory:":
        raise ConfigurationError("a ledger in memory forgets what was paid: use sqlite:///path/to/ledger.db")
    path = Path(url.database).expanduser().absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = file_system(path.parent)
    if kind in _NETWORK:
        raise ConfigurationError(
            f"SQLite cannot lock safely on {kind} ({path.parent}): put the ledger on a local disk, or on PostgreSQL"
        )
    # Connections are made and used by one thread at a time; the ledger serialises them itself.
    engine = sa.create_engine(
        url.set(database=str(path)),
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
    )
    sa_event.listen(engine, "connect", _on_connect)
    sa_event.listen(engine, "begin", _on_begin)
    forks.put_away(engine, sa.Engine.dispose)
    return engine


def _on_connect(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own transactions begin late and deferred, which lets two writers meet half-way: we begin ourselves.
    connection.isolation_level = None
    _use_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")
    # In pages of 4 KB: keys fall on pages at random, and the longer a checkpoint waits, the fewer it writes twice.
    connection.execute("PRAGMA wal_autocheckpoint=4000")


def _use_wal(connection: sqlite3.Connection) -> None:
    # Changing the journal needs the file alone, and SQLite does not wait for that: two openers of a new file meet here.
    until = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _on_begin(connection: sa.Connection) -> None:
    mode = connection.get_execution_options().get("classifaily_begin", "IMMEDIATE")
    if mode is not None:
        connection.exec_driver_sql(f"BEGIN {mode}")


def file_system(folder: Path, mounts: Path | None = None) -> str:
    """The kind of file system `folder` lies on, e.g. "ext4"; empty where the system does not tell."""
    try:
        lines = (mounts or _MOUNTS).read_text().splitlines()
    except OSError:
        return ""
    target = os.path.realpath(folder)
    best, kind = "", ""
    for line in lines:
        _device, mount, name, *_ = line.split(" ")
        place = mount.replace("\\040", " ")
        inside = target == place or target.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, kind = place, name
    return kind


def insert(engine: sa.Engine, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT; both databases have it, each in its dialect."""
    dialect = import_module(f"sqlalchemy.dialects.{engine.dialect.name}")
    return dialect.insert(table)
