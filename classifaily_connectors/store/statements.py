"""The statements that every batch pays for, each over many rows at once.

The law of this file: a batch is one step of the database however many rows it has, because a driver that steps row by
row hands the interpreter over between rows and holds up the requests under way. The text is made once per number of
rows; both databases understand it, only the mark of a parameter differs.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, TypeVar

from classifaily_connectors.store.entry import Entry

if TYPE_CHECKING:
    import sqlalchemy as sa

T = TypeVar("T")
SLICE = 500
"""Rows in one statement: below every database's limit of parameters."""

_LOOKUP = """
SELECT key, state, run_id, claimed_at, settled_at, job_id, answer FROM classifaily_entry WHERE key IN ({rows})
"""
_CLAIM = """
INSERT INTO classifaily_entry (key, namespace, state, run_id, claimed_at)
SELECT v.column1, {mark}, 'open', {mark}, {mark} FROM (VALUES {rows}) AS v WHERE true ON CONFLICT DO NOTHING
"""
_WON = "SELECT key FROM classifaily_entry WHERE run_id = {mark} AND claimed_at = {mark} AND key IN ({rows})"
_FINISH = """
UPDATE classifaily_entry SET state = 'done', settled_at = {mark}, answer = v.column2
FROM (VALUES {rows}) AS v WHERE key = v.column1
"""


def lookup(connection: sa.Connection, keys: Collection[bytes]) -> Iterator[Entry]:
    """The entries of those `keys` that have one."""
    for part in slices(list(keys)):
        statement = text(_LOOKUP, connection.dialect.name, len(part), 1)
        for row in connection.exec_driver_sql(statement, tuple(part)):
            yield Entry(*row)


def claim(
    connection: sa.Connection, keys: Collection[bytes], *, namespace: str, run_id: str, now: float
) -> Iterator[bytes]:
    """Insert open entries for those `keys` that have none, which are the ones that come back."""
    # Sorted, so that two claimants of overlapping keys cannot wait for each other in a circle.
    for part in slices(sorted(keys)):
        statement = text(_CLAIM, connection.dialect.name, len(part), 1)
        if connection.exec_driver_sql(statement, (namespace, run_id, now, *part)).rowcount == len(part):
            yield from part
        else:
            statement = text(_WON, connection.dialect.name, len(part), 1)
            yield from connection.exec_driver_sql(statement, (run_id, now, *part)).scalars()


def finish(connection: sa.Connection, answers: Mapping[bytes, str], *, now: float) -> int:
    """Give entries their answers; how many there were."""
    written = 0
    for part in slices(sorted(answers.items())):
        statement = text(_FINISH, connection.dialect.name, len(part), 2)
        written += connection.exec_driver_sql(statement, (now, *chain.from_iterable(part))).rowcount
    return written


def slices(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    """`rows` in parts of at most `SLICE`."""
    for start in range(0, len(rows), SLICE):
        yield rows[start : start + SLICE]


@functools.lru_cache(maxsize=512)
def text(statement: str, dialect: str, rows: int, width: int) -> str:
    """`statement` for so many `rows` of so many parameters, with the dialect's own marks."""
    mark = "?" if dialect == "sqlite" else "%s"
    row = f"({','.join([mark] * width)})"
    return statement.format(mark=mark, rows=",".join([row] * rows))
