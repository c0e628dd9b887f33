"""What was paid for, and what came of it.

The law of this file: the intent to pay is committed before the request leaves, the answer after it came; a key has
one claimant at a time, because a claim is an INSERT that conflicts. An entry is `open` (someone may be paying for it
now), `parked` (it may have been paid, and the answer is lost) or `done`. Only digests are stored, never an input.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from typing import Any

import sqlalchemy as sa

from classifaily_connectors.errors import ConfigurationError, StoreError
from classifaily_connectors.process import identity, is_gone, is_local
from classifaily_connectors.store import rescue, statements
from classifaily_connectors.store.base import Store
from classifaily_connectors.store.database import insert
from classifaily_connectors.store.entry import Changes, Committed, Entry, LedgerStats, RunInfo
from classifaily_connectors.store.migrations import entry, meter, run

LEASE = 30.0
_PAGE = 10_000
"""Entries dropped in one transaction: others wait for it."""
logger = logging.getLogger("classifaily_connectors")


class Ledger(Store):
    """The ledger in the database at `url` (a URL or a path).

    It is safe to share between threads, may be pickled, and used in a `with` block, which closes it.

    `namespace` keeps apart what must not share answers; `lease` is the seconds a run may be silent before its open
    claims count as interrupted.

    Raises ConfigurationError when the place cannot keep a ledger, or holds one from a newer version, and its kind
    StoreUnavailableError when the database cannot be opened; every call raises StoreError when it fails.
    """

    durable = True

    def __init__(self, url: str | os.PathLike[str], *, namespace: str = "", lease: float = LEASE) -> None:
        if not lease > 0:
            raise ConfigurationError(f"lease is {lease!r}; it must be a positive number of seconds")
        self.namespace = namespace
        self.lease = lease
        super().__init__(url)
        added = insert(self._engine, meter)
        total = meter.c.requests + added.excluded.requests
        self._count = added.on_conflict_do_update(index_elements=["name"], set_={"requests": total}).returning(
            meter.c.requests
        )
        try:
            self.take_in()
        except StoreError as error:
            logger.warning("paid answers that were rescued still wait to be written: %s", error.message)

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, namespace={self.namespace!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Ledger, namespace=self.namespace, lease=self.lease), (self.url,)

    # --- looking ------------------------------------------------------------------------------

    def now(self) -> float:
        """The time that claims are given, in seconds since the epoch: the database's where machines share it."""
        with self._begin("DEFERRED") as connection:
            return self._now(connection)

    def lookup(self, keys: Collection[bytes]) -> dict[bytes, Entry]:
        """The entries of those `keys` that have one."""
        with self._begin("DEFERRED") as connection:
            return {each.key: each for each in statements.lookup(connection, keys)}

    def live_runs(self, run_ids: Collection[str]) -> set[str]:
        """Those of the runs that may still be at work: not ended, heard of within the lease, process not gone."""
        if not run_ids:
            return set()
        with self._begin("DEFERRED") as connection:
            return self._live(connection, run_ids)

    def _live(self, connection: sa.Connection, run_ids: Collection[str]) -> set[str]:
        now = self._now(connection)
        rows = connection.execute(sa.select(run).where(run.c.id.in_(list(run_ids)))).all()
        return {each.id for each in rows if self._alive(RunInfo(*each), now)}

    def _alive(self, info: RunInfo, now: float) -> bool:
        if info.ended_at is not None or is_gone(info.process):
            return False
        silent = now - info.beat_at
        # A beat from the future comes from a clock that was wrong, and would count as fresh until then.
        return silent <= self.lease and (silent >= -self.lease or is_local(info.process))

    # --- a run --------------------------------------------------------------------------------

    def start_run(self) -> str:
        """A new run's id; call `beat` well within every lease, and `end_run` at the end."""
        self.take_in()
        run_id = secrets.token_hex(8)
        with self._begin() as connection:
            now = self._now(connection)
            values = {"id": run_id, "process": identity(), "started_at": now, "beat_at": now}
            connection.execute(sa.insert(run).values(values))
        return run_id

    def beat(self, run_id: str) -> None:
        """Say that the run is alive."""
        with self._begin() as connection:
            now = self._now(connection)
            connection.execute(sa.update(run).where(run.c.id == run_id).values(beat_at=now))

    def end_run(self, run_id: str) -> None:
        """Say that the run has ended; claims it still holds become interrupted ones at once."""
        with self._begin() as connection:
            # Its absence says so: a row for each call would stay for ever.
            connection.execute(sa.delete(run).where(run.c.id == run_id))

    # --- paying -------------------------------------------------------------------------------

    def claim(self, run_id: str, keys: Collection[bytes]) -> set[bytes]:
        """Commit the intent to pay for `keys`; the ones returned are ours alone, the others are taken."""
        return self.commit(run_id, Changes(keys=dict.fromkeys(keys))).won

    def finish(self, run_id: str, answers: Mapping[bytes, str]) -> None:
        """Commit the answers to keys that were claimed."""
        self.commit(run_id, Changes(answers=dict(answers)))

    def take_over(self, run_id: str, stale: Iterable[Entry]) -> set[bytes]:
        """Claim entries that are there already, each only if it still is as `stale` says it was."""
        return self.commit(run_id, Changes(stale={each.key: each for each in stale})).won

    def spend(self, name: str, requests: int) -> int:
        """Add to the shared count `name` and return it: how concurrent runs know of each other's spending."""
        with self._begin() as connection:
            return self._add(connection, name, requests)

    def counts(self, run_id: str, names: Collection[str]) -> tuple[dict[str, int], int]:
        """The shared counts, and how many claims other live runs have not settled: counted, but perhaps not yet paid.

        Both are of one moment: who claims now counts afterwards.
        """
        with self._begin() as connection:
            # Written to, though nothing is added: nobody else can until we end.
            counts = {name: self._add(connection, name, 0) for name in sorted(names)}
            others = (entry.c.namespace == self.namespace) & _UNSETTLED & (entry.c.run_id != run_id)
            query = sa.select(entry.c.run_id, sa.func.count()).where(others).group_by(entry.c.run_id)
            unsettled = {each[0]: each[1] for each in connection.execute(query)}
            return counts, sum(unsettled[each] for each in self._live(connection, unsettled))

    def _add(self, connection: sa.Connection, name: str, requests: int) -> int:
        return int(connection.execute(self._count, {"name": name, "requests": requests}).scalar_one())

    def commit(self, run_id: str, changes: Changes) -> Committed:
        """Everything in one transaction, and so for the price of one.

        An answer is recorded whoever holds its claim by now: it was paid, and it is the truth.
        """
        with self._begin() as connection:
            now = self._now(connection)
            if changes.again:
                # Others may have taken our silence for the end.
                connection.execute(sa.update(run).where(run.c.id == run_id).values(beat_at=now))
                if (won := self._came_about(connection, run_id, changes)) is not None:
                    self._finish(connection, run_id, changes.answers, now)
                    return changes.recount(won, lambda name, number: self._add(connection, name, number))
            # Two writers of overlapping keys must not wait for each other in a circle. So everything is sorted, and
            # what may have to wait for a writer (claiming) comes before what others may wait for (answering).
            won = set(statements.claim(connection, changes.keys, namespace=self.namespace, run_id=run_id, now=now))
            for key, each in sorted(changes.stale.items()):
                expected = {"k": key, "was_run": each.run_id, "was_state": each.state, "r": run_id, "t": now}
                if connection.execute(_TAKE_OVER, expected).rowcount:
                    won.add(key)
            self._finish(connection, run_id, changes.answers, now)
            if changes.released:
                mine = [{"k": key, "r": run_id} for key in sorted(changes.released)]
                connection.execute(_RESTORE, mine)
                connection.execute(_DROP, mine)
            return changes.count(won, lambda name, number: self._add(connection, name, number))

    def _came_about(self, connection: sa.Connection, run_id: str, changes: Changes) -> set[bytes] | None:
        """The claims of a commit that came about unnoticed; None when it did not."""
        wanted = [*changes.keys, *changes.stale, *changes.released]
        found = statements.lookup(connection, wanted)
        mine = {each.key for each in found if each.state == "open" and each.run_id == run_id}
        if won := mine - changes.released:
            return won
        return set() if changes.released and not mine and not (changes.keys or changes.stale) else None

    def _finish(self, connection: sa.Connection, run_id: str, answers: Mapping[bytes, str], now: float) -> None:
        """Record answers, also where the claim is gone: somebody dropped it, or put another database in our place."""
        if statements.finish(connection, answers, now=now) == len(answers):
            return
        common = {"namespace": self.namespace, "state": "done", "run_id": run_id, "claimed_at": now, "settled_at": now}
        rows = [{**common, "key": key, "answer": text} for key, text in sorted(answers.items())]
        connection.execute(insert(self._engine, entry).on_conflict_do_nothing(), rows)

    def rescue(self, run_id: str, answers: Mapping[bytes, str]) -> str | None:
        """Keep answers that cannot be written in a file, which the next ledger opened for this store takes in; its
        path, or None when there is no room for it anywhere."""
        path = rescue.keep(self.url, self._identity, self.namespace, run_id, answers)
        return None if path is None else str(path)

    def take_in(self) -> int:
        """Record answers that were rescued on this machine while the store could not be written; how many."""
        number = 0
        for found in rescue.waiting(self.url, self._identity):
            with self._begin() as connection:
                now = self._now(connection)
                new = insert(self._engine, entry)
                told = {"state": "done", "settled_at": now, "answer": new.excluded.answer, "job_id": None}
                upsert = new.on_conflict_do_update(index_elements=["key"], set_=told, where=_UNSETTLED)
                common = {"namespace": found.namespace, "state": "done", "run_id": found.run_id, "claimed_at": now}
                rows = [
                    {**common, "key": key, "answer": text, "settled_at": now} for key, text in found.answers.items()
                ]
                for part in statements.slices(rows):
                    connection.execute(upsert, part)
            found.path.unlink(missing_ok=True)
            number += len(found.answers)
            logger.warning("%d paid answers that could not be written before are in the ledger now", len(found.answers))
        return number

    def attach(self, run_id: str, keys: Collection[bytes], job_id: str) -> None:
        """Remember the job that is working on `keys`, so that whoever comes next waits for it and does not pay."""
        statement = sa.update(entry).where(entry.c.key == sa.bindparam("k"), entry.c.run_id == run_id)
        self._write(keys, statement.values(job_id=job_id))

    def park(self, keys: Collection[bytes]) -> None:
        """Say that nobody knows whether these were paid; they stay so until settled."""
        claimed = (entry.c.key == sa.bindparam("k")) & (entry.c.state == "open")
        self._write(keys, sa.update(entry).where(claimed).values(state="parked"))

    def release(self, run_id: str, keys: Collection[bytes]) -> None:
        """Give claims back whose requests certainly were not executed; an answer from before stands again."""
        self.commit(run_id, Changes(released=set(keys)))

    def forget(self, expected: Iterable[Entry]) -> int:
        """Drop entries, each only if it still is as `expected` says it was, so that their rows are bought anew; how
        many there were. A claim that was to replace an answer is dropped, and the answer stands again."""
        dropped = 0
        with self._begin() as connection:
            for each in sorted(expected, key=lambda each: each.key):
                was = {"k": each.key, "was_run": each.run_id, "was_state": each.state}
                restored = each.state != "done" and connection.execute(_RESTORE_EXPECTED, was).rowcount
                dropped += restored or connection.execute(_DROP_EXPECTED, was).rowcount
        return dropped

    def _write(self, keys: Collection[bytes], statement: sa.Update) -> None:
        if keys:
            with self._begin() as connection:
                connection.execute(statement, [{"k": key} for key in sorted(keys)])

    # --- housekeeping -------------------------------------------------------------------------

    def stats(self) -> LedgerStats:
        """Counts by state, in this namespace."""
        ours = entry.c.namespace == self.namespace
        kinds = (entry.c.state, entry.c.run_id, entry.c.job_id.is_not(None))
        unsettled = sa.select(*kinds, sa.func.count()).where(ours, _UNSETTLED).group_by(*kinds)
        with self._begin("DEFERRED") as connection:
            rows = connection.execute(unsettled).all()
            done = int(connection.execute(sa.select(sa.func.count()).where(ours, _SETTLED)).scalar_one())
        live = self.live_runs({each[1] for each in rows if each[0] == "open"})
        total: Counter[str] = Counter()
        for state, run_id, has_job, number in rows:
            total[state] += number
            if state == "open":
                total["live" if run_id in live else "jobs" if has_job else "interrupted"] += number
        return LedgerStats(done, total["parked"], total["open"], total["live"], total["jobs"])

    def unsettled(self, limit: int | None = None) -> list[Entry]:
        """Parked entries and claims of runs that are no more, oldest first: perhaps paid, and no answer."""
        waiting = (entry.c.namespace == self.namespace) & _UNSETTLED
        query = sa.select(*_COLUMNS).where(waiting).order_by(entry.c.claimed_at, entry.c.key)
        with self._begin("DEFERRED") as connection:
            rows = [Entry(*row) for row in connection.execute(query)]
        live = self.live_runs({each.run_id for each in rows if each.state == "open"})
        return [each for each in rows if each.state == "parked" or each.run_id not in live][:limit]

    def prune(self, older_than: float) -> int:
        """Drop answers settled more than `older_than` seconds ago; unsettled entries stay. How many were dropped."""
        ours = (entry.c.namespace == self.namespace) & _SETTLED
        with self._begin("DEFERRED") as connection:
            now = self._now(connection)
        dropped, since = 0, 0.0
        while True:
            # From where the last part ended: what was dropped just now is still in PostgreSQL's index.
            old = ours & (entry.c.settled_at < now - older_than) & (entry.c.settled_at >= since)
            page = sa.select(entry.c.key, entry.c.settled_at).where(old).order_by(entry.c.settled_at).limit(_PAGE)
            with self._begin() as connection:
                # Locked: what is bought anew in this moment is not old any more.
                rows = connection.execute(page.with_for_update(skip_locked=True)).all()
                for part in statements.slices([key for key, _settled_at in rows]):
                    dropped += connection.execute(sa.delete(entry).where(entry.c.key.in_(part))).rowcount
                if not rows:
                    owing = sa.select(entry.c.run_id).where(_UNSETTLED)
                    silent = run.c.beat_at < now - max(older_than, self.lease)
                    connection.execute(sa.delete(run).where(silent, run.c.id.not_in(owing)))
                    return dropped
            since = rows[-1][1]


_COLUMNS = (
    entry.c.key,
    entry.c.state,
    entry.c.run_id,
    entry.c.claimed_at,
    entry.c.settled_at,
    entry.c.job_id,
    entry.c.answer,
)
_SETTLED = entry.c.state == sa.literal_column("'done'")
_UNSETTLED = entry.c.state != sa.literal_column("'done'")  # literally, so that the index of just these is used
_MINE = (
    (entry.c.key == sa.bindparam("k"))
    & (entry.c.state == sa.literal_column("'open'"))
    & (entry.c.run_id == sa.bindparam("r"))
)
_RESTORE = sa.update(entry).where(_MINE, entry.c.answer.is_not(None)).values(state="done")
_DROP = sa.delete(entry).where(_MINE)
_AS_EXPECTED = (
    (entry.c.key == sa.bindparam("k"))
    & (entry.c.run_id == sa.bindparam("was_run"))
    & (entry.c.state == sa.bindparam("was_state"))
)
_TAKE_OVER = (
    sa.update(entry)
    .where(_AS_EXPECTED)
    .values(state="open", run_id=sa.bindparam("r"), claimed_at=sa.bindparam("t"), job_id=None)
)
_RESTORE_EXPECTED = sa.update(entry).where(_AS_EXPECTED, entry.c.answer.is_not(None)).values(state="done")
_DROP_EXPECTED = sa.delete(entry).where(_AS_EXPECTED)
