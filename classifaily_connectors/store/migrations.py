"""The shape of the database, and how an older one becomes the present one.

The law of this file: steps are numbered, only ever added, and run forward inside one transaction that excludes other
migrators; a database that is newer than this package is refused, never guessed at.
"""

from __future__ import annotations

import secrets

import sqlalchemy as sa

from classifaily_connectors.errors import ConfigurationError

metadata = sa.MetaData()

version = sa.Table("classifaily_schema", metadata, sa.Column("version", sa.Integer, primary_key=True))

entry = sa.Table(
    "classifaily_entry",
    metadata,
    sa.Column("key", sa.LargeBinary, primary_key=True),
    sa.Column("namespace", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("run_id", sa.String, nullable=False),
    sa.Column("claimed_at", sa.Float, nullable=False),
    sa.Column("settled_at", sa.Float),
    sa.Column("job_id", sa.String),
    sa.Column("answer", sa.Text),
)
_unsettled = entry.c.state != "done"
sa.Index("classifaily_entry_open", entry.c.state, sqlite_where=_unsettled, postgresql_where=_unsettled)
_settled = entry.c.state == "done"
settled = sa.Index(  # tells which answers are old without reading the others, and is quicker to count than they are
    "classifaily_entry_done",
    entry.c.namespace,
    entry.c.settled_at,
    sqlite_where=_settled,
    postgresql_where=_settled,
)

run = sa.Table(
    "classifaily_run",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("process", sa.String, nullable=False),
    sa.Column("started_at", sa.Float, nullable=False),
    sa.Column("beat_at", sa.Float, nullable=False),
    sa.Column("ended_at", sa.Float),
)

meter = sa.Table(
    "classifaily_meter",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("requests", sa.BigInteger, nullable=False),
)

delivery = sa.Table(
    "classifaily_delivery",
    metadata,
    # AUTOINCREMENT: otherwise pruning the newest rows would let their numbers be used again, and readers skip rows.
    sa.Column("seq", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("source", sa.String, nullable=False),
    sa.Column("event", sa.String, nullable=False),
    sa.Column("job_id", sa.String, nullable=False),
    sa.Column("variant", sa.String, nullable=False),
    sa.Column("digest", sa.LargeBinary, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("sent_at", sa.Float),
    sa.Column("repeats", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("redriven", sa.Integer, nullable=False, server_default=sa.text("0")),
    sa.Column("body", sa.LargeBinary),
    sa.UniqueConstraint("source", "job_id", "event", "variant"),
    sqlite_autoincrement=True,
)
_troubled = delivery.c.state != "ok"
sa.Index("classifaily_delivery_troubled", delivery.c.state, sqlite_where=_troubled, postgresql_where=_troubled)

expectation = sa.Table(
    "classifaily_expectation",
    metadata,
    sa.Column("source", sa.String, primary_key=True),
    sa.Column("job_id", sa.String, primary_key=True),
    sa.Column("owner", sa.String, nullable=False),
    sa.Column("expected_at", sa.Float, nullable=False),
    sa.Column("settled_at", sa.Float),
    sa.Column("settled_by", sa.String),
)
_waiting = expectation.c.settled_at.is_(None)
sa.Index("classifaily_expectation_open", expectation.c.expected_at, sqlite_where=_waiting, postgresql_where=_waiting)

mark = sa.Table(
    "classifaily_mark",
    metadata,
    sa.Column("consumer", sa.String, primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
)

identity = sa.Table("classifaily_store", metadata, sa.Column("id", sa.String, primary_key=True))


def _first(connection: sa.Connection) -> None:
    metadata.create_all(connection, [entry, run, meter])


def _second(connection: sa.Connection) -> None:
    metadata.create_all(connection, [delivery, expectation, mark])


def _third(connection: sa.Connection) -> None:
    metadata.create_all(connection, [identity])
    if _identity(connection) is None:
        connection.execute(sa.insert(identity).values(id=secrets.token_hex(16)))


def _fourth(connection: sa.Connection) -> None:
    settled.create(connection, checkfirst=True)


STEPS = (_first, _second, _third, _fourth)
_LOCK = 0xC1A551FA  # any number of our own: PostgreSQL's advisory lock for migrators


def migrate(engine: sa.Engine) -> str:
    """Bring the database to the present shape; the store's identity.

    Nobody is waited for, and nothing written, where it has that shape already.

    Raises ConfigurationError when a newer version of the package has been here.
    """
    with engine.execution_options(classifaily_begin="DEFERRED").begin() as connection:
        if _present(connection) == len(STEPS):
            return str(_identity(connection))
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":  # has one writer at a time
            return _step(connection)
        from classifaily_connectors.store.postgres import patiently

        with patiently(connection):
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
            return _step(connection)


def _step(connection: sa.Connection) -> str:
    version.create(connection, checkfirst=True)
    present = _present(connection)
    for number, step in enumerate(STEPS[present:], present + 1):
        step(connection)
        connection.execute(sa.insert(version).values(version=number))
    return str(_identity(connection))


def _identity(connection: sa.Connection) -> str | None:
    return connection.execute(sa.select(sa.func.min(identity.c.id))).scalar()


def _present(connection: sa.Connection) -> int:
    if not sa.inspect(connection).has_table(version.name):
        return 0
    present = connection.execute(sa.select(sa.func.max(version.c.version))).scalar() or 0
    if present > len(STEPS):
        raise ConfigurationError(
            f"the store has version {present}, this package knows {len(STEPS)}: upgrade classifaily-connectors"
        )
    return int(present)
