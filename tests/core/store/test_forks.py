"""A process that forks: its child and itself go on with the store as if each had opened it alone."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from classifaily_connectors.store import Arrival, Inbox, Ledger, forks

if TYPE_CHECKING:
    from classifaily_connectors.store.lanes import Lane

pytestmark = pytest.mark.slow

on_sqlite = pytest.mark.parametrize("url", ["sqlite"], indirect=True)
PROGRAM = Path(__file__).with_name("forking_program.py")


def run(what: str, url: str) -> None:
    """In a process of its own: here, other threads may hold anything at the moment of a fork."""
    command = [sys.executable, "-W", "error", str(PROGRAM), what, url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")


def test_children_of_a_process_at_work_can_work_at_once(url: str) -> None:
    run("at_work", url)
    with_children = [b"child %d" % number for number in range(20)]
    ledger = Ledger(url)
    assert ledger.lookup(with_children).keys() == set(with_children)
    ledger.close()


def test_what_a_child_commits_outlives_its_parents_leaving(url: str) -> None:
    run("leaving", url)
    ledger = Ledger(url)
    assert ledger.lookup([b"before", b"between", b"after"]).keys() == {b"before", b"between", b"after"}
    ledger.close()


def test_a_lane_goes_on_after_a_fork(url: str) -> None:
    run("lane", url)
    inbox = Inbox(url)
    assert len(inbox.find("default", [f"parent {number}" for number in range(200)])) == 200
    assert len(inbox.find("default", [f"child {number}" for number in range(5)])) == 5
    inbox.close()


@on_sqlite
def test_no_file_is_open_in_the_child(url: str) -> None:
    inbox, ledger = Inbox(url), Ledger(url)
    inbox.put([Arrival("default", "job.completed", "1", b"digest", 1e9, None, b"{}")])
    ledger.claim(ledger.start_run(), [b"key"])
    assert open_files(url)
    child = fork()
    if child == 0:
        os._exit(len(open_files(url)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert ledger.lookup([b"key"])
    inbox.close()
    ledger.close()


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of any other thread
        return os.fork()


def open_files(url: str) -> list[str]:
    name = Path(url.removeprefix("sqlite:///")).name
    links = (os.path.realpath(each) for each in Path("/proc/self/fd").iterdir())
    return [each for each in links if Path(each).name.startswith(name)]


# --- the gate -----------------------------------------------------------------------------------


def test_a_fork_waits_for_those_inside_who_may_go_deeper() -> None:
    gate, entered, deeper = forks.Gate(), threading.Event(), threading.Event()
    order: list[str] = []

    def work() -> None:
        with gate:
            entered.set()
            deeper.wait()
            with gate:
                order.append("worked")
        with gate:
            order.append("came back")

    worker = threading.Thread(target=work)
    worker.start()
    entered.wait()
    threading.Timer(0.1, deeper.set).start()
    assert gate.shut()
    order.append("forked")
    gate.open()
    worker.join()
    assert order == ["worked", "forked", "came back"]


def test_nobody_enters_before_the_last_of_several_forks() -> None:
    gate, inside = forks.Gate(), threading.Event()

    def work() -> None:
        with gate:
            inside.set()

    assert gate.shut()
    assert gate.shut()
    worker = threading.Thread(target=work)
    worker.start()
    gate.open()
    assert not inside.wait(0.2)
    gate.open()
    worker.join()
    assert inside.is_set()


@on_sqlite
def test_whoever_closes_waits_for_a_fork_too(url: str) -> None:
    """SQLite's own locks must not be held by a thread that the child does not have."""

    async def lane_in_use(inbox: Inbox) -> Lane:
        lane, told = inbox.lane(), asyncio.Event()
        batches = iter([[Arrival("default", "job.completed", "1", b"digest", 1e9, None, b"{}")]])
        lane.begin(lambda: next(batches, []), lambda *_: told.set())
        await told.wait()
        return lane

    inbox = Inbox(url)
    lane = asyncio.run(lane_in_use(inbox))
    for each in (lane, inbox):
        assert forks.at_work.shut()
        closing = threading.Thread(target=each.close)
        closing.start()
        closing.join(0.2)
        waited = closing.is_alive()
        forks.at_work.open()
        closing.join()
        assert waited


def test_a_fork_does_not_wait_for_ever_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forks, "PATIENCE", 0.1)
    with caplog.at_level(logging.WARNING), forks.at_work:
        started = time.monotonic()
        other = threading.Thread(target=lambda: (forks._before(), forks.at_work.open()))
        other.start()
        other.join()
        assert time.monotonic() - started >= 0.1
    assert "a fork while a store is being used" in caplog.text


def test_who_forks_inside_waits_for_nobody_and_its_child_may_come_and_go(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), forks.at_work:
        child = fork()
        if child == 0:
            forks.at_work.__exit__()
            with forks.at_work:
                os._exit(forks.at_work._inside)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert "a fork while a store is being used" in caplog.text


def test_one_that_does_not_close_keeps_no_other_from_it(caplog: pytest.LogCaptureFixture) -> None:
    class Holder:
        closed = 0

        def close(self) -> None:
            self.closed += 1
            raise OSError("no")

    holders = Holder(), Holder()
    for each in holders:
        forks.put_away(each, Holder.close)
    forks._before()
    forks.at_work.open()
    assert [each.closed for each in holders] == [1, 1]
    assert caplog.text.count("did not close before a fork") == 2
