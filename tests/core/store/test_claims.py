"""A key has one claimant at a time, and what is committed in one go is committed together."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from classifaily_connectors.store.entry import Changes

if TYPE_CHECKING:
    from classifaily_connectors.store import Ledger

KEYS = [bytes([number]) * 16 for number in range(200)]
CLAIMS = """
import json, sys
from classifaily_connectors.store import Ledger
ledger = Ledger(sys.argv[1])
run = ledger.start_run()
print("ready", flush=True); sys.stdin.readline()
won = [ledger.claim(run, [bytes([n]) * 16 for n in range(start, min(200, start + 20))]) for start in range(0, 200, 10)]
print(json.dumps([key.hex() for part in won for key in part]))
"""


def test_the_second_claimant_gets_what_is_left(ledger: Ledger) -> None:
    first, second = ledger.start_run(), ledger.start_run()
    assert ledger.claim(first, KEYS[:3]) == set(KEYS[:3])
    assert ledger.claim(second, KEYS[1:5]) == set(KEYS[3:5])
    assert ledger.claim(first, []) == set()


def test_threads_never_win_the_same_key(open_ledger: Callable[..., Ledger]) -> None:
    won: list[bytes] = []
    gate = threading.Barrier(6)

    def claim(ledger: Ledger) -> None:
        run = ledger.start_run()
        gate.wait()
        for start in range(0, 200, 10):
            won.extend(ledger.claim(run, KEYS[start : start + 20]))

    shared = open_ledger()
    ledgers = [shared, shared, shared, *(open_ledger() for _ in range(3))]
    threads = [threading.Thread(target=claim, args=(each,)) for each in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == KEYS


def test_processes_never_win_the_same_key(url: str, ledger: Ledger) -> None:
    command = [sys.executable, "-c", CLAIMS, url]
    workers = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    won = [key for worker in workers for key in json.loads(worker.communicate(timeout=60)[0])]
    assert sorted(won) == [key.hex() for key in KEYS]
    assert all(worker.returncode == 0 for worker in workers)


def test_answers_claims_and_counts_are_one_commit(ledger: Ledger) -> None:
    run = ledger.start_run()
    ledger.claim(run, KEYS[:2])
    ledger.spend("b", 5)
    keys, limits = dict.fromkeys(KEYS[1:5]), {"a": 2, "b": 9}
    done = ledger.commit(run, Changes(answers={KEYS[0]: "one"}, keys=keys, limits=limits))
    assert done.won == set(KEYS[2:5])
    assert done.covered == set(KEYS[2:4]), "as many as every limit has room for, the first ones"
    assert done.counts == {"a": 2, "b": 7}
    assert ledger.commit(run, Changes(released=set(KEYS[3:5]), limits=limits, returned=1)).counts == {"a": 1, "b": 6}
    found = ledger.lookup(KEYS[:5])
    assert {key: (each.state, each.answer) for key, each in found.items()} == {
        KEYS[0]: ("done", "one"),
        KEYS[1]: ("open", None),
        KEYS[2]: ("open", None),
    }
    assert found[KEYS[0]].settled_at is not None


def test_a_commit_that_fails_leaves_nothing_behind(ledger: Ledger) -> None:
    run = ledger.start_run()
    ledger.claim(run, KEYS[:1])
    broken = Changes(answers={KEYS[0]: "one"}, keys={KEYS[1]: None}, limits={None: 1})  # type: ignore[dict-item]
    with pytest.raises(Exception, match=r"(?i)null"):
        ledger.commit(run, broken)
    assert [each.state for each in ledger.lookup(KEYS).values()] == ["open"]


def test_limits_hold_for_claims_taken_over_and_for_the_first_ones_alone(ledger: Ledger) -> None:
    dead, run = ledger.start_run(), ledger.start_run()
    ledger.claim(dead, KEYS[:2])
    stale = ledger.lookup(KEYS[:2])
    changes = Changes(keys=dict.fromkeys(KEYS[2:4]), stale=stale, limits={"a": 9}, at_most=3)
    done = ledger.commit(run, changes)
    assert done.won == set(KEYS[:4])
    assert done.covered == {KEYS[2], KEYS[3], next(iter(stale))}
    assert done.counts == {"a": 3}


def test_counts_tell_what_other_live_runs_have_not_settled(ledger: Ledger) -> None:
    mine, other, ended = ledger.start_run(), ledger.start_run(), ledger.start_run()
    for run, keys in ((mine, KEYS[:1]), (other, KEYS[1:5]), (ended, KEYS[5:7])):
        ledger.commit(run, Changes(keys=dict.fromkeys(keys), limits={"a": 99}))
    ledger.finish(other, {KEYS[1]: "one"})
    ledger.park(KEYS[2:3])
    ledger.end_run(ended)
    assert ledger.counts(mine, ["a", "b"]) == ({"a": 7, "b": 0}, 3)
    assert ledger.counts(other, ["a"]) == ({"a": 7}, 1)


def test_a_stale_entry_is_taken_over_once(ledger: Ledger) -> None:
    dead, first, second = (ledger.start_run() for _ in range(3))
    ledger.claim(dead, KEYS[:2])
    ledger.park(KEYS[:1])
    stale = list(ledger.lookup(KEYS[:2]).values())
    assert ledger.take_over(first, stale) == set(KEYS[:2])
    assert ledger.take_over(second, stale) == set()
    assert {each.run_id for each in ledger.lookup(KEYS[:2]).values()} == {first}


def test_an_answer_is_kept_whoever_holds_the_claim_by_then(ledger: Ledger) -> None:
    slow, hasty = ledger.start_run(), ledger.start_run()
    ledger.claim(slow, KEYS[:1])
    ledger.take_over(hasty, ledger.lookup(KEYS[:1]).values())
    ledger.finish(slow, {KEYS[0]: "paid"})
    assert ledger.lookup(KEYS[:1])[KEYS[0]].answer == "paid"


def test_release_gives_back_own_open_claims_only(ledger: Ledger) -> None:
    mine, other = ledger.start_run(), ledger.start_run()
    ledger.claim(mine, KEYS[:3])
    ledger.claim(other, KEYS[3:4])
    ledger.finish(mine, {KEYS[0]: "done"})
    ledger.park(KEYS[1:2])
    ledger.release(mine, KEYS[:4])
    assert {key: each.state for key, each in ledger.lookup(KEYS[:4]).items()} == {
        KEYS[0]: "done",
        KEYS[1]: "parked",
        KEYS[3]: "open",
    }


def test_releasing_a_purchase_on_purpose_brings_the_old_answer_back(ledger: Ledger) -> None:
    """A refresh that was refused must not cost the answer that was paid before."""
    before, refresh = ledger.start_run(), ledger.start_run()
    ledger.claim(before, KEYS[:1])
    ledger.finish(before, {KEYS[0]: "old"})
    ledger.take_over(refresh, ledger.lookup(KEYS[:1]).values())
    assert ledger.lookup(KEYS[:1])[KEYS[0]].state == "open"
    ledger.release(refresh, KEYS[:1])
    entry = ledger.lookup(KEYS[:1])[KEYS[0]]
    assert (entry.state, entry.answer) == ("done", "old")


def test_a_job_is_remembered_under_its_keys(ledger: Ledger) -> None:
    mine, other = ledger.start_run(), ledger.start_run()
    ledger.claim(mine, KEYS[:2])
    ledger.attach(other, KEYS[:2], "not theirs")
    ledger.attach(mine, KEYS[:2], "84")
    assert {each.job_id for each in ledger.lookup(KEYS[:2]).values()} == {"84"}
    ledger.take_over(other, ledger.lookup(KEYS[:1]).values())
    assert ledger.lookup(KEYS[:1])[KEYS[0]].job_id is None


def test_many_keys_are_looked_up_at_once(ledger: Ledger) -> None:
    keys = [number.to_bytes(16, "big") for number in range(1301)]
    run = ledger.start_run()
    assert ledger.claim(run, keys) == set(keys)
    assert len(ledger.lookup([*keys, b"unknown"])) == len(keys)
    assert ledger.lookup([]) == {}


def test_shared_counts_add_up(open_ledger: Callable[..., Ledger]) -> None:
    ledgers = [open_ledger() for _ in range(4)]
    threads = [threading.Thread(target=lambda each=each: [each.spend("n", 1) for _ in range(25)]) for each in ledgers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ledgers[0].spend("n", 0) == 100
    assert ledgers[0].spend("n", -40) == 60
    assert ledgers[0].spend("other", 0) == 0


def test_a_commit_that_came_about_unnoticed_is_not_counted_twice(ledger: Ledger) -> None:
    """The connection is lost while the commit is on its way: whoever made it does not know, and makes it again."""
    mine = ledger.start_run()
    ledger.claim(mine, [b"a" * 16])
    changes = Changes(
        answers={b"a" * 16: "answer"}, keys=dict.fromkeys([b"b" * 16, b"c" * 16]), limits={"n": 10}, at_most=5
    )
    first = ledger.commit(mine, changes)
    changes.again = True
    assert ledger.commit(mine, changes) == first
    assert (first.won, first.counts) == ({b"b" * 16, b"c" * 16}, {"n": 2})
    returned = Changes(released={b"b" * 16}, limits={"n": 10}, returned=1)
    assert ledger.commit(mine, returned).counts == {"n": 1}
    returned.again = True
    assert ledger.commit(mine, returned).counts == {"n": 1}
    assert {key: each.state for key, each in ledger.lookup([letter * 16 for letter in (b"a", b"b", b"c")]).items()} == {
        b"a" * 16: "done",
        b"c" * 16: "open",
    }


def test_a_commit_that_did_not_come_about_is_made_the_second_time(ledger: Ledger) -> None:
    mine, other = ledger.start_run(), ledger.start_run()
    ledger.claim(other, [b"c" * 16])
    changes = Changes(keys=dict.fromkeys([b"b" * 16, b"c" * 16]), limits={"n": 10}, again=True)
    done = ledger.commit(mine, changes)
    assert (done.won, done.covered, done.counts) == ({b"b" * 16}, {b"b" * 16}, {"n": 1})


def test_an_answer_is_kept_though_its_claim_was_dropped(ledger: Ledger) -> None:
    mine = ledger.start_run()
    ledger.claim(mine, [b"a" * 16])
    ledger.forget(ledger.lookup([b"a" * 16]).values())
    ledger.finish(mine, {b"a" * 16: "answer"})
    assert ledger.lookup([b"a" * 16])[b"a" * 16].answer == "answer"
