"""Broken networks, stores and tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.faults.conftest import Exchange

SECRET = "hunter2-and-more"
"""Stands in the store's password and in a signed URL: no error may show it."""


def _raw(text: bytes) -> Callable[[Exchange], None]:
    def act(exchange: Exchange) -> None:
        exchange.sock.sendall(text)
        exchange.close()

    return act


def _cut(exchange: Exchange) -> None:
    exchange.sock.sendall(exchange.response()[:-20])
    exchange.close()


def _answer(status: int, body: Any, **headers: str) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.answer(status, body, **headers)


def _silence(exchange: Exchange) -> None:
    exchange.over.wait(0.4)


NETWORK: dict[str, Callable[[Exchange], None]] = {
    "reset": lambda exchange: exchange.reset(),
    "closed": lambda exchange: exchange.close(),
    "cut answer": _cut,
    "silence": _silence,
    "no HTTP": _raw(b"\x16\x03\x01\x02\x00 nonsense\r\n\r\n"),
    "HTTP/9": _raw(b"HTTP/9.9 777 What\r\n\r\n"),
    "endless header": _raw(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 300_000 + b"\r\n\r\n"),
    "wrong length": _raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"),
    "broken chunks": _raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n{}\r\n"),
    "broken gzip": _answer(200, b"\x1f\x8b\x08\x00nonsense", Content_Encoding="gzip"),
    "HTML 502": _answer(502, b"<html><body>Bad Gateway</body></html>", Content_Type="text/html"),
    "HTML 200": _answer(200, b"<html>welcome to the hotel's network</html>", Content_Type="text/html"),
    "empty 200": _answer(200, b""),
    "null": _answer(200, b"null"),
    "a list": _answer(200, b"[1, [2], null]"),
    "a number": _answer(200, b"17"),
    "deep": _answer(200, b'{"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "no Unicode": _answer(200, b'{"id": "\xff\xfe"}'),
    "half a pair": _answer(200, b'{"id": "\\ud83d", "result": {"label": "\\ud83d"}}'),
    "redirect": lambda exchange: exchange.answer(302, b"", Location="http://127.0.0.1:9/elsewhere"),
    "endless redirect": lambda exchange: exchange.answer(307, b"", Location=exchange.head.split()[1].decode()),
    "401": _answer(401, {"error": "invalid key"}),
    "403": _answer(403, {"error": {"code": "plan_restriction", "message": "not in your plan"}}),
    "404": _answer(404, b"not found"),
    "405": _answer(405, b""),
    "407": _answer(407, b"proxy login"),
    "413": _answer(413, b""),
    "418": _answer(418, {"error": ["a", "list"]}),
    "429": _answer(429, {"error": {"code": "quota_exceeded", "message": "quota exceeded"}}),
    "500": _answer(500, {"error": 7}),
    "503": _answer(503, b"", Retry_After="never"),
}
"""What becomes of every request, by name; connections that cannot be made are tried beside these."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another process holds the file, as far as SQLite can tell."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def a_folder(path: Path) -> None:
    """A folder stands where the file should be."""
    path.mkdir()


def no_database(path: Path) -> None:
    """Another program's file."""
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 64)


def cut_off(path: Path) -> None:
    """The first pages of a database."""
    made(path)
    path.write_bytes(path.read_bytes()[:5000])


def other_tables(path: Path) -> None:
    """A database whose tables have our names and not our columns."""
    with sqlite3.connect(path) as connection:
        for name in ("classifaily_ledger", "classifaily_run", "classifaily_schema", "classifaily_delivery"):
            connection.execute(f"CREATE TABLE {name} (something TEXT)")
    connection.close()


def made(path: Path) -> None:
    """A store that is as it should be."""
    from classifaily_connectors.store import Inbox, Ledger

    with Ledger(path), Inbox(path):
        pass


FILES = (a_folder, no_database, cut_off, other_tables)
STORE_URLS = (
    f"postgresql+psycopg://user:{SECRET}@127.0.0.1:9/none",
    f"postgresql://user@127.0.0.1:9/none?password={SECRET}",
    f"mysql://user:{SECRET}@127.0.0.1/none",
    f"oracle+nothing://user:{SECRET}@127.0.0.1/none",
    f"postgresql://user:{SECRET}@127.0.0.1:port/none",
    "sqlite:////proc/store.db",
    "s3://bucket/store.db",
    "not a url",
    "",
    "\0",
)


def _written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def tables(folder: Path) -> Iterator[tuple[str, Any]]:
    """Sources that are broken, by name."""
    yield "missing", folder / "missing.csv"
    yield "a folder of nothing", folder
    for ending in ("csv", "tsv", "jsonl", "json", "parquet", "xlsx", "csv.gz", "jsonl.zst", "csv.xz", "csv.bz2"):
        yield f"noise.{ending}", _written(folder, f"noise.{ending}", b"\x00\xff\xfe\x01noise" * 400)
        yield f"empty.{ending}", _written(folder, f"empty.{ending}", b"")
    yield "no Unicode", _written(folder, "latin.csv", b"body\ncaf\xe9\n")
    yield "cut JSON", _written(folder, "cut.jsonl", b'{"body": "a"}\n{"body": ')
    yield "no rows of objects", _written(folder, "lists.jsonl", b"[1, 2]\n3\n")
    yield "no such column", _written(folder, "other.csv", b"subject\na\n")
    yield "unknown ending", _written(folder, "table.docx", b"PK")
    yield "signed URL", f"http://127.0.0.1:9/table.csv?X-Amz-Signature={SECRET}"
    yield "unknown scheme", "gopher://host/table.csv"
    yield "a number", 17
    yield "nothing", None
    yield "an object", object()
    yield "numbers", [1, 2, 3]
    yield "a text", "body"
    yield "a mapping", {"body": "text"}
    yield "too long a name", "x" * 5000 + ".csv"
    yield "a zero byte", "a\0b.csv"


def outputs(folder: Path) -> Iterator[tuple[str, Any]]:
    """Targets that cannot be written, by name."""
    (folder / "taken.csv").mkdir()
    yield "a folder", folder / "taken.csv"
    yield "below a file", _written(folder, "file.txt", b"") / "out.csv"
    yield "a device", "/proc/out.csv"
    yield "unknown ending", folder / "out.docx"
    yield "unknown scheme", "gopher://host/out.csv"
    yield "signed URL", f"http://127.0.0.1:9/out.csv?X-Amz-Signature={SECRET}"
    yield "too long a name", folder / ("x" * 300 + ".csv")
    yield "a zero byte", "a\0b.csv"
    yield "a number", 17
