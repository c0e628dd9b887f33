"""Jobs: submitted once, and waited for by asking and by Prefect's own events."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, get_client, task
from prefect.runtime import flow_run as runtime
from prefect_stage import BUG, MONEY, TEAMS, Stage, staged, wait_until

from classifaily_connectors import (
    ConfigurationError,
    InvalidRequestError,
    Job,
    JobFailedError,
    JobTimeoutError,
    NotFoundError,
    OutcomeUnknownError,
)
from classifaily_connectors.sandbox import Fault
from prefect_classifaily import asubmit_job, await_for_job, events, jobs, submit_job, wait_for_job
from prefect_classifaily.sink import Sink


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with staged(tmp_path) as stage:
        for name, value in stage.environment().items():
            monkeypatch.setenv(name, value)
        yield stage


def beside(work: Callable[[], Any]) -> Future[Any]:
    """`work` in a thread of its own."""
    return ThreadPoolExecutor(1).submit(work)


def asked(stage: Stage) -> bool:
    return any(each.path.endswith("/jobs") for each in stage.sandbox.requests)


@pytest.mark.parametrize(("sync", "twin"), [(submit_job, asubmit_job), (wait_for_job, await_for_job)])
def test_twins_have_one_signature(sync: Any, twin: Any) -> None:
    assert inspect.signature(sync) == inspect.signature(twin)


def test_a_job_is_submitted_once(server: Any, stage: Stage) -> None:
    @flow
    def twice() -> list[Job]:
        return [submit_job(MONEY, categories=TEAMS), submit_job.submit(MONEY, categories=TEAMS).result()]

    @flow
    async def again() -> Job:
        return await asubmit_job(MONEY, categories=TEAMS)

    found = [*twice(), asyncio.run(again())]
    assert len({each.id for each in found}) == 1
    assert all(each.input_preview is None for each in found)
    assert stage.sandbox.bill().charged == 1


def test_a_job_whose_end_is_expected_is_swept(server: Any, stage: Stage) -> None:
    """Nobody waits for it, and its webhook is lost: an automation hears of it all the same."""
    stage.sandbox.inject(Fault(kind="drop_webhook", times=None))
    wanted = [submit_job.fn(MONEY, categories=TEAMS, source="default")]
    wanted += [asyncio.run(asubmit_job.fn(BUG, categories=TEAMS, source="default"))]
    submit_job.fn("nobody's", categories=TEAMS)
    sink = Sink(stage.store, stage.credentials)
    with get_client(sync_client=True) as prefect:
        assert sink.sweep(prefect) == 0
        stage.end_jobs()
        assert (sink.sweep(prefect), sink.sweep(prefect)) == (2, 0)
    sink.close()
    assert {each.settled_by for each in stage.inbox.expected()} == set()
    assert stage.inbox.stats().settled_by_poll == len(wanted)


def test_a_lost_answer_is_met_once(server: Any, stage: Stage) -> None:
    stage.sandbox.inject(Fault(kind="reset", after_work=True, path="/classify", times=None))

    @flow
    def submit() -> None:
        submit_job.with_options(retry_delay_seconds=0)(MONEY, categories=TEAMS)

    with pytest.raises(OutcomeUnknownError):
        submit()
    assert stage.sandbox.bill().charged == 1


@pytest.mark.parametrize("by", ["asking", "the receiver's store", "the receiver"])
def test_polling(server: Any, stage: Stage, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLASSIFAILY_WEBHOOK_SECRET", "whsec-0123456789abcdef")
    store = {"asking": None, "the receiver's store": stage.store, "the receiver": stage.url}[by]

    @flow
    def wait() -> Job:
        return wait_for_job(submit_job(MONEY, categories=TEAMS), store=store)

    @flow
    async def await_both() -> list[Job]:
        jobs = [await asubmit_job(text, categories=TEAMS) for text in (MONEY, BUG)]
        return await asyncio.gather(*(await_for_job(each.id, store=store) for each in jobs))

    sync, twin = beside(wait), beside(lambda: asyncio.run(await_both()))
    wait_until(lambda: stage.sandbox.bill().charged == 2 and asked(stage))
    stage.end_jobs()
    assert sync.result(120).label == "billing"
    assert [each.label for each in twin.result(120)] == ["billing", "technical"]


@flow
def heard() -> Job:
    return wait_for_job(submit_job(MONEY, categories=TEAMS), mode="event")


@flow
async def aheard() -> Job:
    return await await_for_job(await asubmit_job(MONEY, categories=TEAMS), mode="event")


@pytest.mark.parametrize("wait", [heard, lambda: asyncio.run(aheard())])
def test_an_event_wakes_whoever_waits(
    server: Any, stage: Stage, monkeypatch: pytest.MonkeyPatch, wait: Callable[[], Job]
) -> None:
    # So seldom that only an event can tell.
    monkeypatch.setattr(jobs, "SLOWLY", (3600.0, 3600.0))
    result = beside(wait)
    wait_until(lambda: asked(stage))
    stage.end_jobs()
    wait_until(lambda: stage.inbox.head() > 0)
    sink = Sink(stage.store, stage.credentials)
    with get_client(sync_client=True) as prefect:
        # Again and again, as the subscription may begin a moment after the first question.
        while not result.done():
            sink.forward(prefect)
            stage.inbox.redrive(stage.inbox.head())
            time.sleep(0.5)
    sink.close()
    assert result.result(120).label == "billing"


def test_an_event_that_never_comes_costs_little(server: Any, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SLOWLY", (0.2, 0.2))

    @flow
    def wait() -> Job:
        return wait_for_job(submit_job(MONEY, categories=TEAMS), mode="event")

    result = beside(wait)
    wait_until(lambda: asked(stage))
    stage.end_jobs()
    assert result.result(120).label == "billing"


def test_events_that_cannot_be_followed_are_done_without(
    server: Any, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(**_: object) -> None:
        raise ConnectionError("no websockets here")

    monkeypatch.setattr(jobs, "get_events_subscriber", broken)
    monkeypatch.setattr(jobs, "SLOWLY", (0.2, 0.2))
    submit_job.fn(MONEY, categories=TEAMS)
    stage.end_jobs()
    assert heard().label == "billing"


def test_a_job_that_failed_or_goes_on(server: Any, stage: Stage) -> None:
    stage.sandbox.script(BUG, error="the model gave up")
    job = submit_job.fn(BUG, categories=TEAMS)

    @flow
    def wait(timeout: float | None) -> Job:
        return wait_for_job(job, timeout=timeout)

    with pytest.raises(JobTimeoutError):
        wait(0.2)
    stage.end_jobs()
    with pytest.raises(JobFailedError, match="the model gave up"):
        wait(None)


def test_what_needs_no_waiting(stage: Stage) -> None:
    done = Job.model_validate({"id": "1", "status": "completed", "result": {"label": "billing", "confidence": 0.9}})
    assert wait_for_job(done) is done
    assert asyncio.run(await_for_job(done, mode="suspend")) is done
    with pytest.raises(JobFailedError):
        wait_for_job(Job.model_validate({"id": "1", "status": "failed"}))
    with pytest.raises(ConfigurationError, match="mode is 'nap'; it must be one of poll, event, suspend"):
        wait_for_job("1", mode="nap")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no id to wait for"):
        wait_for_job(Job.model_validate({"status": "pending"}))
    with pytest.raises(ConfigurationError, match="call wait_for_job in a flow"):
        wait_for_job("1", mode="suspend")
    assert not asked(stage)


@pytest.mark.parametrize(
    "given",
    [{"id": "7", "input_preview": MONEY}, [7], None, True, 1.5, MONEY, "", "7 8", "7\n", object()],
    ids=lambda given: type(given).__name__,
)
def test_what_is_no_job_is_refused_and_not_repeated(stage: Stage, given: Any) -> None:
    for work in (lambda: wait_for_job(given), lambda: asyncio.run(await_for_job(given, mode="suspend"))):
        with pytest.raises(ConfigurationError, match="that is no job id: pass what submit_job returned") as caught:
            work()
        assert MONEY not in str(caught.value)
    assert not asked(stage)


def test_a_future_or_a_state_stands_for_its_job(server: Any, stage: Stage) -> None:
    options: dict[str, Any] = {"categories": TEAMS}

    @flow
    def waits() -> list[str | None]:
        future = submit_job.submit(MONEY, **options)
        state = submit_job(BUG, return_state=True, **options)
        future.wait()
        stage.end_jobs()
        return [wait_for_job(future).label, wait_for_job(state).label]

    @flow
    async def awaits() -> str | None:
        future = asubmit_job.submit(MONEY, **options)
        return (await await_for_job(future)).label

    assert waits() == ["billing", "technical"]
    assert asyncio.run(awaits()) == "billing"

    @flow
    def refused() -> Job:
        return wait_for_job(submit_job.submit(" ", **options))

    with pytest.raises(InvalidRequestError):
        refused()


def test_a_run_that_cannot_be_suspended_says_so_and_keeps_no_tag(server: Any, stage: Stage) -> None:
    answers: list[str] = []

    def suspend() -> None:
        with pytest.raises(ConfigurationError) as caught:
            wait_for_job("7", mode="suspend")
        answers.append(str(caught.value))

    @flow
    def inner() -> None:
        suspend()

    @flow
    def outer() -> Any:
        task(suspend)()
        inner()
        suspend()
        return runtime.id

    run_id = outer()
    assert ["in a flow, not in a task" in answers[0], "a subflow" in answers[1], "a deployment" in answers[2]] == [
        True
    ] * 3
    with get_client(sync_client=True) as prefect:
        assert prefect.read_flow_run(run_id).tags == []
    assert not asked(stage)


def test_waits_at_once_keep_each_others_tags(server: Any, stage: Stage) -> None:
    """Prefect replaces all the tags of a run."""
    ids = [str(number) for number in range(8)]

    @flow
    def waits() -> Any:
        return runtime.id

    run_id = UUID(str(waits()))
    with get_client(sync_client=True) as prefect, ThreadPoolExecutor(8) as threads:
        prefect.update_flow_run(run_id, tags=["mine"])
        list(threads.map(lambda each: jobs._tag(run_id, each), ids))
        assert events.jobs_of(prefect.read_flow_run(run_id).tags) == set(ids)
        list(threads.map(lambda each: jobs._untag(run_id, each), ids[1:]))
        assert {*prefect.read_flow_run(run_id).tags} == {"mine", events.WAITING, events.tag("0")}
        jobs._untag(run_id, "0")
        assert prefect.read_flow_run(run_id).tags == ["mine"]


def test_a_job_that_there_is_not(server: Any, stage: Stage) -> None:
    @flow
    def look() -> None:
        jobs.look_at_job.with_options(retry_delay_seconds=0)(jobs.Wait("404", None, None, "default", None))

    with pytest.raises(NotFoundError):
        look()
    # It may have been born a moment ago, so it is asked for more than once.
    assert [each.status for each in stage.sandbox.requests].count(404) > 1
