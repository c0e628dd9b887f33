"""The inbox: every delivery that was acknowledged, and who waits for which job.

The law of this file: what `put` returned is on the disk; reading never consumes, so any number of readers may look
as often as they like; and a reader that asks for what came after `seq` misses nothing, because writers take turns
until their commit, and so a lower number never appears after a higher one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from classifaily_connectors.events import ends_job
from classifaily_connectors.store.base import Store
from classifaily_connectors.store.database import insert
from classifaily_connectors.store.delivery import (
    PROBE,
    Arrival,
    Delivery,
    Expectation,
    FeedEnd,
    InboxStats,
    Landed,
    SettledBy,
)
from classifaily_connectors.store.inbox_landing import NOTIFY, TAKE_TURN, Batch, land
from classifaily_connectors.store.lanes import Lane, postgres_lane, sqlite_lane
from classifaily_connectors.store.migrations import delivery, expectation, identity, mark
from classifaily_connectors.store.source import checked_source
from classifaily_connectors.store.statements import slices

TOMBSTONES = 400 * 86400.0
"""Seconds for which a delivery without its body is remembered, so that a replay of it stays a repeat."""
_PAGE = 1000


class Inbox(Store):
    """The deliveries in the database at `url`, which may be the ledger's; safe to share between threads.

    A source keeps accounts and environments apart: `default`, or the last part of the webhook's path, however spelt.

    Raises ConfigurationError when the place cannot keep an inbox, or holds one from a newer version.
    """

    # --- deliveries in ------------------------------------------------------------------------

    def put(self, arrivals: Sequence[Arrival]) -> list[Landed]:
        """Keep a batch; what became of each. Wakes PostgreSQL's listeners when there is news."""
        return [landed for part in slices(arrivals) for landed in self._put(Batch(part))]

    def lane(self) -> Lane:
        """`put` for the running event loop."""
        self._after_fork()
        if self._shared:
            return postgres_lane(self.url, self._settle)
        assert self._file is not None  # noqa: S101
        return sqlite_lane(self._solo, self._file, self._settle)

    def _put(self, batch: Batch) -> list[Landed]:
        insertion = batch.insertion(self._solo.dialect.name)
        inserted = self._alone(lambda connection: land(connection, insertion))
        landed = batch.landed(inserted)
        return self._settle(batch, inserted) if landed is None else landed

    def _settle(self, batch: Batch, inserted: range) -> list[Landed]:
        with self._begin() as connection:
            return batch.settle(connection, inserted)

    # --- deliveries out -----------------------------------------------------------------------

    def find(self, source: str, job_ids: Collection[str]) -> dict[str, Delivery]:
        """The newest delivery that says of each of those jobs that it has ended, with its body; none where there is
        none. Refuted ones do not count, nor do those that tell of a beginning or of progress."""
        found: dict[str, Delivery] = {}
        named = checked_source(source)
        for part in slices(list(job_ids)):
            ours = (delivery.c.source == named) & delivery.c.job_id.in_(part) & (delivery.c.state != "refuted")
            for row in self._read(sa.select(*_WHOLE).where(ours).order_by(delivery.c.seq)):
                if ends_job(row.event):
                    found[row.job_id] = Delivery(*row)
        return found

    def get(self, seq: int) -> Delivery | None:
        """The delivery with that number, with its body."""
        rows = self._read(sa.select(*_WHOLE).where(delivery.c.seq == seq))
        return Delivery(*rows[0]) if rows else None

    def after(self, seq: int, *, source: str | None = None, limit: int = 500) -> list[Delivery]:
        """What came after `seq`, in the order of the feed, without bodies."""
        return self.entries(after=seq, source=source, limit=limit)

    def entries(
        self,
        *,
        after: int = 0,
        source: str | None = None,
        event: str | None = None,
        job_id: str | None = None,
        state: str | None = None,
        limit: int = 500,
    ) -> list[Delivery]:
        """The deliveries that match, in the order of the feed, without bodies."""
        wanted = {"source": source and checked_source(source), "event": event, "job_id": job_id, "state": state}
        matches = [delivery.c[name] == value for name, value in wanted.items() if value is not None]
        query = sa.select(*_LISTED).where(delivery.c.seq > after, *matches).order_by(delivery.c.seq).limit(limit)
        return [Delivery(*row) for row in self._read(query)]

    def head(self) -> int:
        """The number of the newest delivery; 0 when there is none."""
        return int(self._read(_HEAD)[0][0])

    def end(self) -> FeedEnd:
        """Which store this is and the number of its newest delivery, both of one moment.

        A reader whose place in the feed is of another store, or beyond this end, has to begin anew.
        """
        store, head = self._read(_END)[0]
        return FeedEnd(str(store), int(head))

    def _read(self, query: sa.Executable) -> Sequence[Any]:
        return self._alone(lambda connection: connection.execute(query).all())

    # --- consumers ----------------------------------------------------------------------------

    def mark(self, consumer: str) -> int:
        """How far `consumer` has come in the feed; 0 at first."""
        rows = self._read(sa.select(mark.c.seq).where(mark.c.consumer == consumer))
        return int(rows[0][0]) if rows else 0

    def set_mark(self, consumer: str, seq: int) -> None:
        """Remember how far `consumer` has come: after it has acted, so that nothing is lost and some come twice."""
        new = insert(self._engine, mark).values(consumer=consumer, seq=seq)
        with self._begin() as connection:
            connection.execute(new.on_conflict_do_update(index_elements=["consumer"], set_={"seq": seq}))

    def lags(self) -> dict[str, int]:
        """How many numbers the feed has beyond the mark of each consumer that keeps one."""
        head = self.head()
        rows = self._read(sa.select(mark.c.consumer, mark.c.seq).where(mark.c.consumer != PROBE))
        return {consumer: max(0, head - seq) for consumer, seq in rows}

    # --- expectations -------------------------------------------------------------------------

    def expect(self, source: str, job_ids: Collection[str], *, owner: str = "") -> None:
        """Remember that `owner` waits for these jobs; those expected already stay as they are."""
        with self._begin() as connection:
            now = self._now(connection)
            common = {"source": checked_source(source), "owner": owner, "expected_at": now}
            rows = [{**common, "job_id": each} for each in sorted(set(job_ids))]
            if rows:
                connection.execute(insert(self._engine, expectation).on_conflict_do_nothing(), rows)

    def settle(self, source: str, job_ids: Collection[str], *, by: SettledBy) -> int:
        """Remember what told those who waited for these jobs; the first means counts. How many were still open."""
        mine = (expectation.c.source == checked_source(source)) & expectation.c.settled_at.is_(None)
        settled = 0
        with self._begin() as connection:
            now = self._now(connection)
            for part in slices(sorted(set(job_ids))):
                update = sa.update(expectation).where(mine, expectation.c.job_id.in_(part))
                settled += connection.execute(update.values(settled_at=now, settled_by=by)).rowcount
        return settled

    def expected(self, source: str | None = None, *, limit: int = 500) -> list[Expectation]:
        """Jobs that somebody still waits for, oldest first."""
        query = sa.select(expectation).where(expectation.c.settled_at.is_(None))
        if source is not None:
            query = query.where(expectation.c.source == checked_source(source))
        with self._begin("DEFERRED") as connection:
            rows = connection.execute(query.order_by(expectation.c.expected_at, expectation.c.job_id).limit(limit))
            return [Expectation(*row) for row in rows]

    # --- by hand, and in time -----------------------------------------------------------------

    def redrive(self, seq: int) -> int | None:
        """Put a delivery into the feed again: it moves to a new number, which is returned; None if there is none."""
        with self._begin() as connection:
            if self._shared:  # SQLite has one writer at a time as it is
                connection.exec_driver_sql(TAKE_TURN)
            one = delivery.c.seq == seq
            row = connection.execute(sa.select(delivery).where(one)).mappings().one_or_none()
            if row is None:
                return None
            # Not an UPDATE of the number: SQLite would then not know that the new one has been used.
            connection.execute(sa.delete(delivery).where(one))
            again = {name: value for name, value in row.items() if name != "seq"}
            again["redriven"] += 1
            new = connection.execute(sa.insert(delivery).values(again).returning(delivery.c.seq)).scalar_one()
            if self._shared:
                connection.exec_driver_sql(NOTIFY)
            return int(new)

    def bury(self, seq: int) -> bool:
        """Drop a dead letter that has been read and is kept under its name. False if there is no such letter."""
        one = (delivery.c.seq == seq) & (delivery.c.state == "dead")
        with self._begin() as connection:
            return connection.execute(sa.delete(delivery).where(one)).rowcount > 0

    def resolve(self, seq: int, *, holds: bool = True) -> bool:
        """Settle a conflict as the job (`GET /jobs`) told: this delivery holds, and its rivals are refuted; or it
        does not hold, and is refuted itself. False if there is no such conflict."""
        with self._begin() as connection:
            one = (delivery.c.seq == seq) & (delivery.c.state == "conflict")
            row = connection.execute(sa.select(*_LISTED).where(one)).one_or_none()
            if row is None:
                return False
            if holds:
                same = [delivery.c[name] == getattr(row, name) for name in ("source", "job_id", "event")]
                connection.execute(sa.update(delivery).where(*same).values(state="refuted"))
            connection.execute(
                sa.update(delivery).where(delivery.c.seq == seq).values(state="ok" if holds else "refuted")
            )
        return True

    def prune(self, older_than: float) -> int:
        """Drop the bodies of deliveries received more than `older_than` seconds ago; how many were dropped.

        What is left tells a replay from news for 400 days. Conflicts keep their bodies until they are settled, and
        expectations go with the tombstones, settled ones with the bodies.
        """
        with self._begin("DEFERRED") as connection:
            now = self._now(connection)
        full = delivery.c.body.is_not(None) & (delivery.c.state != "conflict")
        dropped = self._in_parts(sa.update(delivery).values(body=None), full & _before(now - older_than))
        self._in_parts(sa.delete(delivery), _before(now - max(older_than, TOMBSTONES)))
        settled, forgotten = expectation.c.settled_at < now - older_than, expectation.c.expected_at < now - TOMBSTONES
        with self._begin() as connection:
            connection.execute(sa.delete(expectation).where(settled | forgotten))
        return dropped

    def _in_parts(self, change: sa.Update | sa.Delete, which: sa.ColumnElement[bool]) -> int:
        """A change in transactions so short that a receiver can wait for them."""
        last = changed = 0
        page = sa.select(delivery.c.seq).where(which).order_by(delivery.c.seq).limit(_PAGE)
        while True:
            with self._begin() as connection:
                some = connection.execute(page.where(delivery.c.seq > last)).scalars().all()
                if not some:
                    return changed
                last = some[-1]
                for part in slices(some):
                    changed += connection.execute(change.where(delivery.c.seq.in_(part))).rowcount

    def stats(self) -> InboxStats:
        """Counts of everything, over all sources."""
        states = sa.select(delivery.c.state, sa.func.count(), sa.func.sum(delivery.c.repeats)).group_by(
            delivery.c.state
        )
        means = sa.select(expectation.c.settled_by, sa.func.count()).group_by(expectation.c.settled_by)
        with self._begin("DEFERRED") as connection:
            head = connection.execute(_HEAD).scalar_one()
            deliveries = connection.execute(states).all()
            settled: dict[str | None, int] = {row[0]: row[1] for row in connection.execute(means)}
        by_state = {state: number for state, number, _repeats in deliveries}
        return InboxStats(
            head=head,
            ok=by_state.get("ok", 0),
            conflict=by_state.get("conflict", 0),
            refuted=by_state.get("refuted", 0),
            dead=by_state.get("dead", 0),
            repeats=sum(int(repeats) for _state, _number, repeats in deliveries),
            expected=settled.get(None, 0),
            settled_by_webhook=settled.get("webhook", 0),
            settled_by_poll=settled.get("poll", 0),
        )


def _before(when: float) -> sa.ColumnElement[bool]:
    return delivery.c.received_at < when


_LISTED = tuple(
    delivery.c[name]
    for name in (
        "seq",
        "source",
        "event",
        "job_id",
        "state",
        "received_at",
        "sent_at",
        "repeats",
        "redriven",
        "digest",
    )
)
_WHOLE = (*_LISTED, delivery.c.body)
FOLLOWING = f"""
SELECT {", ".join(each.name for each in _LISTED)} FROM classifaily_delivery WHERE seq > %s ORDER BY seq LIMIT 500
"""  # noqa: S608  # our own words
"""What `Inbox.after` asks, for a connection to PostgreSQL that is not the inbox's; its rows make a `Delivery`."""
_HEAD = sa.select(sa.func.coalesce(sa.func.max(delivery.c.seq), 0))
_END = sa.select(sa.select(identity.c.id).scalar_subquery(), _HEAD.scalar_subquery())
