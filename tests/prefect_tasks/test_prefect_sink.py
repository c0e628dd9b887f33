"""Suspended runs, events and automations on a real server, driven by signed deliveries to the real receiver."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from prefect import get_client
from prefect.events.schemas.automations import EventTrigger
from prefect.states import Crashed, Running, Suspended
from prefect_stage import BUG, MONEY, TEAMS, Stage, staged, wait_until

from classifaily_connectors import ConfigurationError
from classifaily_connectors.sandbox import Fault
from classifaily_connectors.store import Arrival, Inbox
from prefect_classifaily import events, start_on_job, submit_job
from prefect_classifaily.automations import astart_on_job
from prefect_classifaily.sink import Sink, _resume, suspended, sweep_jobs

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun

    from prefect_classifaily import ClassifailyCredentials

KEY = "cai_live_"
HERE = Path(__file__).parent
OFTEN = {"PREFECT_RUNNER_POLL_FREQUENCY": "1"}


@contextmanager
def process(log: Path, environment: dict[str, str], *command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as file:
        started = subprocess.Popen(
            [sys.executable, *command],
            cwd=HERE,
            env={**os.environ, **environment},
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        yield started
    finally:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(started.pid, number)
            with suppress(subprocess.TimeoutExpired):
                started.wait(20)


@pytest.fixture(scope="module")
def stage(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """With the flows of `waiting_flows.py` deployed."""
    folder = tmp_path_factory.mktemp("stage")
    with (
        staged(folder) as stage,
        process(folder / "served.log", {**stage.environment(), **OFTEN}, "waiting_flows.py") as served,
        get_client(sync_client=True) as prefect,
    ):

        def deployed() -> bool:
            assert served.poll() is None, (folder / "served.log").read_text()
            return len([each for each in prefect.read_deployments() if each.name == "test"]) == 3

        wait_until(deployed)
        yield stage


@contextmanager
def sink(stage: Stage, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The sink as a process of its own."""
    command = ["-m", "prefect_classifaily.sink", "--interval", "0.2", "--sweep", "36000"]
    before = log.read_text().count("ready:") if log.exists() else 0
    with process(log, stage.environment(), *command) as started:
        wait_until(lambda: log.read_text().count("ready:") > before or started.poll() is not None)
        assert started.poll() is None, log.read_text()
        yield started


def start(flow: str, **parameters: Any) -> FlowRun:
    with get_client(sync_client=True) as prefect:
        deployment = prefect.read_deployment_by_name(f"{flow}/test")
        return prefect.create_flow_run_from_deployment(deployment.id, parameters=parameters)


def until_state(run: FlowRun, *names: str) -> FlowRun:
    with get_client(sync_client=True) as prefect:

        def there() -> FlowRun | None:
            now = prefect.read_flow_run(run.id)
            assert now.state
            assert now.state.name in names or not now.state.is_final(), now.state
            return now if now.state.name in names else None

        found: FlowRun = wait_until(there, 180, 0.3)
        return found


def job_of(run: FlowRun) -> str:
    assert run.state
    return str(events.job_of(run.state.state_details.pause_key))


def told(job_id: str) -> list[dict[str, Any]]:
    """What Prefect was told of the job, as soon as it was told anything."""
    about: Any = {"filter": {"resource": {"id": [events.resource_id(job_id)]}}, "limit": 50}
    path: Any = "/events/filter"
    with get_client(sync_client=True) as prefect:
        found = wait_until(lambda: prefect.request("POST", path, json=about).json()["events"])
        return list(found)


def test_signed_deliveries_resume_suspended_runs_though_the_sink_was_killed(stage: Stage, tmp_path: Path) -> None:
    runs = [
        start(flow, text=text, answer=str(tmp_path / flow)) for flow, text in (("waiting", MONEY), ("awaiting", BUG))
    ]
    asleep = [until_state(run, "Suspended") for run in runs]
    assert all({events.WAITING, events.tag(job_of(run))} <= set(run.tags) for run in asleep)
    log = tmp_path / "sink.log"
    with sink(stage, log) as killed:
        killed.kill()
        killed.wait()
    forged = urllib.request.Request(stage.url, b"{}", {"X-ClassifAIly-Signature": "sha256=00"}, method="POST")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(forged, timeout=30)
    stage.end_jobs()
    wait_until(lambda: all(stage.delivered(job_of(run)) for run in asleep))
    for run in asleep:
        until_state(run, "Suspended")

    with sink(stage, log):
        ended = [until_state(run, "Completed") for run in asleep]
    # Both flows ran twice from their beginning, and paid once.
    for run, flow, label in zip(asleep, ("waiting", "awaiting"), TEAMS, strict=True):
        assert (tmp_path / flow).read_text().splitlines() == ["begins", "begins", f"{job_of(run)} {label}"]
    assert set(stage.sandbox.bill().by_input.values()) == {1}
    assert not any(events.WAITING in run.tags for run in ended)
    for run in asleep:
        (event,) = told(job_of(run))
        assert (event["event"], event["payload"]["settled_by"]) == (events.COMPLETED, "webhook")
        assert event["id"] == str(events.event_id("default", "job.completed", job_of(run)))


def test_a_lost_webhook_is_made_up_for_by_the_sweep(stage: Stage, tmp_path: Path) -> None:
    stage.sandbox.inject(Fault(kind="drop_webhook", times=None))
    run = until_state(start("waiting", text=BUG + " Still.", answer=str(tmp_path / "answer")), "Suspended")
    stage.end_jobs()
    stage.credentials.save("swept", overwrite=True)
    assert sweep_jobs(credentials="swept")["settled"] == 1
    until_state(run, "Completed")
    stage.sandbox.clear_faults()
    (event,) = told(job_of(run))
    assert event["payload"]["settled_by"] == "poll"
    assert not stage.delivered(job_of(run))
    assert (tmp_path / "answer").read_text().splitlines()[1:] == ["begins", f"{job_of(run)} technical"]
    assert stage.inbox.expected() == []


def test_an_automation_starts_a_deployment_for_every_job_that_ends(stage: Stage, tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    first, second = (start_on_job("continuing/test", parameters={"answer": str(answer)}) for _ in range(2))
    assert first == second
    ours = Sink(stage.store, stage.credentials)
    with get_client(sync_client=True) as prefect:
        try:
            job = submit_job.fn("continued", categories=TEAMS, credentials=stage.credentials)
            stage.end_jobs()
            wait_until(lambda: stage.delivered(str(job.id)))
            while ours.forward(prefect):
                pass
            wait_until(lambda: answer.exists() and answer.read_text().count("\n"), 180)
        finally:
            prefect.delete_automation(first)
            ours.close()
    assert answer.read_text() == f"{job.id} billing\n"


async def test_the_automations_twin_finds_the_same(stage: Stage) -> None:
    first, second = [await astart_on_job("continuing/test", name="twin") for _ in range(2)]
    assert first == second
    async with get_client() as prefect:
        await prefect.delete_automation(first)


def test_what_could_never_start_a_run_is_refused(stage: Stage) -> None:
    """One event may stand alone, by either of its names; a block among the parameters would be stored as asterisks."""
    for on in ("job.failed", ["classifaily.job.failed"]):
        with get_client(sync_client=True) as prefect:
            made = start_on_job("continuing/test", name="refused", on=on)
            (automation,) = prefect.read_automations_by_name("refused")
            prefect.delete_automation(made)
            assert isinstance(automation.trigger, EventTrigger)
            assert automation.trigger.expect == {"classifaily.job.failed"}
    block: Any = stage.credentials
    refusals: list[tuple[str, dict[str, Any], str]] = [
        ("continuing/test", {"on": "job.complete"}, "did you mean 'job.completed'"),
        ("continuing/test", {"on": ()}, "on is empty"),
        ("continuing/test", {"parameters": {"credentials": block}}, "a block or a secret"),
        ("continuing/test", {"parameters": {"all": [{"key": block.api_key}]}}, "a block or a secret"),
        ("continuing/test", {"parameters": {"at": object()}}, "cannot be written as JSON"),
        ("continuing/nowhere", {}, "there is no deployment 'continuing/nowhere'"),
        ("nowhere", {}, "there is no deployment 'nowhere'"),
    ]
    for deployment, options, message in refusals:
        with pytest.raises(ConfigurationError, match=message) as caught:
            start_on_job(deployment, name="refused", **options)
        assert KEY not in str(caught.value)
    with get_client(sync_client=True) as prefect:
        assert prefect.read_automations_by_name("refused") == []


async def test_the_twin_names_the_deployment_too(stage: Stage) -> None:
    with pytest.raises(ConfigurationError, match="there is no deployment 'continuing/nowhere'"):
        await astart_on_job("continuing/nowhere")


def test_the_sink_refuses_a_server_of_its_own(stage: Stage, tmp_path: Path) -> None:
    """Without an address, Prefect starts a temporary one: the delivery would be told to nobody."""
    environment = {**stage.environment(), "PREFECT_API_URL": "", "PREFECT_HOME": str(tmp_path)}
    with process(tmp_path / "log", environment, "-m", "prefect_classifaily.sink") as started:
        assert started.wait(60) == 2
    said = (tmp_path / "log").read_text()
    assert "PREFECT_API_URL is not set" in said
    assert "Traceback" not in said


def test_what_prefect_refuses_is_named(stage: Stage, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with HTTPServer(("127.0.0.1", 0), Unauthorized) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/api"
        environment = {
            **stage.environment(),
            "PREFECT_API_URL": url,
            "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
        }
        with process(log, environment, "-m", "prefect_classifaily.sink", "--consumer", "refused"):
            wait_until(lambda: "tries again" in log.read_text(), 60)
        server.shutdown()
    assert "HTTP 401: check PREFECT_API_KEY" in log.read_text()


class Unauthorized(BaseHTTPRequestHandler):
    """A Prefect server that wants another key."""

    def do_POST(self) -> None:
        self.send_response(401)
        self.end_headers()

    do_GET = do_POST  # noqa: N815  # the name that http.server calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_suspended_run_that_was_marked_as_crashed_is_named_once(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An automation against zombies hears no heartbeat of a suspended run; nothing resumes it afterwards."""
    monkeypatch.setattr(logging.getLogger("prefect.classifaily"), "propagate", True)
    monkeypatch.setattr(logging.getLogger("prefect"), "propagate", True)
    ours = Sink(stage.store, stage.credentials)
    with get_client(sync_client=True) as prefect:
        deployment = prefect.read_deployment_by_name("waiting/test")
        made = prefect.create_deployment(flow_id=deployment.flow_id, name="crashes")
        run = prefect.create_flow_run_from_deployment(made, tags=[events.WAITING, events.tag("77")])
        prefect.set_flow_run_state(run.id, Crashed(), force=True)
        for _ in range(2):
            ours.sweep(prefect)
        prefect.delete_flow_run(run.id)
        prefect.delete_deployment(made)
    ours.close()
    said = [record.getMessage() for record in caplog.records if "is Crashed" in record.getMessage()]
    assert len(said) == 1
    assert str(run.id) in said[0]
    assert "waits for job 77" in said[0]


def test_a_mark_that_was_not_set_repeats_the_same_event(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the sink had died between the two."""
    job = submit_job.fn("twice", categories=TEAMS, credentials=stage.credentials)
    stage.end_jobs()
    wait_until(lambda: stage.delivered(str(job.id)))
    ours = Sink(stage.store, stage.credentials, consumer="again")
    with get_client(sync_client=True) as prefect:
        with monkeypatch.context() as patched:
            patched.setattr(ours._inbox, "set_mark", lambda *_: None)
            assert ours.forward(prefect) > 0
        assert ours.forward(prefect) > 0
        assert ours.forward(prefect) == 0
    ours.close()
    assert len(told(str(job.id))) == 1


def test_only_a_run_that_waits_for_this_job_is_resumed(stage: Stage) -> None:
    """Prefect answers 200 to whatever it is asked to resume; a run that is not there yet is resumed later."""
    ours = Sink(stage.store, stage.credentials)
    ours._fresh["7"] = float("inf")
    with get_client(sync_client=True) as prefect:
        flow_id = prefect.read_deployment_by_name("waiting/test").flow_id
        deployment_id = prefect.create_deployment(flow_id=flow_id, name="served by nobody")

        def run(tag: str, state: Any) -> FlowRun:
            made = prefect.create_flow_run_from_deployment(deployment_id, tags=[events.WAITING, tag])
            prefect.set_flow_run_state(made.id, state, force=True)
            return made

        late = run(events.tag("7"), Running())
        other_job = run(events.tag("8"), Suspended(pause_key=events.pause_key("8")))
        other_reason = run(events.tag("7"), Suspended(pause_key="a human"))
        ours.resume(prefect)

        def state_of(flow_run: FlowRun) -> Any:
            found = prefect.read_flow_run(flow_run.id).state
            return found and found.name

        assert [state_of(each) for each in (late, other_job, other_reason)] == ["Running", "Suspended", "Suspended"]
        _resume(prefect, late.id, "7")  # a 200 that resumes nothing
        assert state_of(late) == "Running"
        prefect.set_flow_run_state(late.id, Suspended(pause_key=events.pause_key("7")), force=True)
        assert [job_id for _run, job_id in suspended(prefect, ["7"])] == ["7"]
        ours.resume(prefect)
        assert state_of(late) == "Resuming"
        for each in (late, other_job, other_reason):
            prefect.delete_flow_run(each.id)
        prefect.delete_deployment(deployment_id)
    ours.close()


class Heard:
    """What a sink asks of Prefect's client, and what it was told."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def request(self, _method: str, _path: str, json: list[dict[str, Any]]) -> None:
        self.events += json

    def read_flow_runs(self, **_filters: Any) -> list[Any]:
        return []


def arrive(inbox: Inbox, *events: str, source: str = "default") -> None:
    inbox.put([Arrival(source, event, "7", event.encode(), time.time(), None, b"{}") for event in events])


def test_the_sinks_source_may_be_spelt_as_the_webhooks_path_is(
    credentials: ClassifailyCredentials, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/deliveries.db"
    inbox = Inbox(url)
    arrive(inbox, "job.completed", source="eu_west")
    sink, heard = Sink(url, credentials, source="EU-West"), Heard()
    assert sink.forward(heard) == 1  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="cannot be a webhook source"):
        Sink(url, credentials, source="a b")
    sink.close()
    inbox.close()


def test_a_beginning_is_told_and_settles_nothing(credentials: ClassifailyCredentials, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/deliveries.db"
    inbox = Inbox(url)
    inbox.expect("default", ["7"])
    arrive(inbox, "job.started")
    sink, heard = Sink(url, credentials), Heard()
    assert sink.forward(heard) == 1  # type: ignore[arg-type]
    assert [each["event"] for each in heard.events] == ["classifaily.job.started"]
    assert [each.job_id for each in inbox.expected()] == ["7"]
    arrive(inbox, "job.completed")
    sink.forward(heard)  # type: ignore[arg-type]
    assert inbox.expected() == []
    sink.close()
    inbox.close()


def test_a_mark_beyond_the_end_of_the_feed_is_noticed(credentials: ClassifailyCredentials, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/deliveries.db"
    inbox = Inbox(url)
    inbox.set_mark("prefect", 500)
    sink, heard = Sink(url, credentials), Heard()
    assert sink.forward(heard) == 0  # type: ignore[arg-type]
    assert inbox.mark("prefect") == 0  # and so it is said once
    arrive(inbox, "job.completed")
    assert sink.forward(heard) == 1  # type: ignore[arg-type]
    assert inbox.mark("prefect") == 1
    sink.close()
    inbox.close()


def test_the_sink_needs_a_store_of_its_own(stage: Stage) -> None:
    with pytest.raises(ConfigurationError, match="give it the store's URL"):
        Sink(stage.url, stage.credentials)


def test_a_job_that_the_api_has_forgotten_is_given_up(stage: Stage) -> None:
    stage.inbox.expect("default", ["404404"])
    ours = Sink(stage.store, stage.credentials)
    with get_client(sync_client=True) as prefect:
        assert (ours.sweep(prefect), ours.sweep(prefect)) == (1, 0)
        stage.inbox.expect("default", ["404405"])
        stage.sandbox.inject(Fault(kind="answer", path="/jobs", status=401, body={"error": {"message": "no"}}))
        assert ours.sweep(prefect) == 0
        assert ours.sweep(prefect) == 1
    ours.close()
    assert stage.store not in repr(ours)


def test_names_and_ids() -> None:
    assert events.job_of(events.pause_key("batch:9")) == "batch:9"
    assert events.job_of("a human") is events.job_of(None) is None
    body = events.event_body("default", "job.failed", "9", settled_by="webhook", redriven=1)
    assert body["event"] == events.FAILED
    assert body["id"] != str(events.event_id("default", "job.failed", "9"))
