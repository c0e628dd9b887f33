"""Stores that cannot be opened, and stores that get into trouble while they are open."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.faults.sweep.networks import answering, refused, unknown_host
from tests.faults.sweep.stage import PASSWORD

if TYPE_CHECKING:
    import pytest

    from tests.faults.sweep.stage import Stage

# --- that cannot be opened -----------------------------------------------------------------------


def _a_folder(path: Path) -> str:
    path.unlink()
    path.mkdir()
    return f"sqlite:///{path}"


def _below_a_file(path: Path) -> str:
    return f"sqlite:///{path}/ledger.db"


def _not_to_be_made(_path: Path) -> str:
    return "sqlite:////proc/no-such-place/ledger.db"


def _junk(path: Path) -> str:
    path.write_bytes(bytes(range(256)) * 64)
    return f"sqlite:///{path}"


def _cut(path: Path) -> str:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 3)
    return f"sqlite:///{path}"


def _of_a_newer_version(path: Path) -> str:
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE classifaily_schema SET version = version + 1000")
    return f"sqlite:///{path}"


def _with_other_tables(path: Path) -> str:
    """Tables that have our names, and not our columns."""
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for name in ("entry", "run", "meter", "delivery", "expectation", "mark", "store", "schema"):
            connection.execute(f"CREATE TABLE classifaily_{name} (something TEXT)")
    return f"sqlite:///{path}"


NO_STORE: dict[str, Callable[[Path], str]] = {
    "a folder": _a_folder,
    "below a file": _below_a_file,
    "where nothing can be made": _not_to_be_made,
    "junk": _junk,
    "cut": _cut,
    "of a newer version": _of_a_newer_version,
    "with other tables": _with_other_tables,
}
"""What a store's file may be turned into, and the URL that then leads nowhere."""
NO_ADDRESS = (
    f"postgresql://user@127.0.0.1:9/none?password={PASSWORD}",
    f"mysql://user:{PASSWORD}@127.0.0.1/none",
    f"oracle+nothing://user:{PASSWORD}@127.0.0.1/none",
    f"postgresql://user:{PASSWORD}@127.0.0.1:port/none",
    f"sqlite:///store.db?password={PASSWORD}",
    "sqlite:////proc/store.db",
    "s3://bucket/store.db",
    "not a url",
    " ",
    "\0",
)
"""What is no store's URL, or leads to none."""


def _url(port: int, host: str = "127.0.0.1") -> str:
    return f"postgresql+psycopg://user:{PASSWORD}@{host}:{port}/ledger"


@contextmanager
def _refusing(patch: pytest.MonkeyPatch) -> Iterator[str]:
    with refused(patch) as url:
        yield _url(int(url.rpartition(":")[2]))


@contextmanager
def _unknown(patch: pytest.MonkeyPatch) -> Iterator[str]:
    with unknown_host(patch):
        yield _url(5432, "api.invalid")


@contextmanager
def _babbling(_patch: pytest.MonkeyPatch) -> Iterator[str]:
    """What answers is no PostgreSQL."""
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        yield _url(port)


@contextmanager
def _hanging_up(_patch: pytest.MonkeyPatch) -> Iterator[str]:
    with answering(b"") as port:
        yield _url(port)


@contextmanager
def _of_another_password(_patch: pytest.MonkeyPatch) -> Iterator[str]:
    """The server's own words of a refusal, which may repeat what was asked for."""
    fields = b'SFATAL\0C28P01\0Mpassword authentication failed for user "user" (' + PASSWORD.encode() + b")\0\0"
    refusal = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields
    with answering(refusal, before=b"N") as port:
        yield _url(port)


NO_SERVER = {
    "refused port": _refusing,
    "DNS failure": _unknown,
    "no PostgreSQL": _babbling,
    "hangs up": _hanging_up,
    "refused password": _of_another_password,
}
"""PostgreSQL that is not there, or not ours; the URL holds a password."""


# --- that get into trouble -----------------------------------------------------------------------


class Connections:
    """Every connection to SQLite that is made obeys one PRAGMA, as soon as it is used again."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        rules = self.rules = [""]
        self._connect = connect = sqlite3.connect

        class Obedient(sqlite3.Connection):
            _obeyed = ""

            def cursor(self, *arguments: Any) -> sqlite3.Cursor:
                if rules[0] != self._obeyed:
                    self._obeyed = rules[0]
                    super().cursor().execute(rules[0])
                return super().cursor(*arguments)

            def execute(self, *arguments: Any) -> sqlite3.Cursor:
                return self.cursor().execute(*arguments)

            def executemany(self, *arguments: Any) -> sqlite3.Cursor:
                return self.cursor().executemany(*arguments)

        def connect_obedient(*words: Any, **options: Any) -> sqlite3.Connection:
            return connect(*words, **{**options, "factory": Obedient, "timeout": 0.01})

        patch.setattr(sqlite3, "connect", connect_obedient)

    def plain(self, path: Path) -> sqlite3.Connection:
        """A connection that obeys nothing."""
        return self._connect(path, isolation_level=None, check_same_thread=False)


class Trouble:
    """Brings the store of a stage into trouble; `end` ends it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._connections = Connections(patch)
        self._stack = ExitStack()

    def end(self) -> None:
        self._stack.close()
        self._connections.rules[0] = ""

    def _open(self, path: Path) -> sqlite3.Connection:
        return self._stack.enter_context(contextlib.closing(self._connections.plain(path)))

    def locked(self, path: Path) -> None:
        self._open(path).execute("BEGIN EXCLUSIVE")

    def full(self, path: Path) -> None:
        pages = self._open(path).execute("PRAGMA page_count").fetchone()[0]
        self._connections.rules[0] = f"PRAGMA max_page_count={pages}"

    def read_only(self, _path: Path) -> None:
        self._connections.rules[0] = "PRAGMA query_only=ON"

    def emptied(self, path: Path) -> None:
        """All its tables are dropped."""
        connection = self._open(path)
        ours = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
        for (name,) in connection.execute(ours).fetchall():
            connection.execute(f"DROP TABLE {name}")

    def garbled(self, path: Path) -> None:
        with path.open("r+b") as file:
            file.write(b"\xff" * path.stat().st_size)
        for each in (path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            each.unlink(missing_ok=True)

    def deleted(self, path: Path) -> None:
        path.unlink()

    def replaced(self, path: Path) -> None:
        """Another file takes its name, as when a backup is put back."""
        other = path.with_name(f"{path.name}.other")
        shutil.copy(path, other)
        other.replace(path)

    def unreachable(self, path: Path) -> None:
        """Its folder is taken away, as when a volume is unmounted."""
        path.parent.rename(path.parent.with_name(f"{path.parent.name} (gone)"))
        path.parent.write_text("no folder any more")


IN_TROUBLE: dict[str, Callable[[Trouble], Callable[[Path], None]]] = {
    "locked": lambda trouble: trouble.locked,
    "full": lambda trouble: trouble.full,
    "read-only": lambda trouble: trouble.read_only,
    "emptied": lambda trouble: trouble.emptied,
    "garbled": lambda trouble: trouble.garbled,
    "deleted": lambda trouble: trouble.deleted,
    "replaced": lambda trouble: trouble.replaced,
    "unreachable": lambda trouble: trouble.unreachable,
}


# --- PostgreSQL behind a wire that can be cut ----------------------------------------------------


class Wire:
    """Stands before a PostgreSQL, and can be cut: what is connected is reset, and nobody is let in any more."""

    def __init__(self, url: str) -> None:
        self._server = urlsplit(url)
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        threading.Thread(target=self._accept, daemon=True).start()
        port = self._listener.getsockname()[1]
        self.url = url.replace(f"@{self._server.hostname}:{self._server.port}", f":{PASSWORD}@127.0.0.1:{port}")

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listener.accept()[0]
                far = socket.create_connection((str(self._server.hostname), self._server.port))
                self._sockets += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._carry, args=(one, other), daemon=True).start()

    @staticmethod
    def _carry(one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def cut(self) -> None:
        for each in (self._listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def cut_wire(stage: Stage, url: str) -> Callable[[], None]:
    """Puts the stage's store behind a wire; what cuts it."""
    wire = Wire(url)
    stage.store = wire.url
    stage.stack.callback(wire.cut)
    return wire.cut
