"""A dead run is told from a live one: at once where that is certain, by its silence where it is not."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from classifaily_connectors import process
from classifaily_connectors.store.migrations import run as run_table

if TYPE_CHECKING:
    from classifaily_connectors.store import Ledger

KEY = b"k" * 16
CLAIM_AND_WAIT = """
import sys
from classifaily_connectors.store import Ledger
ledger = Ledger(sys.argv[1])
run = ledger.start_run()
ledger.claim(run, [b"k" * 16])
print(run, flush=True)
sys.stdin.read()
"""


def _elsewhere(ledger: Ledger, run_id: str) -> None:
    """Pretend that the run is on a machine that cannot be looked at."""
    with ledger._begin() as connection:
        connection.execute(sa.update(run_table).where(run_table.c.id == run_id).values(process="boot:ns/1/1"))


def test_a_run_lives_until_it_ends(ledger: Ledger) -> None:
    run = ledger.start_run()
    assert ledger.live_runs({run, "nobody"}) == {run}
    ledger.end_run(run)
    assert ledger.live_runs({run}) == set()
    assert ledger.live_runs(set()) == set()


def test_a_killed_process_is_gone_at_once(url: str, open_ledger: Callable[..., Ledger]) -> None:
    ledger = open_ledger(lease=3600)
    command = [sys.executable, "-c", CLAIM_AND_WAIT, url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        run = worker.stdout.readline().strip()
        assert ledger.live_runs({run}) == {run}
        assert ledger.unsettled() == []
        worker.kill()
        while worker.poll() is None and process.identity():
            time.sleep(0.01)
    assert ledger.live_runs({run}) == set()
    assert [each.key for each in ledger.unsettled()] == [KEY]
    stats = ledger.stats()
    assert (stats.open, stats.live) == (1, 0)


def test_a_zombie_has_ended() -> None:
    child = os.fork()
    if child == 0:
        time.sleep(0.2)
        os._exit(0)
    name = f"{process._realm()}/{child}/{process._born(child)}"
    assert not process.is_gone(name)
    while not process.is_gone(name):
        time.sleep(0.01)
    assert process._born(child) == ""
    os.waitpid(child, 0)


def test_a_reused_pid_is_another_process() -> None:
    realm, pid, born = process.identity().rsplit("/", 2)
    assert not process.is_gone(f"{realm}/{pid}/{born}")
    assert process.is_gone(f"{realm}/{pid}/{int(born) - 1}")


@pytest.mark.parametrize("name", ["other-boot:ns/1/1", "/1/1", "realm/pid/born"])
def test_another_machines_process_is_never_said_to_be_gone(name: str) -> None:
    assert not process.is_gone(name)


def test_where_nothing_can_be_seen_the_lease_decides(open_ledger: Callable[..., Ledger]) -> None:
    ledger = open_ledger(lease=0.5)
    run = ledger.start_run()
    ledger.claim(run, [KEY])
    _elsewhere(ledger, run)
    assert ledger.live_runs({run}) == {run}
    while ledger.live_runs({run}):
        time.sleep(0.02)
    assert [each.key for each in ledger.unsettled()] == [KEY]
    ledger.beat(run)
    assert ledger.live_runs({run}) == {run}
    assert ledger.unsettled() == []


def test_a_forked_child_uses_connections_of_its_own(ledger: Ledger) -> None:
    run = ledger.start_run()
    ledger.claim(run, [b"parent"])
    child = os.fork()
    if child == 0:
        try:
            mine = ledger.start_run()
            won = ledger.claim(mine, [b"parent", b"child"])
            os._exit(0 if won == {b"child"} else 1)
        except BaseException:  # noqa: BLE001
            os._exit(2)
    assert ledger.claim(run, [b"second"]) == {b"second"}
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert set(ledger.lookup([b"parent", b"child", b"second"])) == {b"parent", b"child", b"second"}
