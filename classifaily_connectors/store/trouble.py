"""What a database's error means, in our words.

The law of this file: no error of SQLAlchemy, psycopg or sqlite3 leaves a store. Ours names the store without its
password, says what happened and what to do, and whether it may pass.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError, SQLAlchemyError, StatementError

from classifaily_connectors.errors import StoreError, StoreUnavailableError
from classifaily_connectors.redaction import url_secrets
from classifaily_connectors.store.address import VARIABLE, shown

FOREIGN = (SQLAlchemyError, sqlite3.Error, OSError)
"""What a store may raise by itself; psycopg's errors come wrapped, or are known by `sqlstate`."""


class Trouble(NamedTuple):
    """What happened, what to do, whether it may pass by itself, and whether only another connection can help."""

    what: str
    advice: str
    passing: bool = True
    elsewhere: bool = False


_LOCKED = Trouble("is locked", "another process holds it for long; try again")
_READ_ONLY = Trouble("is read-only", "point to the writable server, or make the file writable", elsewhere=True)
_FULL = Trouble("is full", "make room on its disk")
_DAMAGED = Trouble(
    "is damaged", "restore it from a backup, or recover what can be read with its database's tools", False
)
_DISK = Trouble("cannot be read or written", "look at its disk")
_REACH = Trouble("cannot be reached", "look at its server and the way to it")
_REFUSED = Trouble("refuses us", "look at the user, the password and what they may do there", False)
_MISSING = Trouble("is missing, or the file is not allowed", "look at its path and permissions, or restore it", False)
_EMPTY = Trouble(
    "has lost its tables", "another one took its place: restore it, or open it anew to begin with nothing", False
)
_BUSY = Trouble("does not come to an end", "its server is overloaded or shutting down; try again")
_DEFECT = Trouble("does not take this", "see what it says", False)

_SQLITE = {
    sqlite3.SQLITE_BUSY: _LOCKED,
    sqlite3.SQLITE_LOCKED: _LOCKED,
    sqlite3.SQLITE_PROTOCOL: _LOCKED,
    sqlite3.SQLITE_READONLY: _READ_ONLY,
    sqlite3.SQLITE_FULL: _FULL,
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
    sqlite3.SQLITE_IOERR: _DISK,
    sqlite3.SQLITE_NOMEM: _BUSY,
    sqlite3.SQLITE_CANTOPEN: _MISSING,
    sqlite3.SQLITE_PERM: _MISSING,
    sqlite3.SQLITE_AUTH: _MISSING,
}
# By code, or by class (the first two characters): https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRESQL = {
    "08": _REACH,
    "25006": _READ_ONLY,
    "28": _REFUSED,
    "3D": _REFUSED,
    "3F": _EMPTY,
    "40": _LOCKED,
    "42501": _REFUSED,
    "42P01": _EMPTY,
    "53": _BUSY,
    "53100": _FULL,
    "55": _LOCKED,
    "57": _BUSY,
    "58": _DISK,
    "XX": _DISK,
    "XX001": _DAMAGED,
    "XX002": _DAMAGED,
}


def is_foreign(error: BaseException) -> bool:
    """Whether `error` is a database's, or a disk's."""
    return isinstance(error, FOREIGN) or hasattr(error, "sqlstate")


def trouble_of(error: BaseException) -> Trouble:
    """What a database's error means."""
    origin = _origin(error)
    if isinstance(origin, OSError):
        return _DISK
    if isinstance(origin, sqlite3.Error):
        code = getattr(origin, "sqlite_errorcode", None) or 0
        if code == sqlite3.SQLITE_ERROR and "no such table" in str(origin):
            return _EMPTY
        return _SQLITE.get(code & 0xFF, _DEFECT)
    if hasattr(origin, "sqlstate"):
        state: str | None = getattr(origin, "sqlstate", None)
        if state is None:  # not the server's word: the connection is lost, or was never made
            name = type(origin).__name__
            return _REACH if name in ("OperationalError", "InterfaceError", "ConnectionTimeout") else _DEFECT
        return _POSTGRESQL.get(state) or _POSTGRESQL.get(state[:2], _DEFECT)
    return _REACH if type(origin).__name__ == "TimeoutError" else _DEFECT  # SQLAlchemy's, for a connection


def store_error(url: str, error: BaseException, *, opening: bool = False) -> StoreError:
    """The error to raise for a database's `error`."""
    trouble = trouble_of(error)
    kind, what, advice = StoreError, trouble.what, trouble.advice
    if opening:
        kind, what = StoreUnavailableError, "cannot be opened"
        advice = f"{advice}, or choose another place ({VARIABLE})"
    detail = _first_line(_origin(error))
    for secret in url_secrets(url):
        detail = detail.replace(secret, "***")
    return kind(f"the store {shown(url)} {what}: {detail}; {advice}", passing=trouble.passing)


def _origin(error: BaseException) -> BaseException:
    if isinstance(error, DBAPIError | StatementError) and error.orig is not None:
        return error.orig
    return error


def _first_line(error: BaseException) -> str:
    # What follows the first line may quote values, and SQLAlchemy's own text the statement.
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
