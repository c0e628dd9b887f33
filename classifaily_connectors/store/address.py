"""Where a store is: what users write, read as it is meant or refused with the right form; needs no database library.

The law of this file: every door reads a store's address here, and no text that leaves here holds a password.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.redaction import shown_url

VARIABLE = "CLASSIFAILY_STORE_URL"
SQLITE, POSTGRESQL = "sqlite:///", "postgresql+psycopg://"
FORMS = f"{SQLITE}path/to/ledger.db or {POSTGRESQL}user:password@host/database"

_SCHEME = re.compile(r"(sqlite|postgres|postgresql)(\+\w+)?://")
_FORMER_FILE = "classifaily.db"
_FILE_ENDINGS = (".db", ".sqlite", ".sqlite3")
_AUTHORITY = re.compile(r"(?P<user>(?:[^:/?]*)(?::[^@]*)?@)?(?P<hosts>[^/?]*)(?P<rest>.*)", re.DOTALL)


def store_url(given: str | os.PathLike[str]) -> str:
    """The store's URL, in the form that the database library reads.

    `given` is a URL, a path, or the name of a file that ends in .db, .sqlite or .sqlite3 or has a folder. Every
    spelling of PostgreSQL's scheme is read (`postgres://`, `postgresql://`, another driver's), and libpq's forms for
    several hosts and for a socket's folder.

    Raises ConfigurationError for anything else; its message shows no password.
    """
    if isinstance(given, os.PathLike):
        return _of_file(os.fspath(given))
    if not isinstance(given, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # not everybody has a type checker
        raise ConfigurationError(f"the store is given as {type(given).__name__}; it must be a URL or a path: {FORMS}")
    text = given.strip()
    if "://" not in text:
        named = text.endswith(_FILE_ENDINGS) or os.sep in text
        if named and "=" not in text and not text.startswith(("sqlite:", "postgres", "file:")):
            return _of_file(text)
        raise ConfigurationError(f"the store URL must start with {SQLITE} or {POSTGRESQL}: {FORMS}")
    found = _SCHEME.match(text)
    if found is None:
        raise ConfigurationError(f"the store URL must start with {SQLITE} or {POSTGRESQL}: {FORMS}")
    rest = text[found.end() :]
    return _sqlite(rest) if found[1] == "sqlite" else _postgresql(rest)


def default_store(
    given: str | os.PathLike[str] | None = None, *, former_home: str | os.PathLike[str] | None = None
) -> str:
    """The store's URL: `given`, else CLASSIFAILY_STORE_URL, else a file in the user's state folder.

    The command line and every platform ask here, so that what one of them has paid for the others of this user on this
    machine do not pay for again. The file is `classifaily/ledger.db` in XDG_STATE_HOME, by default ~/.local/state.
    `former_home` is the folder in which a platform kept `classifaily.db` before: where that file is, it stays in use,
    because it knows what was paid.

    Raises ConfigurationError for what is no store, and when there is no home folder to keep it in.
    """
    if given:
        return store_url(given)
    if named := os.environ.get(VARIABLE):
        return store_url(named)
    try:
        if former_home and (former := Path(former_home).expanduser() / _FORMER_FILE).is_file():
            return _of_file(former)
        return _of_file(Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "classifaily" / "ledger.db")
    except (ConfigurationError, RuntimeError):
        pass
    raise ConfigurationError(f"there is no home folder to keep the ledger in: name a file, or set {VARIABLE}")


def is_postgresql(url: str) -> bool:
    """Whether a URL that `store_url` gave is PostgreSQL's."""
    return url.startswith(POSTGRESQL)


def shown(url: str) -> str:
    """The URL as it may be shown: without the password, and without options, which may hold one."""
    return shown_url(url.partition("?")[0] if is_postgresql(url) else url)


def _of_file(path: str | os.PathLike[str]) -> str:
    name = os.fspath(path)
    if "?" in name:
        raise ConfigurationError("the store's file has a question mark in its name: choose a name without one")
    try:
        return f"{SQLITE}{Path(name).expanduser().absolute()}"
    except RuntimeError:  # no home folder
        pass
    raise ConfigurationError(
        f"~ in the store's path names no home folder here: write the whole path, or set {VARIABLE}"
    )


def _sqlite(rest: str) -> str:
    place, _, options = rest.partition("?")
    if options:
        name = options.partition("=")[0]
        raise ConfigurationError(f"the store URL has an option {name!r}, and {SQLITE} takes none: leave it out")
    if place and not place.startswith("/"):
        raise ConfigurationError(f"a SQLite store has three slashes before a relative path, four before /: {SQLITE}…")
    if place in ("", "/", "/:memory:"):
        raise ConfigurationError(f"a ledger in memory forgets what was paid: use {SQLITE}path/to/ledger.db")
    if place.startswith("/file:"):
        raise ConfigurationError(f"the store URL holds a file: URL; write the path itself: {SQLITE}path/to/ledger.db")
    return f"sqlite://{place}"


def _postgresql(rest: str) -> str:
    parts = _AUTHORITY.fullmatch(rest)
    user, hosts, rest = (parts["user"] or "", parts["hosts"], parts["rest"]) if parts else ("", "", rest)
    if "@" in hosts or (not user and "@" in rest.partition("?")[0]):
        raise ConfigurationError("the store URL has more than one @: write those of the password as %40, / as %2F")
    if "," in hosts or hosts[:3].upper() == "%2F":
        # libpq's own forms; the database library reads hosts from the options.
        said = "&".join(f"host={quote(unquote(each), safe='/:[]')}" for each in hosts.split(","))
        path, mark, options = rest.partition("?")
        return f"{POSTGRESQL}{user}{path}?{said}{'&' if mark else ''}{options}"
    port = hosts.rpartition("]")[2].partition(":")[2]
    if port and not port.isdecimal():
        raise ConfigurationError("the port in the store URL is no number; is a : or / of the password not encoded?")
    return f"{POSTGRESQL}{user}{hosts}{rest}"
