"""How a batch of arrivals gets into the inbox: what is asked of the database, and what its answer means.

The law of this file: a batch of which all is new is one statement however many rows it has, for the reason told in
`statements`, and a transaction by itself. The first body under a name (source, job, event) is the delivery; the
same once more is counted; another one is kept beside it, and both are in `conflict` until the job has been asked.
What is counted or contested is one transaction; should it be lost, nobody was told, and the sender comes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from classifaily_connectors.store.delivery import CHANNEL
from classifaily_connectors.store.statements import text

if TYPE_CHECKING:
    import sqlalchemy as sa

    from classifaily_connectors.store.columns import Element
    from classifaily_connectors.store.delivery import Arrival, Landed

Statement = tuple[str, tuple[object, ...]]
"""A statement in the driver's own words, and its values."""
Name = tuple[str, str, str]
"""Source, job id and event, in the order of the index."""

_COLUMNS = "source, event, job_id, digest, received_at, sent_at, body"
"""The fields of an arrival, in their order."""
_INSERT = f"""
INSERT INTO classifaily_delivery ({_COLUMNS}, state, variant)
SELECT arrival.*, coalesce({{mark}}, CASE column2 WHEN '' THEN 'dead' ELSE 'ok' END), {{mark}}
FROM (VALUES {{rows}}) AS arrival WHERE true ON CONFLICT DO NOTHING
"""  # noqa: S608  # our own words
_LOCK = "pg_advisory_xact_lock(3247780347)"
TAKE_TURN = f"SELECT {_LOCK}, set_config('idle_in_transaction_session_timeout', '60s', true)"
"""On PostgreSQL writers take turns until their commit. NOTIFY makes commits queue up anyway; this makes the queue begin
before the first row has its number. Whoever dies while holding the turn gives it back within the minute."""
NOTIFY = f"SELECT pg_notify('{CHANNEL}', '')"
# All that PostgreSQL has to do for a batch, in one exchange: the turn comes before the numbers, as a row can only be
# numbered once it is joined to it. It takes a column at a time. Equal notifications of one transaction are one.
# What `postgres` sets in every transaction: this one begins and ends with the statement.
_SET = "set_config('synchronous_commit', 'on', true), set_config('lock_timeout', '10s', true)"
_TYPES: tuple[Element, ...] = ("text", "text", "text", "bytea", "float8", "float8", "bytea")
_INSERT_IN_TURN = f"""
WITH turn AS MATERIALIZED (SELECT {_SET}, {_LOCK}),
     arrival AS (SELECT * FROM unnest({", ".join(f"%b::{each}[]" for each in _TYPES)}) AS arrival ({_COLUMNS})),
     landed AS (INSERT INTO classifaily_delivery ({_COLUMNS}, state, variant)
                SELECT arrival.*, coalesce(%b, CASE event WHEN '' THEN 'dead' ELSE 'ok' END), %b FROM turn, arrival
                ON CONFLICT DO NOTHING RETURNING seq)
SELECT coalesce(min(seq), 0), coalesce(max(seq), -1), CASE WHEN count(*) > 0 THEN pg_notify('{CHANNEL}', '') END
FROM landed
"""  # noqa: S608  # our own words
# What was just inserted has numbers in a row, as nobody else had the turn.
_KNOWN = """
SELECT source, job_id, event, digest FROM classifaily_delivery
WHERE NOT seq BETWEEN {mark} AND {mark} AND variant = '' AND (source, job_id, event) IN (VALUES {rows})
"""
_REPEAT = """
UPDATE classifaily_delivery SET repeats = repeats + {mark}
WHERE source = {mark} AND job_id = {mark} AND event = {mark} AND variant = {mark}
"""
_CONTEST = """
UPDATE classifaily_delivery SET state = 'conflict' WHERE source = {mark} AND job_id = {mark} AND event = {mark}
"""


class Batch:
    """Arrivals on their way in."""

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        self._arrivals = arrivals
        self._firsts: dict[Name, Arrival] = {}
        for each in arrivals:
            self._firsts.setdefault((each.source, each.job_id, each.event), each)

    def insertion(self, dialect: str) -> Statement:
        """What inserts one arrival under each name that has none, and wakes PostgreSQL's listeners when there is news.

        It is a transaction by itself; `counted` and `told` read the answer.
        """
        return _insertion(dialect, list(self._firsts.values()))

    def landed(self, inserted: range) -> list[Landed] | None:
        """What became of each, once what has the numbers `inserted` is in; None when the rest must be settled."""
        if len(inserted) < len(self._arrivals):
            return None
        return ["new" if each.event else "dead" for each in self._arrivals]

    def settle(self, connection: sa.Connection, inserted: range) -> list[Landed]:
        """Count the repeats, and keep what contradicts; what became of each arrival."""
        known = self._known(connection, inserted) if len(inserted) < len(self._firsts) else {}
        landed: list[Landed] = ["repeat"] * len(self._arrivals)
        for name, by_digest in self._places().items():
            stands = known.get(name)
            for digest, alike in by_digest.items():
                variant, new = "", stands is None
                if stands is None:
                    stands = digest
                    landed[alike[0]] = "new" if name[2] else "dead"
                elif digest != stands:
                    variant, new = digest.hex(), _contest(connection, name, self._arrivals[alike[0]])
                    if new:
                        landed[alike[0]] = "conflict"
                if repeats := len(alike) - new:
                    _run(connection, _REPEAT, (repeats, *name, variant))
        return landed

    def _known(self, connection: sa.Connection, inserted: range) -> dict[Name, bytes]:
        """The digests of the names that had one before."""
        statement = text(_KNOWN, connection.dialect.name, len(self._firsts), 3)
        values = (inserted.start, inserted.stop - 1, *chain.from_iterable(self._firsts))
        rows = connection.exec_driver_sql(statement, values)
        return {(source, job_id, event): digest for source, job_id, event, digest in rows}

    def _places(self) -> dict[Name, dict[bytes, list[int]]]:
        places: dict[Name, dict[bytes, list[int]]] = {name: {} for name in self._firsts}
        for place, each in enumerate(self._arrivals):
            places[each.source, each.job_id, each.event].setdefault(each.digest, []).append(place)
        return places


def land(connection: sa.Connection, insertion: Statement) -> range:
    """The numbers of those arrivals that were not there."""
    cursor = connection.connection.cursor()  # the driver's own: what is in between would double the work of it
    cursor.execute(*insertion)
    return counted(cursor) if connection.dialect.name == "sqlite" else told(cursor.fetchone())


def counted(cursor: Any) -> range:
    """The numbers that SQLite's cursor tells of."""
    return range(cursor.lastrowid - cursor.rowcount + 1, cursor.lastrowid + 1) if cursor.rowcount else range(0)


def told(row: Any) -> range:
    """The numbers in PostgreSQL's answer."""
    first, last, _notified = row
    return range(first, last + 1)


def _insertion(dialect: str, arrivals: Sequence[Arrival], state: str | None = None, variant: str = "") -> Statement:
    # Without a state, they are ok, or dead without an event.
    if dialect == "postgresql":
        from classifaily_connectors.store.columns import pack

        return _INSERT_IN_TURN, (*map(pack, _TYPES, zip(*arrivals, strict=True)), state, variant)
    statement = text(_INSERT, dialect, len(arrivals), len(_TYPES))
    return statement, (state, variant, *chain.from_iterable(arrivals))


def _contest(connection: sa.Connection, name: Name, rival: Arrival) -> bool:
    """Keep another body under a name; whether it is a new one."""
    dialect = connection.dialect.name
    new = bool(land(connection, _insertion(dialect, [rival], "conflict", rival.digest.hex())))
    if new:
        _run(connection, _CONTEST, name)
    return new


def _run(connection: sa.Connection, statement: str, values: Iterable[object]) -> None:
    connection.exec_driver_sql(text(statement, connection.dialect.name, 0, 0), tuple(values))
