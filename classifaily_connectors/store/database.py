"""Opening the database.

The law of this file: what is committed survives the power cut (SQLite: WAL and synchronous=FULL; PostgreSQL:
synchronous_commit=on), and a place that cannot promise that is refused: SQLite on a network file system, or in a file
that is mounted by itself, whose log would lie outside of the mount.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from classifaily_connectors.errors import ConfigurationError, MissingPackageError, StoreError
from classifaily_connectors.store import forks
from classifaily_connectors.store.address import FORMS, SQLITE, VARIABLE, shown, store_url

try:
    import sqlalchemy as sa
    import sqlalchemy.event as sa_event
    from sqlalchemy.exc import ArgumentError, InvalidatePoolError
except ImportError:
    raise MissingPackageError(
        "the ledger needs SQLAlchemy: pip install 'classifaily-connectors[store]' (or [postgres])"
    ) from None

from classifaily_connectors.store.trouble import is_foreign, store_error

if TYPE_CHECKING:
    from psycopg import AsyncConnection
    from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT = 30.0
"""Seconds a writer waits for another one."""

# SQLite's locks and its shared memory need one machine, and a kernel that keeps both. Of what goes through FUSE, only
# what is known to lie on a local disk is taken.
_NETWORK = frozenset(
    {
        "nfs",
        "nfs3",
        "nfs4",
        "cifs",
        "smb2",
        "smb3",
        "smbfs",
        "9p",
        "glusterfs",
        "ceph",
        "lustre",
        "afs",
        "beegfs",
        "gpfs",
    }
    | {
        "coda",
        "ncpfs",
        "orangefs",
        "pvfs2",
        "panfs",
        "wekafs",
        "davfs",
        "vboxsf",
        "vmhgfs",
        "prl_fs",
        "juicefs",
        "s3fs",
    }
)
_LOCAL_FUSE = frozenset(
    f"fuse.{name}"
    for name in (
        *("fuse-overlayfs", "overlayfs", "ntfs", "ntfs-3g", "exfat", "exfat-fuse", "ext2", "ext3", "ext4", "fuse-ext2"),
        *("bindfs", "encfs", "gocryptfs", "cryfs", "securefs", "mergerfs", "unionfs", "lxcfs", "btrfs", "zfs"),
    )
)
_MOUNTS = Path("/proc/self/mounts")
_ESCAPED = re.compile(r"\\([0-7]{3})")


@contextmanager
def opening(url: str) -> Generator[None]:
    """Turns what the database says of a place it cannot open into a StoreUnavailableError that names the place."""
    problem: Exception | None = None
    try:
        yield
    except Exception as error:
        if not is_foreign(error):
            raise
        problem = store_error(url, error, opening=True)
    if problem:
        raise problem from None


def open_engine(url: str | os.PathLike[str], *, alone: bool = False, file: StoreFile | None = None) -> sa.Engine:
    """An engine for `sqlite:///path` or `postgresql+psycopg://…`; the folder of a SQLite file is made if need be.

    With `alone`, PostgreSQL commits every statement by itself and its connections are not tried before they are used.

    Raises ConfigurationError for any other URL, a missing driver, and a place where SQLite is not safe.
    """
    parsed = _parse(url)
    if parsed.get_backend_name() == "sqlite":
        with opening(f"{SQLITE}{parsed.database}"):
            return _closing(_sqlite(file or StoreFile(str(parsed.database))))
    try:
        from classifaily_connectors.store.postgres import engine_for

        return engine_for(parsed, alone=alone)
    except ImportError:
        pass
    raise ConfigurationError("no driver for the store: pip install 'classifaily-connectors[postgres]'")


def _closing(engine: sa.Engine) -> sa.Engine:
    """`engine`, whose `dispose` ends also the connections that are in use: as soon as they come back."""

    def on_connect(_connection: Any, entry: ConnectionPoolEntry) -> None:
        entry.info["pool"] = engine.pool

    def on_checkin(connection: Any, entry: ConnectionPoolEntry) -> None:
        if connection is not None and entry.info["pool"] is not engine.pool:
            connection.close()

    sa_event.listen(engine, "connect", on_connect)
    sa_event.listen(engine, "checkin", on_checkin)
    return engine


async def connect(url: str | sa.URL) -> AsyncConnection:
    """A connection to PostgreSQL that belongs to the event loop, and commits every statement by itself."""
    from classifaily_connectors.store import postgres

    return await postgres.connect(_parse(url) if isinstance(url, str) else url)


def _parse(url: str | os.PathLike[str]) -> sa.URL:
    text = store_url(url)
    try:
        return sa.make_url(text)
    except (ArgumentError, ValueError):
        pass
    raise ConfigurationError(f"the store URL {shown(text)} cannot be read; it must be like {FORMS}")


class StoreFile:
    """The file of a SQLite store, and whether it still is the one that a connection has open.

    Once it was `made`, nobody makes another one in its place: a store whose file is gone is not an empty store.
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser().absolute()
        self.made = False

    def check_place(self) -> None:
        """Make the folder. Raises ConfigurationError where SQLite is not safe."""
        real = Path(os.path.realpath(self.path))
        real.parent.mkdir(parents=True, exist_ok=True)
        kind = file_system(real.parent)
        if kind in _NETWORK or (kind.startswith("fuse.") and kind not in _LOCAL_FUSE):
            raise ConfigurationError(
                f"SQLite cannot lock safely on {kind} ({real.parent}): put the ledger on a local disk, or on PostgreSQL"
                f" ({VARIABLE})"
            )
        if any(place == str(real) for place, _kind in _mounts()):
            raise ConfigurationError(
                f"the store's file {self.path} is mounted by itself, and what SQLite writes beside it would be lost: "
                "mount its folder instead"
            )

    def connect(self, **options: Any) -> sqlite3.Connection:
        """A connection of the driver."""
        mode = "rw" if self.made else "rwc"
        connection: sqlite3.Connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode={mode}", uri=True, **options
        )
        return connection

    def seen(self) -> tuple[int, int] | None:
        """What is there now: a file's own number; None when nothing is."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def error(self, error: Exception) -> StoreError:
        """Our error for the database's."""
        gone = self.made and self.seen() is None
        return self.moved() if gone else store_error(f"{SQLITE}{self.path}", error)

    def moved(self) -> StoreError:
        """The error for what was written into a file that is no longer the store's."""
        return StoreError(
            f"the store's file {self.path} was moved, replaced or deleted while it was open: what was just written is "
            "not in it; put the file back",
            passing=True,
        )


def _sqlite(file: StoreFile) -> sa.Engine:
    file.check_place()
    # Connections are made and used by one thread at a time; the ledger serialises them itself.
    engine = sa.create_engine(f"sqlite:///{file.path}", hide_parameters=True)

    def connect(_dialect: sa.Dialect, _entry: ConnectionPoolEntry, _words: Any, _options: Any) -> sqlite3.Connection:
        return file.connect(timeout=BUSY_TIMEOUT, check_same_thread=False)

    def on_connect(connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        _on_connect(connection, entry)
        entry.info["file"] = file.seen()

    def on_checkout(_connection: sqlite3.Connection, entry: ConnectionPoolEntry, _proxy: Any) -> None:
        if entry.info["file"] != file.seen():
            raise InvalidatePoolError("another file is there now")

    sa_event.listen(engine, "do_connect", connect)
    sa_event.listen(engine, "connect", on_connect)
    sa_event.listen(engine, "checkout", on_checkout)
    sa_event.listen(engine, "begin", _on_begin)
    forks.put_away(engine, sa.Engine.dispose)
    return engine


def _on_connect(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    # The driver's own transactions begin late and deferred, which lets two writers meet half-way: we begin ourselves.
    connection.isolation_level = None
    try:
        _use_wal(connection)
        connection.execute("PRAGMA synchronous=FULL")
        # In pages of 4 KB: keys fall on pages at random, and the longer a checkpoint waits, the fewer it writes twice.
        connection.execute("PRAGMA wal_autocheckpoint=4000")
    except BaseException:
        connection.close()  # nobody else knows of it yet
        raise


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
    target = os.path.realpath(folder)
    best, kind = "", ""
    for place, name in _mounts(mounts):
        inside = target == place or target.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best):
            best, kind = place, name
    return kind


def _mounts(mounts: Path | None = None) -> Generator[tuple[str, str]]:
    """Where something is mounted, and of which kind it is."""
    try:
        lines = (mounts or _MOUNTS).read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        _device, place, kind, *_ = line.split(" ")
        yield _ESCAPED.sub(lambda found: chr(int(found[1], 8)), place), kind


def insert(engine: sa.Engine, table: sa.Table) -> Any:
    """An INSERT that knows ON CONFLICT; both databases have it, each in its dialect."""
    dialect = import_module(f"sqlalchemy.dialects.{engine.dialect.name}")
    return dialect.insert(table)
