"""What happens to those who wait when the store, the receiver or the process does not last."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from classifaily_connectors.webhooks import check_job, wait_for_job

from .conftest import NEVER, SECRET, SOON, Yard, all_asked, until

pytestmark = pytest.mark.slow

on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)
on_postgres = pytest.mark.parametrize("store", ["postgresql"], indirect=True)
PROGRAM = Path(__file__).with_name("waiting_program.py")


@on_postgres
def test_postgres_goes_away_and_comes_back(yard: Yard) -> None:
    """Every connection cut, new ones refused for a while; a delivery that came meanwhile wakes its waiter."""
    import psycopg

    name = yard.store.rpartition("/")[2]
    server = yard.store.replace("+psycopg", "").replace(f"/{name}", "/postgres")
    ids = yard.submit(5)
    with ThreadPoolExecutor(5) as threads, psycopg.connect(server, autocommit=True) as admin:
        waiting = [threads.submit(wait_for_job, yard.client, each, store=yard.store, reconcile=NEVER) for each in ids]
        until(lambda: all_asked(5))
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")  # type: ignore[arg-type]
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        yard.finish()
        time.sleep(1)  # nothing is asserted of it: the poller meets the closed door a few times
        assert not any(each.done() for each in waiting)
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")  # type: ignore[arg-type]
        yard.deliver(*ids)
        assert [each.result(timeout=120).settled_by for each in waiting] == ["webhook"] * 5


@on_postgres
def test_notifications_wake_where_the_poll_would_not(yard: Yard) -> None:
    ids = yard.submit(3)
    with ThreadPoolExecutor(3) as threads:
        options = {"store": yard.store, "reconcile": NEVER, "poll": 3600.0}
        waiting = [threads.submit(wait_for_job, yard.client, each, **options) for each in ids]  # type: ignore[arg-type]
        until(lambda: all_asked(3))
        yard.finish()
        for each, there in zip(ids, waiting, strict=True):
            yard.deliver(each)
            assert there.result(timeout=120).settled_by == "webhook"


@contextmanager
def again(yard: Yard, port: int) -> Iterator[None]:
    """A receiver on the very port that was just left; should somebody have taken it, once it is free."""
    with ExitStack() as stack:

        def serve() -> bool:
            with suppress(OSError):
                stack.enter_context(yard.receiving(register=False, port=port))
                return True
            return False

        until(serve)
        yield


@on_sqlite
def test_through_the_feed_of_a_receiver_that_restarts(yard: Yard) -> None:
    """Workers on other machines need no database; a receiver that is down for a while costs them nothing."""
    ids = yard.submit(6)
    with ThreadPoolExecutor(6) as threads:
        with yard.receiving() as serving:
            address, port = serving.url, int(serving.url.split(":")[2].partition("/")[0])
            options = {"store": address, "secret": SECRET, "reconcile": NEVER}
            waiting = [threads.submit(wait_for_job, yard.client, each, **options) for each in ids]  # type: ignore[arg-type]
            until(lambda: all_asked(6))
            yard.deliver(ids[0])
            yard.finish()
            assert waiting[0].result(timeout=120).settled_by == "webhook"
        yard.deliver(*ids[1:])
        with again(yard, port):
            assert {each.result(timeout=120).settled_by for each in waiting} == {"webhook"}


@on_sqlite
def test_a_receiver_that_is_down_from_the_start_is_no_obstacle(yard: Yard) -> None:
    [job_id] = yard.submit()
    yard.finish()
    nobody = {"store": "http://127.0.0.1:9/classifaily/webhooks", "secret": SECRET}
    assert wait_for_job(yard.client, job_id, reconcile=SOON, **nobody).settled_by == "poll"  # type: ignore[arg-type]
    found = check_job(yard.client, job_id, **nobody)
    assert found is not None
    assert found.settled_by == "poll"


# --- processes ----------------------------------------------------------------------------------


def program(yard: Yard, what: str, *job_ids: str) -> subprocess.Popen[str]:
    order = {"key": yard.sandbox.key, "base_url": yard.sandbox.base_url, "store": yard.store, "ids": job_ids}
    command = [sys.executable, "-W", "error", str(PROGRAM), what, json.dumps(order)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> dict[str, str]:
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return json.loads(out)  # type: ignore[no-any-return]


def test_both_sides_of_a_fork_wait_on_their_own(yard: Yard) -> None:
    """The parent waits while it forks; the child has no thread of its parent's, and none of its connections."""
    ids = yard.submit(3)
    process = program(yard, "fork", *ids)
    until(lambda: {each.job_id for each in yard.inbox.expected()} == set(ids) or process.poll() is not None)
    yard.finish()
    yard.deliver(*ids)
    assert said(process).keys() == set(ids)


@on_sqlite
def test_a_killed_waiter_waits_again_and_finds_what_came_meanwhile(yard: Yard) -> None:
    ids = yard.submit(3)
    first = program(yard, "wait", *ids)
    until(lambda: len(yard.inbox.expected()) == 3 or first.poll() is not None)
    first.kill()
    first.communicate(timeout=60)
    yard.finish()
    yard.deliver(*ids)
    assert said(program(yard, "wait", *ids)) == dict.fromkeys(ids, "webhook")
    assert yard.inbox.stats().settled_by_webhook == 3
