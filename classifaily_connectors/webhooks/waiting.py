"""Waiting for a job: by webhook when one comes, by asking the API when none does.

The law of this file: store, then job, then wait. A delivery says that a job has ended; how it ended, the job says
(`GET /jobs`), unless the API does not know the id, as it may be with batches: then the delivery is believed. A lost
delivery costs minutes, never the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from classifaily_connectors.errors import InvalidRequestError, JobTimeoutError, NotFoundError, refuse
from classifaily_connectors.events import status_after
from classifaily_connectors.models import Job
from classifaily_connectors.operations.jobs import checked_job_id, not_seen_to_end, settled
from classifaily_connectors.webhooks.asking import PASSING, Asker, Pace
from classifaily_connectors.webhooks.place import Place
from classifaily_connectors.webhooks.room import Room, avisit, visit
from classifaily_connectors.webhooks.signature import parse_event
from classifaily_connectors.webhooks.watching import Watch

if TYPE_CHECKING:
    from pydantic import SecretStr

    from classifaily_connectors.async_client import AsyncClassifailyClient
    from classifaily_connectors.client import ClassifailyClient
    from classifaily_connectors.settings import Settings
    from classifaily_connectors.store.delivery import Delivery, SettledBy

POLL = 0.25
"""Seconds between two looks into the store."""
RECONCILE = (30.0, 300.0)
"""Seconds until the API is asked for a job whose webhook has not come: the first pause, doubled up to the second."""
ASK = (2.0, 30.0)
"""The same where there is no store, and asking is all there is."""
_CONFIRM = (1.0, 30.0)
_PATIENCE = 10.0
"""Seconds that a first or a last look may take."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A job that has ended, and what told us: its webhook, or our asking (`poll`: the webhook was late or lost)."""

    job_id: str
    settled_by: SettledBy
    job: Job

    def result(self) -> Job:
        """The job, which has completed.

        Raises JobFailedError when it failed.
        """
        return settled(self.job)


# --- looking once -------------------------------------------------------------------------------


def check_job(
    client: ClassifailyClient,
    job_id: str | int,
    *,
    store: str | None = None,
    source: str = "default",
    secret: str | SecretStr | None = None,
) -> Settled | None:
    """The job if it has ended, else None: a look into the store, a question to the API, no waiting.

    `store` is a store URL, a receiver's address (see `open_feed`) or None to ask the API alone; `source` tells
    accounts and environments apart; `secret` is the webhook's, for a receiver's feed (default: the environment's).

    Raises NotFoundError when there is no store and the API does not know the job, and what else `jobs.get` raises.
    """
    wanted, place = checked_job_id(job_id), Place.of(store, source, secret)
    delivery = place.look(wanted) if place else None
    try:
        job = client.jobs.get(wanted)
    except NotFoundError:
        if place is None:
            raise
        job = None
    if place and job and job.done and delivery is None:
        delivery = place.look(wanted)  # it may have come while we asked
    found = _verdict(wanted, delivery, job)
    if found and place:
        place.note(wanted, found.settled_by)
    return found


async def acheck_job(
    client: AsyncClassifailyClient,
    job_id: str | int,
    *,
    store: str | None = None,
    source: str = "default",
    secret: str | SecretStr | None = None,
) -> Settled | None:
    """See `check_job`."""
    wanted, place = checked_job_id(job_id), Place.of(store, source, secret)
    delivery = await asyncio.to_thread(place.look, wanted) if place else None
    try:
        job = await client.jobs.get(wanted)
    except NotFoundError:
        if place is None:
            raise
        job = None
    if place and job and job.done and delivery is None:
        delivery = await asyncio.to_thread(place.look, wanted)
    found = _verdict(wanted, delivery, job)
    if found and place:
        await asyncio.to_thread(place.note, wanted, found.settled_by)
    return found


def _verdict(job_id: str, delivery: Delivery | None, job: Job | None) -> Settled | None:
    if job is not None:
        return Settled(job_id, "webhook" if delivery else "poll", job) if job.done else None
    return Settled(job_id, "webhook", told(delivery)) if delivery else None


def told(delivery: Delivery) -> Job:
    """The job as its delivery tells it; without a result when the body is elsewhere or pruned."""
    if delivery.body is not None:
        with contextlib.suppress(InvalidRequestError):
            return parse_event(delivery.body).job
    return Job.model_validate({"id": delivery.job_id, "status": status_after(delivery.event)})


# --- waiting ------------------------------------------------------------------------------------


def wait_for_job(
    client: ClassifailyClient,
    job_id: str | int,
    *,
    store: str | None = None,
    source: str = "default",
    secret: str | SecretStr | None = None,
    deadline: float | None = None,
    poll: float = POLL,
    reconcile: tuple[float, float] | None = None,
) -> Settled:
    """The job once it has ended, however it ended; any number of waiters share one poller and one listing.

    `store`, `source` and `secret` are those of `check_job`. `deadline` is in seconds since the epoch, so it means the
    same after a restart; None waits for ever. `poll` is the seconds between two looks into the store, `reconcile`
    the seconds until the API is asked itself, at first and at most (30 and 300 with a store, 2 and 30 without).

    Raises JobTimeoutError carrying the id, after a last look; NotFoundError without a store, for a job that the API
    goes on not knowing; AuthenticationError and what else makes asking useless.
    """
    place = Place.of(store, source, secret)
    order = _order(client.settings, job_id, place, deadline=deadline, poll=poll, reconcile=reconcile)
    return visit(partial(_wait, order))


async def await_for_job(
    client: AsyncClassifailyClient,
    job_id: str | int,
    *,
    store: str | None = None,
    source: str = "default",
    secret: str | SecretStr | None = None,
    deadline: float | None = None,
    poll: float = POLL,
    reconcile: tuple[float, float] | None = None,
) -> Settled:
    """See `wait_for_job`."""
    place = Place.of(store, source, secret)
    order = _order(client.settings, job_id, place, deadline=deadline, poll=poll, reconcile=reconcile)
    return await avisit(partial(_wait, order))


@dataclass(frozen=True, slots=True)
class _Order:
    settings: Settings
    job_id: str
    place: Place | None
    until: float
    poll: float
    pace: Pace

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.until - time.monotonic()


def _order(
    settings: Settings,
    job_id: str | int,
    place: Place | None,
    *,
    deadline: float | None,
    poll: float,
    reconcile: tuple[float, float] | None,
) -> _Order:
    pace = Pace(*(reconcile or (RECONCILE if place else ASK)))
    if not 0 < pace.first <= pace.longest:
        raise refuse(f"reconcile is {tuple(pace)!r}; it must be two positive numbers of seconds, the lesser first")
    if not poll > 0:
        raise refuse(f"poll is {poll!r}; it must be a positive number of seconds")
    if deadline is not None and not math.isfinite(deadline):
        raise refuse(f"deadline is {deadline!r}; it must be in seconds since the epoch, or None")
    # The wall clock is read once: a step of it moves no wait that has begun.
    until = math.inf if deadline is None else time.monotonic() + deadline - time.time()
    return _Order(settings, checked_job_id(job_id), place, until, poll, pace)


async def _wait(order: _Order, room: Room) -> Settled:
    with room.share(order.settings, partial(Asker, order.settings)) as asker:
        place, poll = order.place, order.poll
        if place is None:
            return await _asked(order, asker)
        with room.share((place, poll), lambda: Watch(place.reader(poll), place.source)) as watch:
            found = await _watched(order, asker, watch)
            await watch.settle(order.job_id, found.settled_by)
            return found


async def _asked(order: _Order, asker: Asker) -> Settled:
    with asker.asking(order.job_id, order.pace, must_exist=True) as question:
        if not await _first({question.answer}, order.left):
            await _first({question.answer, asker.again(question)}, _PATIENCE)
        if question.answer.done():
            return Settled(order.job_id, "poll", question.answer.result())
    raise _late(order, asker)


async def _watched(order: _Order, asker: Asker, watch: Watch) -> Settled:
    with watch.waiting(order.job_id) as waiter:
        await _first({waiter.looked}, _PATIENCE)
        if not waiter.arrival.done():
            with asker.asking(order.job_id, order.pace, must_exist=False) as question:
                events: set[asyncio.Future[Any]] = {waiter.arrival, question.answer}
                if not await _first(events, order.left):
                    await _first({*events, asker.again(question)}, _PATIENCE)
                if question.answer.done():  # the job itself has told: no need to ask for it again
                    by: SettledBy = "webhook" if await watch.came(waiter) else "poll"
                    return Settled(order.job_id, by, question.answer.result())
        if waiter.arrival.done():
            return Settled(order.job_id, "webhook", await _confirmed(order, asker, watch, waiter.arrival.result()))
    raise _late(order, asker)


async def _first(events: set[asyncio.Future[Any]], left: float) -> bool:
    """Whether one of these came about within so many seconds."""
    timeout = None if left == math.inf else max(0.0, left)
    done, _ = await asyncio.wait(events, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    return bool(done)


async def _confirmed(order: _Order, asker: Asker, watch: Watch, delivery: Delivery) -> Job:
    pause, longest = _CONFIRM
    while True:
        try:
            job = await asker.get(order.job_id)
        except NotFoundError:
            whole = await watch.whole(delivery)
            if whole is not None:
                return told(whole)
        except PASSING as error:
            asker.trouble = error.message
        else:
            if job.done:
                return job
            asker.trouble = ""
        if order.left <= 0:
            raise _late(order, asker)
        await asyncio.sleep(min(pause, order.left))
        pause = min(2 * pause, longest)


def _late(order: _Order, asker: Asker) -> JobTimeoutError:
    return not_seen_to_end(order.job_id, "before its deadline", trouble=asker.trouble)
