"""Counting, listing, forgetting and pruning; namespaces keep apart what they should."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from classifaily_connectors.store import Ledger, LedgerStats
from classifaily_connectors.store.migrations import entry, run

A, B, C, D, E = (letter * 16 for letter in (b"a", b"b", b"c", b"d", b"e"))


def _age(ledger: Ledger, seconds: float) -> None:
    with ledger._begin() as connection:
        connection.execute(sa.update(entry).values(settled_at=entry.c.settled_at - seconds))
        connection.execute(sa.update(run).values(beat_at=run.c.beat_at - seconds))


def test_stats_and_unsettled_tell_the_states_apart(ledger: Ledger) -> None:
    live, dead = ledger.start_run(), ledger.start_run()
    ledger.claim(dead, [A, B, E])
    ledger.claim(live, [C, D])
    ledger.park([A])
    ledger.attach(dead, [E], "84")
    ledger.finish(live, {D: "answer"})
    ledger.end_run(dead)
    stats = ledger.stats()
    assert stats == LedgerStats(done=1, parked=1, open=3, live=1, jobs=1)
    assert stats.interrupted == 1
    assert {each.key: each.state for each in ledger.unsettled()} == {A: "parked", B: "open", E: "open"}
    assert len(ledger.unsettled(limit=1)) == 1


def test_parking_touches_open_entries_only(ledger: Ledger) -> None:
    mine = ledger.start_run()
    ledger.claim(mine, [A])
    ledger.finish(mine, {A: "answer"})
    ledger.park([A, B])
    assert {key: each.state for key, each in ledger.lookup([A, B]).items()} == {A: "done"}


def test_forgetting_is_on_purpose_and_complete(ledger: Ledger) -> None:
    mine = ledger.start_run()
    ledger.claim(mine, [A, B, C])
    ledger.finish(mine, {A: "answer"})
    ledger.park([B])
    assert ledger.forget(ledger.lookup([A, B, D]).values()) == 2
    assert set(ledger.lookup([A, B, C])) == {C}
    assert ledger.claim(mine, [A]) == {A}


def test_prune_drops_old_answers_and_no_open_question(ledger: Ledger) -> None:
    mine = ledger.start_run()
    ledger.claim(mine, [A, B, C])
    ledger.finish(mine, {A: "old"})
    ledger.park([B])
    _age(ledger, 1000)
    ledger.finish(mine, {C: "new"})
    assert ledger.prune(older_than=2000) == 0
    assert ledger.prune(older_than=500) == 1
    assert {key: each.state for key, each in ledger.lookup([A, B, C]).items()} == {B: "parked", C: "done"}


def test_prune_keeps_the_runs_that_owe_something(ledger: Ledger) -> None:
    owing, quiet, fresh = (ledger.start_run() for _ in range(3))
    ledger.claim(owing, [A])
    _age(ledger, 1000)
    ledger.beat(fresh)
    ledger.prune(older_than=500)
    with ledger._begin() as connection:
        left = set(connection.execute(sa.select(run.c.id)).scalars())
    assert left == {owing, fresh}
    assert quiet not in left


def test_namespaces_see_their_own(open_ledger: Callable[..., Ledger]) -> None:
    ours, theirs = open_ledger(namespace="ours"), open_ledger(namespace="theirs")
    mine = ours.start_run()
    ours.claim(mine, [A, B])
    ours.finish(mine, {A: "answer"})
    ours.park([B])
    _age(ours, 1000)
    assert theirs.stats() == LedgerStats(0, 0, 0, 0)
    assert theirs.unsettled() == []
    assert theirs.prune(older_than=1) == 0
    assert ours.stats() == LedgerStats(1, 1, 0, 0)


def test_the_ledger_shows_no_password(url: str, ledger: Ledger) -> None:
    assert "Ledger(" in repr(ledger)
    if "postgresql" in url:
        with_password = url.replace("classifaily@", "classifaily:hush-hush@")
        other = Ledger(with_password)
        assert "hush-hush" not in repr(other)
        other.close()


def test_a_lease_is_a_positive_number(url: str) -> None:
    with pytest.raises(ValueError, match="lease is 0"):
        Ledger(url, lease=0)
