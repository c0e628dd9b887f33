"""Columns of values as PostgreSQL reads them.

The law of this file: a column is one parameter in the protocol's binary form of an array (array_recv), which costs a
fraction of what psycopg takes: it goes through a list in Python, with a call for each of its values.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from psycopg import adapters
from psycopg.adapt import Dumper
from psycopg.pq import Format

Element = Literal["text", "bytea", "float8"]

_HEAD = struct.Struct("!5i").pack  # dimensions, whether there are NULLs, the element's type, length, lower bound
_SIZE = struct.Struct("!i").pack
_NULL = _SIZE(-1)
_ELEMENTS: Mapping[Element, tuple[int, Callable[[Any], bytes]]] = {
    "text": (25, str.encode),
    "bytea": (17, bytes),
    "float8": (701, struct.Struct("!d").pack),
}


class Column(bytes):
    """An array in its binary form; the statement says which by a cast."""


def pack(element: Element, values: Iterable[object]) -> Column:
    """A column of `values`, some of which may be None. PostgreSQL has no room for a NUL character in a text."""
    oid, form = _ELEMENTS[element]
    parts: list[bytes] = []
    count = 0
    for count, value in enumerate(values, 1):  # noqa: B007  # counted
        if value is None:
            parts.append(_NULL)
        else:
            packed = form(value)
            parts += _SIZE(len(packed)), packed
    return Column(_HEAD(1, 1, oid, count, 1) + b"".join(parts))


def register() -> None:
    """Let the connections that psycopg makes from now on send columns."""
    adapters.register_dumper(Column, _AsItIs)


class _AsItIs(Dumper):
    format = Format.BINARY

    def dump(self, obj: Column) -> Column:
        return obj
