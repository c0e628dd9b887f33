"""Long jobs: submitted once, and waited for by asking, by an event, or without a process at all.

The law of this file: an event, a webhook and a resumption are hints, and the job itself (`GET /jobs`) is the truth; so
whoever waits looks first, and looks again whenever it is woken. A submission is remembered by the ledger, so a retry,
a resumed run or another worker finds the job instead of paying for a second one.

The waits are functions that run tasks, not tasks: a task cannot suspend its flow.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import re
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Unpack, cast

from prefect import get_client, suspend_flow_run, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext, TaskRunContext
from prefect.events.clients import get_events_subscriber
from prefect.events.filters import EventFilter, EventResourceFilter
from prefect.futures import PrefectFuture
from prefect.logging import get_run_logger
from prefect.tasks import Task, exponential_backoff
from prefect.utilities.asyncutils import run_coro_as_sync

from classifaily_connectors import ConfigurationError, Job, NotFoundError, asubmit_once, submit_once
from classifaily_connectors.operations.jobs import settled
from classifaily_connectors.webhooks import Settled, acheck_job, check_job
from classifaily_connectors.webhooks import await_for_job as acore
from classifaily_connectors.webhooks import wait_for_job as core
from classifaily_connectors.webhooks.feed import open_inbox
from prefect_classifaily import events
from prefect_classifaily.credentials import CredentialsLike, aresolve, resolve
from prefect_classifaily.tasks import BACKOFF, JITTER, RETRIES, free, paid, retry_idempotent, without_excerpt

if TYPE_CHECKING:
    from uuid import UUID

    from prefect.client.schemas.objects import TaskRun

    from classifaily_connectors import AsyncClassifailyClient
    from classifaily_connectors.media import Input
    from classifaily_connectors.operations.payloads import ClassifyOptions
    from classifaily_connectors.taxonomy import CategoryLike

Mode = Literal["poll", "event", "suspend"]
JobLike = Job | str | int | PrefectFuture[Job] | State[Job]
"""A job, its id, or the future or state of the task that submits it."""
_ID = re.compile(r"[!-~]{1,200}")
SLOWLY = (5.0, 300.0)
"""Seconds between two questions to the API while an event is awaited: one that is lost costs little."""
LONGEST_PAUSE = 30.0
"""Seconds at most before Prefect's events are followed anew."""

# Told which of its two forms is meant: left to itself, it guesses by whether an event loop is running.
_suspend: Any = suspend_flow_run


# --- submitting ---------------------------------------------------------------------------------


@paid
def submit_job(
    input: Input,
    *,
    credentials: CredentialsLike = None,
    categories: Iterable[CategoryLike] | None = None,
    ledger: str | None = None,
    identity: str | None = None,
    on_unknown: Literal["park", "resend"] = "park",
    source: str | None = None,
    **options: Unpack[ClassifyOptions],
) -> Job:
    """Queue one input and return its job, without waiting (API reference, Classify, `async`); costs one request, once.

    A retry, a resumed run and every other worker on the same ledger get the same job; `ledger` is a store URL, else
    where the credentials say. Audio and video need an `identity`, because a URL does not tell what lies behind it.
    `source` names the webhook that will tell of its end; the sweep then makes up for it if it is lost. `options` are
    `schema`, `type`, `mode`, `top_n`, `threshold` and `explain`, as in `ClassifailyClient.submit`. Take the result with
    `wait_for_job`.

    Raises OutcomeUnknownError, never retried, when a request may have been paid and left no job id; on_unknown="resend"
    sends it again all the same.
    """
    block = resolve(credentials)
    store = ledger or block.get_store_url()
    with block.get_client() as client:
        job = submit_once(
            client, input, ledger=store, categories=categories,
            identity=identity, on_unknown=on_unknown, **options,
        )  # fmt: skip
    if source is not None:
        _expect(store, source, job)
    return without_excerpt(job)


@paid
async def asubmit_job(
    input: Input,
    *,
    credentials: CredentialsLike = None,
    categories: Iterable[CategoryLike] | None = None,
    ledger: str | None = None,
    identity: str | None = None,
    on_unknown: Literal["park", "resend"] = "park",
    source: str | None = None,
    **options: Unpack[ClassifyOptions],
) -> Job:
    """The async twin of `submit_job`; see there."""
    block = await aresolve(credentials)
    store = ledger or block.get_store_url()
    async with block.get_async_client() as client:
        job = await asubmit_once(
            client, input, ledger=store, categories=categories,
            identity=identity, on_unknown=on_unknown, **options,
        )  # fmt: skip
    if source is not None:
        await asyncio.to_thread(_expect, store, source, job)
    return without_excerpt(job)


def _expect(store: str, source: str, job: Job) -> None:
    if job.id is not None and not job.done:
        with contextlib.closing(open_inbox(store)) as inbox:
            inbox.expect(source, [job.id], owner="prefect")


# --- waiting ------------------------------------------------------------------------------------


def wait_for_job(
    job: JobLike,
    *,
    mode: Mode = "poll",
    credentials: CredentialsLike = None,
    store: str | None = None,
    source: str = "default",
    timeout: float | None = None,
) -> Job:
    """The job once it has completed; `job` is one, its id, or the future or state of a `submit_job`.

    `poll` asks the API, ever more rarely; with `store` (a webhook receiver's store, or its address) it learns of the
    end within a quarter of a second of the delivery. `event` is woken by the event that the sink emits
    (`python -m prefect_classifaily.sink`). `suspend` ends the process, and the sink or the sweep has the run resumed:
    nothing runs meanwhile. It needs a deployment, and the flow then runs from its beginning again: tasks that must not
    be repeated need `persist_result=True` (`submit_job` does not).

    `source` names the webhook's account or environment; `timeout` is in seconds, None for ever.

    Raises ConfigurationError, before anything is asked, for what is no job, and for `suspend` in a task, a subflow or a
    flow run without a deployment; JobFailedError when the job failed; JobTimeoutError when it runs on (with `suspend`,
    Prefect fails the run instead); NotFoundError when the API goes on not knowing it.
    """
    job_id, done = _checked(_submitted(job), mode)
    if done is None:
        wait = Wait(job_id, credentials, store, source, _deadline(timeout))
        done = _WAITS[mode](wait)
    return settled(done)


async def await_for_job(
    job: JobLike,
    *,
    mode: Mode = "poll",
    credentials: CredentialsLike = None,
    store: str | None = None,
    source: str = "default",
    timeout: float | None = None,
) -> Job:
    """The async twin of `wait_for_job`; see there. Any number of them, gathered, share one poller."""
    job_id, done = _checked(await asyncio.to_thread(_submitted, job), mode)
    if done is None:
        wait = Wait(job_id, credentials, store, source, _deadline(timeout))
        done = await _ASYNC_WAITS[mode](wait)
    return settled(done)


@dataclass(frozen=True)
class Wait:
    """A job to wait for, and where to look for it; `deadline` is in seconds since the epoch."""

    job_id: str
    credentials: CredentialsLike
    store: str | None = field(repr=False)  # it may hold a password
    source: str
    deadline: float | None

    @property
    def place(self) -> dict[str, Any]:
        """Where its delivery would lie."""
        return {"store": self.store, "source": self.source}


def _checked(job: object, mode: str) -> tuple[str, Job | None]:
    """The id to wait for, and the job itself where it has ended already."""
    if mode not in _WAITS:
        raise ConfigurationError(f"mode is {mode!r}; it must be one of {', '.join(_WAITS)}")
    if isinstance(job, Job):
        if job.id is None and not job.done:
            raise ConfigurationError("the job has no id to wait for")
        return str(job.id), job if job.done else None
    if isinstance(job, str | int) and not isinstance(job, bool) and _ID.fullmatch(str(job)):
        return str(job), None
    # Not repeated: what is no id may be an input.
    raise ConfigurationError(
        f"job is a {type(job).__name__} that is no job id: pass what submit_job returned, its future, or the id itself"
    )


def _submitted(job: object) -> object:
    """What a future or a state of `submit_job` holds; anything else as it is.

    Raises what the submission raised.
    """
    if isinstance(job, PrefectFuture):
        return cast("Any", job).result()
    if isinstance(job, State):
        return cast("Any", job).result(_sync=True)
    return job


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else time.time() + timeout


# --- by asking ----------------------------------------------------------------------------------


@free
def poll_job(wait: Wait) -> Job:
    """Wait for a job, asking for it."""
    with resolve(wait.credentials).get_client() as client:
        return without_excerpt(core(client, wait.job_id, **wait.place, deadline=wait.deadline).job)


@free
async def apoll_job(wait: Wait) -> Job:
    """Wait for a job, asking for it."""
    block = await aresolve(wait.credentials)
    async with block.get_async_client() as client:
        found = await acore(client, wait.job_id, **wait.place, deadline=wait.deadline)
        return without_excerpt(found.job)


# --- by an event --------------------------------------------------------------------------------


@free
def hear_job(wait: Wait) -> Job:
    """Wait for a job's event."""
    return run_coro_as_sync(_heard(wait))


@free
async def ahear_job(wait: Wait) -> Job:
    """Wait for a job's event."""
    return await _heard(wait)


async def _heard(wait: Wait) -> Job:
    block = await aresolve(wait.credentials)
    async with block.get_async_client() as client:
        slow = acore(client, wait.job_id, **wait.place, deadline=wait.deadline, reconcile=SLOWLY)
        tasks = {asyncio.create_task(slow), asyncio.create_task(_listen(client, wait))}
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return without_excerpt(done.pop().result().job)
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _listen(client: AsyncClassifailyClient, wait: Wait) -> Settled:
    """The job once an event of it has come and it has ended; a stream that breaks is opened again."""
    about = EventFilter(resource=EventResourceFilter(id=[events.resource_id(wait.job_id)]))  # pyright: ignore[reportCallIssue]
    failures = 0
    while True:
        try:
            async with get_events_subscriber(filter=about) as stream:
                # An event from before the subscription may never come: so look, and then listen.
                found = await acheck_job(client, wait.job_id, **wait.place)
                while found is None:
                    await anext(stream)
                    found = await acheck_job(client, wait.job_id, **wait.place)
                return found
        except Exception as error:  # noqa: BLE001  # whatever it is, the job is asked for meanwhile
            get_run_logger().info("Prefect's events are followed anew (%s)", type(error).__name__)
            await asyncio.sleep(min(2**failures, LONGEST_PAUSE))
            failures += 1


# --- suspended ----------------------------------------------------------------------------------


def retry_newborn(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """As `retry_idempotent`, and for a job the API does not know: it may have been born a moment ago."""
    return isinstance(state.data, NotFoundError) or retry_idempotent(task, run, state)


_look = task(
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(BACKOFF),
    retry_jitter_factor=JITTER,
    retry_condition_fn=retry_newborn,
    cache_policy=NO_CACHE,
)


@_look
def look_at_job(wait: Wait) -> Job | None:
    """Look whether a job has ended."""
    with resolve(wait.credentials).get_client() as client:
        found = check_job(client, wait.job_id, **wait.place)
        return None if found is None else without_excerpt(found.job)


@_look
async def alook_at_job(wait: Wait) -> Job | None:
    """Look whether a job has ended."""
    block = await aresolve(wait.credentials)
    async with block.get_async_client() as client:
        found = await acheck_job(client, wait.job_id, **wait.place)
        return None if found is None else without_excerpt(found.job)


def _suspended(wait: Wait) -> Job:
    run_id = _run_id()
    # Tagged before the look: from here on, whoever hears of the job finds this run.
    _tag(run_id, wait.job_id)
    while (job := look_at_job(wait)) is None:
        _suspend(key=events.pause_key(wait.job_id), timeout=_left(wait), _sync=True)
    _untag(run_id, wait.job_id)
    return job


async def _asuspended(wait: Wait) -> Job:
    run_id = _run_id()
    await asyncio.to_thread(_tag, run_id, wait.job_id)
    while (job := await alook_at_job(wait)) is None:
        await _suspend(key=events.pause_key(wait.job_id), timeout=_left(wait), _sync=False)
    await asyncio.to_thread(_untag, run_id, wait.job_id)
    return job


def _run_id() -> UUID:
    """The flow run to suspend.

    Raises ConfigurationError where Prefect could not: it would say so only after the run was tagged.
    """
    context = FlowRunContext.get()
    if TaskRunContext.get() is not None or context is None or context.flow_run is None:
        raise ConfigurationError("mode='suspend' suspends a flow run: call wait_for_job in a flow, not in a task")
    if context.flow_run.parent_task_run_id is not None:
        raise ConfigurationError("mode='suspend' cannot suspend a subflow: call wait_for_job in the flow that calls it")
    if context.flow_run.deployment_id is None:
        raise ConfigurationError("mode='suspend' needs a deployment, which resumes the run: serve or deploy the flow")
    return context.flow_run.id


_TAGGING = threading.Lock()
"""Prefect replaces all tags of a run at once, and several waits may belong to one run."""


def _tag(run_id: UUID, job_id: str) -> None:
    with _TAGGING, get_client(sync_client=True) as prefect:
        tags = {*prefect.read_flow_run(run_id).tags, events.WAITING, events.tag(job_id)}
        prefect.update_flow_run(run_id, tags=tags)


def _untag(run_id: UUID, job_id: str) -> None:
    with _TAGGING, get_client(sync_client=True) as prefect:
        tags = {*prefect.read_flow_run(run_id).tags} - {events.tag(job_id)}
        if not events.jobs_of(tags):
            tags -= {events.WAITING}
        prefect.update_flow_run(run_id, tags=tags)


def _left(wait: Wait) -> int | None:
    return None if wait.deadline is None else max(1, math.ceil(wait.deadline - time.time()))


_WAITS: dict[Mode, Callable[[Wait], Job]] = {"poll": poll_job, "event": hear_job, "suspend": _suspended}
_ASYNC_WAITS: dict[Mode, Callable[[Wait], Coroutine[Any, Any, Job]]] = {
    "poll": apoll_job,
    "event": ahear_job,
    "suspend": _asuspended,
}
