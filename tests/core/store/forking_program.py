"""Forks while it uses a store. Arguments: what to do, and the store's URL.

`at_work` forks 20 children while threads write, `leaving` closes the store while a child goes on with it, and `lane`
forks from an event loop whose lane is kept busy. A child that fails makes the whole fail.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from itertools import count

from classifaily_connectors.store import Arrival, Inbox, Ledger

what, url = sys.argv[1:]
# Newer Pythons warn of a fork beside threads, which is just what is done here.
warnings.simplefilter("ignore", DeprecationWarning)


def child(work: Callable[[], object]) -> int:
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        work()
        code = 0
    except BaseException:  # noqa: BLE001  # a child of this program never goes on with its parent's work
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(processes: list[int]) -> None:
    codes = [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in processes]
    assert not any(codes), codes


def at_work() -> None:
    ledger, stop = Ledger(url), threading.Event()
    run = ledger.start_run()

    def write(name: str) -> None:
        for number in count():
            if stop.is_set():
                return
            ledger.claim(run, [f"{name} {number}".encode()])
            ledger.lookup([b"nothing"])

    threads = [threading.Thread(target=write, args=[name]) for name in "ab"]
    for each in threads:
        each.start()
    try:
        ended([child(lambda number=number: ledger.claim(run, [b"child %d" % number])) for number in range(20)])
    finally:
        stop.set()
        for each in threads:
            each.join()
        ledger.close()


def leaving() -> None:
    ledger = Ledger(url)
    run = ledger.start_run()
    ledger.claim(run, [b"before"])
    (from_child, to_parent), (from_parent, to_child) = os.pipe(), os.pipe()

    def work() -> None:
        ledger.claim(run, [b"between"])
        os.write(to_parent, b".")
        os.read(from_parent, 1)
        ledger.claim(run, [b"after"])

    process = child(work)
    os.read(from_child, 1)
    ledger.lookup([b"before"])
    ledger.close()
    os.write(to_child, b".")
    ended([process])


def arrival(job_id: str) -> Arrival:
    return Arrival("default", "job.completed", job_id, b"digest", 1e9, None, b"{}")


async def lane() -> None:
    inbox = Inbox(url)
    way, all_in, processes = inbox.lane(), asyncio.Event(), list[int]()
    batches: Iterator[list[Arrival]] = iter([[arrival(f"parent {number}")] for number in range(200)])
    outcomes = []

    def tell(_size: int, outcome: object, more: bool) -> None:
        outcomes.append(outcome)
        if len(outcomes) % 40 == 20:
            name = f"child {len(processes)}"
            processes.append(child(lambda: inbox.put([arrival(name)])))
        if not more:
            all_in.set()

    way.begin(lambda: next(batches, []), tell)
    await all_in.wait()
    ended(processes)
    assert not [each for each in outcomes if isinstance(each, Exception)], outcomes
    way.close()
    inbox.close()


if what == "lane":
    asyncio.run(lane())
else:
    {"at_work": at_work, "leaving": leaving}[what]()
