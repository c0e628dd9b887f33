"""How a batch of arrivals gets into the inbox: the one hot path of the receiver.

The law of this file: a batch of which all is new is one statement however many rows it has, for the reason told in
`statements`, and a transaction by itself. The first body under a name (source, job, event) is the delivery; the
same once more is counted; another one is kept beside it, and both are in `conflict` until the job has been asked.
What is counted or contested is one transaction; should it be lost, nobody was told, and the sender comes again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from classifaily_connectors.store.delivery import CHANNEL
from classifaily_connectors.store.statements import slices, text

if TYPE_CHECKING:
    import sqlalchemy as sa

    from classifaily_connectors.store.delivery import Arrival, Landed

Name = tuple[str, str, str]
"""Source, job id and event, in the order of the index."""

_COLUMNS = "source, event, job_id, digest, received_at, sent_at, body"
"""The fields of an arrival, in their order."""
_INSERT = f"""
INSERT INTO classifaily_delivery ({_COLUMNS}, state, variant) VALUES {{rows}} ON CONFLICT DO NOTHING
"""  # noqa: S608  # our own words
_LOCK = "pg_advisory_xact_lock(3247780347)"
TAKE_TURN = f"SELECT {_LOCK}, set_config('idle_in_transaction_session_timeout', '60s', true)"
"""On PostgreSQL writers take turns until their commit. NOTIFY makes commits queue up anyway; this makes the queue begin
before the first row has its number. Whoever dies while holding the turn gives it back within the minute."""
NOTIFY = f"SELECT pg_notify('{CHANNEL}', '')"
# All that PostgreSQL has to do for a batch, in one exchange: the turn comes before the numbers, as a row can only be
# numbered once it is joined to it. It takes a column at a time, a quarter of the driver's work for a parameter for
# every field. Equal notifications of one transaction are one.
_TYPES = ("text", "text", "text", "bytea", "float8", "float8", "bytea")
_INSERT_IN_TURN = f"""
WITH turn AS MATERIALIZED (SELECT {_LOCK}),
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
    """Arrivals by name and digest, in the order in which they came."""

    def __init__(self, arrivals: Sequence[Arrival]) -> None:
        self._arrivals = arrivals
        self._places: dict[Name, dict[bytes, list[int]]] = {}
        for place, each in enumerate(arrivals):
            self._places.setdefault((each.source, each.job_id, each.event), {}).setdefault(each.digest, []).append(
                place
            )
        self._known: dict[Name, bytes] = {}

    def insert(self, connection: sa.Connection) -> list[Landed] | None:
        """Insert one arrival under each name that has none, and wake PostgreSQL's listeners when there is news.

        What became of each if that was all; else `settle` the rest, in one transaction.
        """
        for part in slices([self._arrivals[next(iter(alike.values()))[0]] for alike in self._places.values()]):
            inserted = _insert(connection, part)
            if len(inserted) < len(part):
                names = chain.from_iterable((each.source, each.job_id, each.event) for each in part)
                statement = text(_KNOWN, connection.dialect.name, len(part), 3)
                values = (inserted.start, inserted.stop - 1, *names)
                for source, job_id, event, digest in connection.exec_driver_sql(statement, values):
                    self._known[source, job_id, event] = digest
        if self._known or len(self._places) < len(self._arrivals):
            return None
        return ["new" if each.event else "dead" for each in self._arrivals]

    def settle(self, connection: sa.Connection) -> list[Landed]:
        """Count the repeats, and keep what contradicts; what became of each arrival."""
        landed: list[Landed] = ["repeat"] * len(self._arrivals)
        for name, by_digest in self._places.items():
            stands = self._known.get(name)
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


def _contest(connection: sa.Connection, name: Name, rival: Arrival) -> bool:
    """Keep another body under a name; whether it is a new one."""
    new = bool(_insert(connection, [rival], "conflict", rival.digest.hex()))
    if new:
        _run(connection, _CONTEST, name)
    return new


def _insert(
    connection: sa.Connection, arrivals: Sequence[Arrival], state: str | None = None, variant: str = ""
) -> range:
    """The numbers of those arrivals that were not there; without a `state`, they are ok, or dead without an event."""
    cursor = connection.connection.cursor()  # the driver's own: what is in between would double the work of it
    if connection.dialect.name == "postgresql":
        columns = (list(column) for column in zip(*arrivals, strict=True))
        cursor.execute(_INSERT_IN_TURN, (*columns, state, variant))
        first, last, _notified = cursor.fetchone() or (0, -1, None)
        return range(first, last + 1)
    rows = ((*each, state or ("ok" if each.event else "dead"), variant) for each in arrivals)
    statement = text(_INSERT, connection.dialect.name, len(arrivals), len(_TYPES) + 2)
    cursor.execute(statement, tuple(chain.from_iterable(rows)))
    return range(cursor.lastrowid - cursor.rowcount + 1, cursor.lastrowid + 1) if cursor.rowcount else range(0)


def _run(connection: sa.Connection, statement: str, values: Iterable[object]) -> None:
    connection.exec_driver_sql(text(statement, connection.dialect.name, 0, 0), tuple(values))
