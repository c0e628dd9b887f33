"""The way into the inbox: who is told what, and under which name a body is filed."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from classifaily_connectors.store import Arrival
from classifaily_connectors.store.lanes import TaskLane, ThreadLane
from classifaily_connectors.webhooks.intake import Intake, UnavailableError, read

Put = Callable[[list[Arrival]], Any]
WithIntake = Callable[..., Any]


def arrival(number: int) -> Arrival:
    return Arrival("default", "job.completed", str(number), b"", 1e9, None, b"{}")


def kind(each: Arrival) -> str:
    return ("new", "repeat", "conflict")[int(each.job_id) % 3]


@pytest.fixture(params=["thread", "task"])
def with_intake(request: pytest.FixtureRequest) -> WithIntake:
    """Runs a coroutine function with an intake whose lane, of either kind, calls `put`."""

    def with_intake(put: Put, use: Callable[[Intake], Any], *, patience: float = 60.0) -> Any:
        async def aside(arrivals: list[Arrival]) -> Any:
            return await asyncio.to_thread(put, arrivals)

        async def run() -> Any:
            close = partial(closed.append, 1)
            lane = ThreadLane(put, close) if request.param == "thread" else TaskLane(aside, close)
            result = await use(Intake(lane, patience=patience))
            lane.close()
            return result

        closed: list[int] = []
        result = asyncio.run(run())
        assert closed
        return result

    return with_intake


def test_each_is_told_what_became_of_its_own(with_intake: WithIntake) -> None:
    batches: list[int] = []

    def put(arrivals: list[Arrival]) -> list[str]:
        batches.append(len(arrivals))
        time.sleep(random.random() / 500)
        return [kind(each) for each in arrivals]

    async def one(intake: Intake, number: int) -> bool:
        await asyncio.sleep(random.random() / 5)
        return await intake.keep(arrival(number)) == kind(arrival(number))

    async def many(intake: Intake) -> None:
        assert all(await asyncio.gather(*(one(intake, number) for number in range(2000))))
        assert (intake.waiting, intake.batches) == (0, len(batches))

    with_intake(put, many)
    assert sum(batches) == 2000
    assert len(batches) < 2000  # while one commit is under way, the next batch gathers


@pytest.mark.parametrize("fault", [ValueError("the disk"), ["new"]], ids=["fails", "tells too little"])
def test_nobody_is_told_that_it_is_kept_by_a_store_that_fails(with_intake: WithIntake, fault: Any) -> None:
    def put(arrivals: list[Arrival]) -> list[str]:
        if any(int(each.job_id) < 2 for each in arrivals):
            if isinstance(fault, Exception):
                raise fault
            return fault  # type: ignore[no-any-return]
        return [kind(each) for each in arrivals]

    async def several(intake: Intake) -> None:
        waiting = [intake.keep(arrival(number)) for number in range(2)]
        for each in waiting:
            with pytest.raises(UnavailableError) as caught:
                await each
            assert caught.value.reason == "down"
        assert await intake.keep(arrival(4)) == "repeat"

    with_intake(put, several)


def test_a_commit_that_takes_too_long_lets_nobody_wait(with_intake: WithIntake) -> None:
    gate = threading.Event()
    put_down: list[str] = []

    def put(arrivals: list[Arrival]) -> list[str]:
        gate.wait(60)
        put_down.extend(each.job_id for each in arrivals)
        return [kind(each) for each in arrivals]

    async def several(intake: Intake) -> None:
        first = intake.keep(arrival(1))
        await asyncio.sleep(0.05)  # its commit is under way, and the next two wait for it
        for each in (first, intake.keep(arrival(2)), intake.keep(arrival(3))):
            with pytest.raises(UnavailableError) as caught:
                await each
            assert caught.value.reason == "behind"
        with pytest.raises(UnavailableError):
            intake.keep(arrival(4))
        gate.set()
        while intake.behind or intake.waiting:  # noqa: ASYNC110  # it tells nobody when that ends
            await asyncio.sleep(0.01)
        assert await intake.keep(arrival(5)) == "conflict"

    with_intake(put, several, patience=0.2)
    # What was refused while it waited was on its way all the same, and the sender's next attempt will be a repeat.
    assert put_down == ["1", "2", "3", "5"]


@pytest.mark.parametrize(
    ("heading", "job_id", "sent_at"),
    [
        ('"id": 84, "job_id": null', "84", None),
        ('"id": null, "job_id": "x-1"', "x-1", None),
        ('"id": "x-1", "timestamp": "2026-11-02T08:15:36Z"', "x-1", 1793607336.0),
        ('"id": "x-1", "timestamp": "2026-11-02T09:15:36.500+01:00"', "x-1", 1793607336.5),
        ('"id": "x-1", "timestamp": 1793607336', "x-1", 1793607336.0),
        ('"id": "x-1", "timestamp": "2026-11-02T08:15:36"', "x-1", None),
        ('"id": "x-1", "timestamp": {"at": "noon"}', "x-1", None),
    ],
)
def test_what_a_body_is_filed_under(heading: str, job_id: str, sent_at: float | None) -> None:
    body = f'{{"event": "job.completed", {heading}}}'.encode()
    found = read("default", body, 1e9)
    assert (found.event, found.job_id, found.sent_at, found.body) == ("job.completed", job_id, sent_at, body)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"event": "job.completed"}', b'{"event": "job.completed", "id": true}',
     b'{"event": 1.5, "id": 84}', b'{"event": "job.completed", "id": "a\\nb"}',
     b'{"event": "job.completed", "id": "%s"}' % (b"x" * 201), b'{"event": "job.completed", "id": %s}' % (b"9" * 5000)],
)  # fmt: skip
def test_a_body_that_names_no_job_is_kept_under_its_digest(body: bytes) -> None:
    found = read("default", body, 1e9)
    assert (found.event, len(found.job_id), found.body) == ("", 64, body)
