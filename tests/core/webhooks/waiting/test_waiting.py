"""Waiting for jobs: by webhook, by asking, and whatever goes wrong in between."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest

from classifaily_connectors import (
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    JobFailedError,
    JobTimeoutError,
    NotFoundError,
)
from classifaily_connectors.sandbox import Fault
from classifaily_connectors.webhooks import acheck_job, await_for_job, check_job, wait_for_job

from .conftest import NEVER, SOON, Yard, all_asked, until

one_store = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


def all_of(yard: Yard, ids: list[str], **options: Any) -> list[str]:
    """Wait for all on one event loop; by what they were settled."""

    async def wait() -> list[str]:
        async with yard.aclient() as client:
            settled = await asyncio.gather(*(await_for_job(client, each, store=yard.store, **options) for each in ids))
        assert [each.job_id for each in settled] == ids
        assert [each.job.id for each in settled] == ids
        assert all(each.result().labels for each in settled)
        return [each.settled_by for each in settled]

    return asyncio.run(wait())


def counted(yard: Yard) -> tuple[int, int, int]:
    stats = yard.inbox.stats()
    return stats.settled_by_webhook, stats.settled_by_poll, stats.expected


def test_webhooks_wake_waiters_on_loops_and_in_threads(yard: Yard) -> None:
    ids = yard.submit(24)
    with yard.receiving(), ThreadPoolExecutor(12) as threads:
        wait = partial(wait_for_job, yard.client, store=yard.store, reconcile=NEVER)
        waiting = [threads.submit(wait, each) for each in ids[:10]]
        loop = threads.submit(all_of, yard, ids[10:], reconcile=NEVER)
        until(lambda: all_asked(24))
        yard.finish()
        assert [each.result(timeout=120).settled_by for each in waiting] == ["webhook"] * 10
        assert loop.result(timeout=120) == ["webhook"] * 14
    assert counted(yard) == (24, 0, 0)


@one_store
def test_a_webhook_that_comes_while_the_api_is_asked_is_what_told_us(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, asked, waited = yard.submit(3)
    for client in (yard.client, aclient := yard.aclient()):
        monkeypatch.setattr(client.jobs, "get", delivering(yard, client.jobs.get))
    with ThreadPoolExecutor(1) as threads:
        # Nobody looks into the store any more; the API is asked, and tells of the end before anyone has seen it there.
        waiting = threads.submit(wait_for_job, yard.client, waited, store=yard.store, poll=3600, reconcile=SOON)
        until(lambda: all_asked(1))
        yard.deliver(waited)
        yard.finish()
        assert waiting.result(timeout=120).settled_by == "webhook"

    async def acheck() -> Any:
        async with aclient:
            return await acheck_job(aclient, asked, store=yard.store)

    found = [check_job(yard.client, looked, store=yard.store), asyncio.run(acheck())]
    assert [each.settled_by for each in found] == ["webhook"] * 2
    assert counted(yard) == (3, 0, 0)


def delivering(yard: Yard, get: Any) -> Any:
    """`jobs.get`, with the webhook on its way at the same time."""

    def wrapped(job_id: str) -> Any:
        yard.deliver(job_id)
        return get(job_id)

    return wrapped


def test_a_delivery_that_came_before_anyone_waited_is_found(yard: Yard) -> None:
    """And then one question to the API is enough."""
    ids = yard.submit(6)
    with yard.receiving():
        yard.finish()
        until(lambda: yard.arrived(*ids))
    before = yard.asked()
    assert all_of(yard, ids[:4], reconcile=NEVER) == ["webhook"] * 4
    found = check_job(yard.client, ids[4], store=yard.store)
    assert found is not None
    assert found.settled_by == "webhook"
    assert found.job.labels
    assert wait_for_job(yard.client, ids[5], store=yard.store, deadline=0).settled_by == "webhook"
    assert yard.asked() - before == 6
    assert counted(yard) == (6, 0, 0)


def test_without_a_receiver_all_settle_by_asking_in_few_questions(yard: Yard) -> None:
    """A receiver that was down costs minutes only, and one batched listing serves many waiters."""
    ids = yard.submit(150)
    with ThreadPoolExecutor(1) as threads:
        loop = threads.submit(all_of, yard, ids, reconcile=SOON)
        until(lambda: yard.asked() >= 4)
        yard.finish()
        assert loop.result(timeout=120) == ["poll"] * 150
    assert counted(yard) == (0, 150, 0)
    assert yard.asked() < 150


@one_store
def test_a_look_says_none_until_the_job_has_ended(yard: Yard) -> None:
    [job_id] = yard.submit()
    assert check_job(yard.client, job_id) is None
    assert check_job(yard.client, job_id, store=yard.store) is None
    assert counted(yard) == (0, 0, 1)
    yard.finish()
    found = check_job(yard.client, int(job_id), store=yard.store)
    assert found is not None
    assert (found.settled_by, found.job_id) == ("poll", job_id)
    assert counted(yard) == (0, 1, 0)

    async def look() -> Any:
        async with yard.aclient() as client:
            return await acheck_job(client, job_id, store=yard.store), await acheck_job(client, job_id)

    assert [each.job.id for each in asyncio.run(look())] == [job_id, job_id]
    with pytest.raises(NotFoundError):
        check_job(yard.client, "987654321")
    assert check_job(yard.client, "987654321", store=yard.store) is None


@one_store
def test_a_failed_job_settles_and_its_result_raises(yard: Yard) -> None:
    yard.sandbox.script("cursed", error="the model gave up")
    job = yard.client.submit("cursed", categories=["a", "b"])
    with yard.receiving():
        yard.finish()
        settled = wait_for_job(yard.client, str(job.id), store=yard.store, reconcile=NEVER)
    assert settled.job.failed
    with pytest.raises(JobFailedError, match="the model gave up") as caught:
        settled.result()
    assert caught.value.job_id == job.id


@one_store
def test_what_the_api_does_not_know_is_believed_from_its_delivery(yard: Yard) -> None:
    """Batches may not be found by id; their delivery is then all there is."""
    body = b'{"event":"batch.completed","id":"batch_77","results":[{"id":"a","result":{"label":"x","confidence":0.9}}]}'
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait_for_job, yard.client, "batch_77", store=yard.store, reconcile=SOON)
        until(lambda: yard.asked() >= 8)  # "not found" is no reason to give up where a webhook may still come
        yard.deliver("batch_77", event="batch.completed", body=body)
        settled = waiting.result(timeout=120)
    assert settled.settled_by == "webhook"
    assert [each.label for each in settled.job.results] == ["x"]
    assert check_job(yard.client, "batch_77", store=yard.store) == settled
    yard.deliver("batch_78", event="job.failed", body=b"pruned or foreign")
    found = check_job(yard.client, "batch_78", store=yard.store)
    assert found is not None
    assert found.job.failed


@one_store
def test_a_delivery_is_a_hint_and_the_job_is_the_truth(yard: Yard) -> None:
    """A replayed or forged "completed" ends no wait while the job still runs."""
    [job_id] = yard.submit()
    yard.deliver(job_id, body=b'{"event":"job.completed","id":"%s","result":{"label":"forged"}}' % job_id.encode())
    assert check_job(yard.client, job_id, store=yard.store) is None
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait_for_job, yard.client, job_id, store=yard.store, reconcile=NEVER)
        until(lambda: yard.asked() >= 3)
        assert not waiting.done()
        yard.finish()
        settled = waiting.result(timeout=120)
    assert settled.settled_by == "webhook"
    assert settled.job.label in ("billing", "other")


@one_store
def test_other_sources_deliveries_wake_nobody(yard: Yard) -> None:
    ours, theirs = yard.submit(2)
    with ThreadPoolExecutor(2) as threads:
        wait = partial(wait_for_job, yard.client, store=yard.store, reconcile=NEVER)
        waiting, other = threads.submit(wait, ours), threads.submit(wait, theirs)
        until(lambda: all_asked(2))
        yard.finish()
        yard.deliver(ours, source="staging")
        yard.deliver(theirs)
        assert other.result(timeout=120).settled_by == "webhook"
        time.sleep(0.2)  # a wrong one would wake up meanwhile; the right one never does
        assert not waiting.done()
        yard.deliver(ours)
        assert waiting.result(timeout=120).settled_by == "webhook"
    assert wait(ours, source="staging").settled_by == "webhook"


# --- deadlines ----------------------------------------------------------------------------------


@pytest.mark.parametrize("stored", [True, False])
@one_store
def test_a_deadline_is_a_moment_and_means_the_same_after_a_restart(yard: Yard, stored: bool) -> None:
    [job_id] = yard.submit()
    place = {"store": yard.store} if stored else {}
    deadline = time.time() + 0.3
    for _ in range(2):  # before it, and after a restart past it
        with pytest.raises(JobTimeoutError) as caught:
            wait_for_job(yard.client, job_id, deadline=deadline, reconcile=NEVER, **place)  # type: ignore[arg-type]
        assert caught.value.job_id == job_id
        assert time.time() >= deadline
    yard.finish()
    # However late: a job that has ended is found by the last look.
    settled = wait_for_job(yard.client, job_id, deadline=deadline, reconcile=NEVER, **place)  # type: ignore[arg-type]
    assert settled.settled_by == "poll"


# --- asking alone -------------------------------------------------------------------------------


@one_store
def test_without_a_store_the_api_is_asked(yard: Yard) -> None:
    ids = yard.submit(30)
    options: dict[str, Any] = {"reconcile": SOON}
    with ThreadPoolExecutor(30) as threads:
        waiting = [threads.submit(wait_for_job, yard.client, each, **options) for each in ids]
        until(lambda: yard.asked() >= 4)
        yard.sandbox.inject(Fault(kind="500", path="/jobs", times=5))  # passing trouble is sat out
        yard.finish()
        assert {each.result(timeout=120).settled_by for each in waiting} == {"poll"}


@one_store
def test_what_asking_cannot_cure_is_raised(yard: Yard) -> None:
    with pytest.raises(NotFoundError):
        wait_for_job(yard.client, "987654321", reconcile=(0.01, 0.01))
    [job_id] = yard.submit()
    yard.sandbox.revoke(yard.sandbox.key)
    for place in ({}, {"store": yard.store}):
        with pytest.raises(AuthenticationError):
            wait_for_job(yard.client, job_id, reconcile=SOON, **place)  # type: ignore[arg-type]


@one_store
def test_nonsense_is_refused_before_anything_is_waited_for(yard: Yard) -> None:
    wait = partial(wait_for_job, yard.client)
    for wrong in ({"deadline": float("nan")}, {"poll": 0}, {"reconcile": (0, 1)}, {"reconcile": (5, 1)}):
        with pytest.raises(InvalidRequestError, match=next(iter(wrong))):
            wait("1", store=yard.store, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="job id"):
        wait(" ")
    for place in ({"store": "mysql://x"}, {"store": "http://example.com"}, {"store": yard.store, "source": "a/b"}):
        with pytest.raises(ConfigurationError):
            wait("1", **place)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError):
            check_job(yard.client, "1", **place)  # type: ignore[arg-type]


# --- leaving ------------------------------------------------------------------------------------


@one_store
def test_cancelled_waiters_leave_nothing(yard: Yard) -> None:
    ids = yard.submit(20)

    async def give_up() -> set[asyncio.Task[Any]]:
        async with yard.aclient() as client:
            tasks = [asyncio.create_task(await_for_job(client, each, store=yard.store)) for each in ids]
            await asyncio.to_thread(until, lambda: len(yard.inbox.expected()) == 20)
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            assert all(isinstance(each, asyncio.CancelledError) for each in ended)
        return asyncio.all_tasks() - {asyncio.current_task()}  # type: ignore[arg-type]

    assert asyncio.run(give_up()) == set()
    # The yard waits until no thread is left. Their expectations stay: somebody may come back for them.
    assert counted(yard) == (0, 0, 20)


@one_store
def test_one_waiters_end_is_not_the_others(yard: Yard) -> None:
    """The shared poller outlives the loop, the client and the thread that began it."""
    first, second = yard.submit(2)
    with ThreadPoolExecutor(1) as threads:

        async def begin() -> None:
            async with yard.aclient() as client:
                task = asyncio.create_task(await_for_job(client, first, store=yard.store, reconcile=NEVER))
                await asyncio.to_thread(until, lambda: len(yard.inbox.expected()) == 1)
                self.append(threads.submit(wait_for_job, yard.client, second, store=yard.store, reconcile=NEVER))
                await asyncio.to_thread(until, lambda: all_asked(2))
                task.cancel()

        self: list[Any] = []
        asyncio.run(begin())
        yard.finish()
        yard.deliver(second)
        assert self[0].result(timeout=120).settled_by == "webhook"


@one_store
def test_all_share_one_thread(yard: Yard) -> None:
    ids = yard.submit(8)
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(wait_for_job, yard.client, each, store=yard.store, reconcile=NEVER) for each in ids]
        until(lambda: all_asked(8))
        names = [each.name for each in threading.enumerate()]
        assert sum(name.startswith("classifaily-waiting") for name in names) == 1
        assert sum(name.startswith("classifaily-store") for name in names) <= 2
        yard.finish()
        yard.deliver(*ids)
        assert all(each.result(timeout=120).settled_by == "webhook" for each in waiting)
