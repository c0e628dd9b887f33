"""Submitting once and waiting, in DAG runs without a scheduler; Airflow runs triggers inline there."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowTaskTimeout,
    TaskDeferred,
)
from airflow_kit import KEY, STATE, RunDag

from airflow_provider_classifaily.operators import ClassifailySubmitOperator
from airflow_provider_classifaily.sensors import ClassifailyJobSensor, ClassifailyWebhookSensor
from airflow_provider_classifaily.triggers import WATERMARK, ClassifailyEventTrigger, ClassifailyJobTrigger
from classifaily_connectors import ClassifailyClient
from classifaily_connectors.sandbox import Fault, Sandbox, SandboxClock, Switches
from classifaily_connectors.store import Inbox
from classifaily_connectors.webhooks.intake import read


@pytest.fixture(autouse=True)
def own_store() -> Iterator[None]:
    """The default store, empty."""
    yield
    for file in STATE.glob("ledger.db*"):
        file.unlink()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """Its jobs end when a test moves its clock."""
    with Sandbox(plan="pro", key=KEY, switches=Switches(job_delay=3600), clock=SandboxClock()) as running:
        yield running


@pytest.fixture
def client(sandbox: Sandbox) -> Iterator[ClassifailyClient]:
    with ClassifailyClient(KEY, base_url=sandbox.base_url) as made:
        yield made


@pytest.fixture
def job_id(client: ClassifailyClient) -> str:
    return client.submit("I was charged twice", categories=["billing", "technical"]).id or ""


def deliver(job_id: str, source: str = "default", event: str = "job.completed") -> None:
    """As the receiver does."""
    body = json.dumps({"event": event, "id": job_id, "result": {"label": "billing", "confidence": 0.9}})
    inbox = Inbox(f"sqlite:///{STATE}/ledger.db")
    inbox.put([read(source, body.encode(), time.time())])
    inbox.close()


def fire(trigger: ClassifailyJobTrigger) -> list[Any]:
    async def run() -> list[Any]:
        return [event.payload async for event in trigger.run()]

    return asyncio.run(run())


def test_an_input_is_submitted_once_and_its_result_handed_on(
    run_dag: RunDag, connected: Sandbox, client: ClassifailyClient
) -> None:
    connected.script("I was charged twice", delay=0)
    run = run_dag("submit")
    told = run.xcom("wait")
    assert told["job_id"] == run.xcom("submit")
    assert (told["label"], told["status"], told["settled_by"]) == ("billing", "completed", "poll")
    assert "charged twice" not in json.dumps(told)
    # Another run asks the same: the job is there.
    assert run_dag("submit").xcom("submit") == run.xcom("submit")
    assert connected.bill().charged == 1


def test_media_are_submitted_once_by_task_or_by_identity(run_dag: RunDag, connected: Sandbox) -> None:
    jobs = [run_dag("submit_audio").xcom("submit") for _ in range(2)]
    jobs += [run_dag("submit_audio", identity="etag-1").xcom("submit") for _ in range(2)]
    assert len(set(jobs)) == 3
    assert jobs[2] == jobs[3]


def test_a_lost_submission_fails_at_the_first_try(
    run_dag: RunDag, connected: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    connected.inject(Fault(kind="reset", path="/classify", times=None))
    assert run_dag("submit").tries("submit") == ("failed", 1)
    assert run_dag("submit").tries("submit") == ("failed", 1)
    assert connected.bill().charged == 1
    assert "may have been paid, and left no job id" in capfd.readouterr().out


@pytest.mark.parametrize("dag_id", ["deferred", "by_webhook"])
def test_an_ended_job_is_not_deferred(
    run_dag: RunDag, connected: Sandbox, job_id: str, dag_id: str, capfd: pytest.CaptureFixture[str]
) -> None:
    connected.clock.advance(hours=2)
    run = run_dag(dag_id, job_id=job_id)
    assert run.xcom("wait")["label"] == "billing"
    assert "DEFERRED" not in capfd.readouterr().out


def test_a_delivery_that_came_before_is_found(run_dag: RunDag, connected: Sandbox, job_id: str) -> None:
    deliver(job_id)
    connected.clock.advance(hours=2)
    assert run_dag("by_webhook", job_id=job_id).xcom("wait")["settled_by"] == "webhook"


@pytest.fixture
def ending(sandbox: Sandbox) -> Iterator[Callable[[str], None]]:
    """Ends all jobs, with a webhook for one of them, as soon as somebody asked for the job once."""
    threads: list[threading.Thread] = []

    def end(job_id: str) -> None:
        def work() -> None:
            while not any(request[1].startswith("/jobs") for request in sandbox.requests):
                time.sleep(0.05)
            deliver(job_id)  # first, or whoever asks in between learns of the end before its webhook
            sandbox.clock.advance(hours=2)

        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield end
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(("dag_id", "by"), [("deferred", "poll"), ("by_webhook", "webhook")])
def test_a_job_that_runs_is_left_to_the_trigger(
    run_dag: RunDag,
    connected: Sandbox,
    ending: Callable[[str], None],
    job_id: str,
    dag_id: str,
    by: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    ending(job_id)
    run = run_dag(dag_id, job_id=job_id)
    assert run.tries("wait") == ("success", 1)
    told = run.xcom("wait")
    assert told == {**told, "label": "billing", "job_id": job_id}
    assert told["settled_by"] == by
    assert "DEFERRED" in (logged := capfd.readouterr().out)
    assert KEY not in logged


def test_a_failed_job_fails_the_task_at_once(
    run_dag: RunDag, connected: Sandbox, client: ClassifailyClient, capfd: pytest.CaptureFixture[str]
) -> None:
    connected.script("broken", error="could not be read")
    job_id = client.submit("broken").id
    connected.clock.advance(hours=2)
    assert run_dag("deferred", job_id=job_id).tries("wait") == ("failed", 1)
    assert "JobFailedError: " in capfd.readouterr().out


def test_a_job_nobody_knows_fails_the_task_at_once(run_dag: RunDag, connected: Sandbox) -> None:
    assert run_dag("deferred", job_id="987654").tries("wait") == ("failed", 1)


def test_a_deadline(run_dag: RunDag, connected: Sandbox, job_id: str) -> None:
    run = run_dag("too_late", job_id=job_id)
    assert [run.task(name).state for name in ("wait", "soft", "poking")] == ["failed", "skipped", "failed"]


WAITING = (ClassifailyJobSensor, ClassifailyWebhookSensor)


@pytest.mark.parametrize("sensor", WAITING)
@pytest.mark.parametrize("job_id", [None, "None", " ", ["1"], True])
def test_what_names_no_job_is_not_waited_for(connected: Sandbox, sensor: type[Any], job_id: Any) -> None:
    """The task before was skipped, or had nothing to submit; `timeout` is a week by default."""
    with pytest.raises(AirflowFailException, match="job id is "):
        sensor(task_id="wait", job_id=job_id, stay_seconds=0).poke({})
    assert connected.requests == []


@pytest.mark.parametrize("sensor", WAITING)
@pytest.mark.parametrize(
    ("timeout", "allowed", "limit"), [(3600, 60, "execution_timeout"), (60, 3600, "timeout"), (60, None, "timeout")]
)
def test_the_earlier_of_two_limits_holds_while_deferred(
    connected: Sandbox, job_id: str, sensor: type[Any], timeout: float, allowed: float | None, limit: str
) -> None:
    """Airflow counts `execution_timeout` only while a worker has the task, though it documents the total."""
    longest = None if allowed is None else timedelta(seconds=allowed)
    started = datetime.now(UTC) - timedelta(seconds=20)
    made = sensor(task_id="wait", job_id=job_id, stay_seconds=0, timeout=timeout, execution_timeout=longest)
    with pytest.raises(TaskDeferred) as deferred:
        made.poke({"ti": SimpleNamespace(start_date=started)})
    left = deferred.value.trigger.serialize()[1]["deadline"] - time.time()
    assert left <= 60
    assert (left <= 40) == (limit == "execution_timeout")
    assert deferred.value.kwargs == {"limit": limit}
    expected = AirflowTaskTimeout if limit == "execution_timeout" else AirflowSensorTimeout
    with pytest.raises(expected, match="and runs on"):
        made.execute_complete({}, {"outcome": "timeout", "job_id": job_id}, **deferred.value.kwargs)


@pytest.mark.parametrize(("said", "expected"), [(None, True), ("False", False), ("True", True)])
def test_deferring_is_airflows_setting_where_that_is_set(
    monkeypatch: pytest.MonkeyPatch, said: str | None, expected: bool
) -> None:
    if said is not None:
        monkeypatch.setenv("AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE", said)
    assert ClassifailyJobSensor(task_id="wait", job_id="1").deferrable is expected
    assert ClassifailyJobSensor(task_id="wait", job_id="1", deferrable=not expected).deferrable is not expected


def test_a_job_that_failed_says_how_to_submit_it_anew(connected: Sandbox, client: ClassifailyClient) -> None:
    """Cleared as often as one likes, the same input is the same job, which has failed."""
    connected.script("overloaded", error={"code": "server_error", "message": "the model was overloaded"}, delay=0)
    job = ClassifailySubmitOperator(task_id="submit", input="overloaded", categories=["a", "b"])
    job_id = job.execute({})
    connected.clock.advance(hours=2)
    with pytest.raises(AirflowFailException, match="overloaded.*refresh=True"):
        ClassifailyJobSensor(task_id="wait", job_id=job_id, stay_seconds=0).poke({})
    connected.script("overloaded", "b", delay=0)
    assert job.execute({}) == job_id
    again = ClassifailySubmitOperator(task_id="submit", input="overloaded", categories=["a", "b"], refresh=True)
    anew = again.execute({})
    connected.clock.advance(hours=2)
    assert anew != job_id
    assert ClassifailyJobSensor(task_id="wait", job_id=anew, stay_seconds=0).poke({}).xcom_value["label"] == "b"


def test_a_listing_that_grew_gives_each_recording_its_own_job(connected: Sandbox) -> None:
    """Mapped over again after Clear: a position in a list is no identity, and neither is a signature."""

    def jobs(*names: str) -> list[Any]:
        made = []
        for place, name in enumerate(names):
            url = f"https://calls.example.com/{name}.mp3?X-Amz-Signature={len(names)}"
            task = ClassifailySubmitOperator(task_id="submit", input=url, type="audio", categories=["a", "b"])
            instance = SimpleNamespace(dag_id="d", run_id="r", task_id="submit", map_index=place, try_number=1)
            made.append(task.execute({"ti": instance}))
        return made

    first, second = jobs("first", "second")
    assert jobs("new", "first", "second")[1:] == [first, second]
    assert connected.bill().charged == 3


# --- triggers -----------------------------------------------------------------------------------


def test_a_trigger_is_ids_and_times(connected: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow writes a trigger's arguments into its database, and the next version of this package reads them."""
    path, arguments = trigger_for("84", "default").serialize()
    assert path == "airflow_provider_classifaily.triggers.ClassifailyJobTrigger"
    assert arguments == {
        "job_id": "84",
        "classifaily_conn_id": "classifaily_default",
        "source": "default",
        "deadline": 4e9,
        "not_before": 0.0,
    }
    assert ClassifailyJobTrigger(**arguments).serialize() == (path, arguments)
    path, arguments = ClassifailyEventTrigger(events=("job.completed",)).serialize()
    assert path == "airflow_provider_classifaily.triggers.ClassifailyEventTrigger"
    assert ClassifailyEventTrigger(**arguments).serialize() == (path, arguments)


def trigger_for(job_id: str, source: str | None = None, deadline: float = 4e9) -> ClassifailyJobTrigger:
    return ClassifailyJobTrigger(
        job_id=job_id, classifaily_conn_id="classifaily_default", source=source, deadline=deadline
    )


def test_a_triggers_event_holds_no_result(connected: Sandbox, job_id: str) -> None:
    connected.clock.advance(hours=2)
    assert fire(trigger_for(job_id)) == [{"job_id": job_id, "outcome": "settled", "settled_by": "poll"}]
    assert fire(trigger_for(job_id, deadline=1.0)) == [{"job_id": job_id, "outcome": "settled", "settled_by": "poll"}]


def test_a_trigger_tells_of_its_deadline_and_of_what_makes_waiting_useless(connected: Sandbox, job_id: str) -> None:
    assert fire(trigger_for(job_id, deadline=time.time())) == [{"job_id": job_id, "outcome": "timeout"}]
    connected.revoke(KEY)
    (event,) = fire(trigger_for(job_id))
    assert (event["outcome"], event["error"].partition(":")[0]) == ("error", "AuthenticationError")
    assert KEY not in json.dumps(event)


def test_a_trigger_lets_its_worker_go_first(connected: Sandbox, job_id: str) -> None:
    connected.clock.advance(hours=2)
    trigger = trigger_for(job_id)
    trigger.not_before = time.time() + 0.5
    began = time.time()
    fire(trigger)
    assert time.time() >= min(trigger.not_before, began + 0.5)


def test_the_event_trigger_tells_what_arrives(connected: Sandbox) -> None:
    """It begins with what arrives after it: so deliveries come until it has told of one."""
    deliver("before")

    async def watch() -> Any:
        told = ClassifailyEventTrigger(events=["job.completed"], poll_seconds=0.01).run()
        first = asyncio.ensure_future(anext(told))
        number = 0
        while not first.done():
            await asyncio.to_thread(deliver, f"failed-{number}", event="job.failed")
            await asyncio.to_thread(deliver, f"elsewhere-{number}", source="other")
            await asyncio.to_thread(deliver, f"completed-{number}")
            number += 1
        await told.aclose()
        return first.result().payload

    payload = asyncio.run(watch())
    assert all(each.startswith("completed-") for each in payload["job_ids"])
    assert (bool(payload["job_ids"]), payload["source"]) == (True, "default")


class AssetState:
    """One asset's state store, as Airflow 3.3 hands it to a trigger."""

    def __init__(self, **kept: Any) -> None:
        self.kept = kept

    async def aget(self, key: str) -> Any:
        return self.kept.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self.kept[key] = value


def test_several_assets_share_a_trigger_and_each_has_its_watermark(connected: Sandbox) -> None:
    """Equal triggers are one to Airflow, whose accessor then refuses to say which asset's store is meant."""
    context = pytest.importorskip("airflow.sdk.execution_time.context")
    if not hasattr(context, "AssetStateStoreAccessors"):
        pytest.skip("Airflow 3.3 has asset state stores")
    from airflow.sdk.definitions.asset import AssetNameRef, AssetUriRef

    for number in range(3):
        deliver(f"before-{number}")
    orders, bills, new = AssetState(**{WATERMARK: 3}), AssetState(**{WATERMARK: 2}), AssetState()
    trigger = ClassifailyEventTrigger(poll_seconds=0.01)
    trigger.asset_state_store = context.AssetStateStoreAccessors(
        inlets=[AssetNameRef("orders"), AssetNameRef("bills"), AssetUriRef("file://new")]
    )
    trigger.asset_state_store._by_name = {"orders": orders, "bills": bills}
    trigger.asset_state_store._by_uri = {"file://new": new}

    async def watch() -> Any:
        told = trigger.run()
        payload = (await anext(told)).payload
        deliver("later")
        await anext(told)
        await told.aclose()
        return payload

    # It goes on after what every asset has been told of: nothing is missed by the one that is behind.
    assert asyncio.run(watch())["job_ids"] == ["before-2"]
    places = [str(each.kept[WATERMARK]).partition("@") for each in (orders, bills, new)]
    assert [seq for seq, _, _store in places] == ["3"] * 3
    assert len({store for _seq, _, store in places}) == 1
    assert places[0][2], "the watermark says which store it belongs to"


@pytest.mark.parametrize("kept", [500, "500@another-store", "1@another-store"])
def test_a_watermark_of_another_store_is_noticed(
    kept: Any, connected: Sandbox, caplog: pytest.LogCaptureFixture
) -> None:
    """The store was restored or replaced: what lies in it is told, not passed over."""
    deliver("kept")
    asset = AssetState(**{WATERMARK: kept})
    trigger = ClassifailyEventTrigger(poll_seconds=0.01)
    trigger.asset_state_store = asset

    async def watch() -> Any:
        told = trigger.run()
        payload = (await anext(told)).payload
        deliver("new")
        again = (await anext(told)).payload
        await told.aclose()
        return payload["job_ids"] + again["job_ids"]

    assert asyncio.run(watch()) == ["kept", "new"]
    assert str(asset.kept[WATERMARK]).startswith("1@")
    assert "read from the first one on" in caplog.text


@pytest.mark.parametrize(
    ("events", "order"),
    [
        ("job.completed", ["job.completed"]),
        ({"job.failed", "batch.completed", "job.completed"}, ["job.completed", "job.failed", "batch.completed"]),
        ((name for name in ("job.failed", "job.failed")), ["job.failed"]),
        (["*"], None),
        (None, None),
    ],
)
def test_events_have_one_order_however_they_are_given(events: Any, order: list[str] | None) -> None:
    """Airflow tells triggers and DAG versions apart by a trigger's arguments; a set has another order every time."""
    assert ClassifailyEventTrigger(events=events).serialize()[1]["events"] == order


@pytest.mark.parametrize("events", ["job.complete", ["job.completed", "batch.done"], [], [3]])
def test_an_event_that_never_comes_is_refused_where_the_dag_is_written(events: Any) -> None:
    with pytest.raises(ValueError, match="events"):
        ClassifailyEventTrigger(events=events)
