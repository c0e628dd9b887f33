"""A real Airflow (API server, scheduler, triggerer, DAG processor), and what it survives.

Its API server receives the sandbox's signed webhooks.
"""

from __future__ import annotations

import csv
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow_kit import CONNECTION, KEY, connection_json, files_holding
from live_airflow import LiveAirflow, live_airflow, wait_for

from classifaily_connectors import ClassifailyClient
from classifaily_connectors.sandbox import Fault, Sandbox, SandboxClock, Switches

DAGS = Path(__file__).parent / "live_dags"
SECRET, WATCHED = "whsec-the-default-source", "whsec-the-watched-source"
ROWS = 200
FIFTY = [f"I was charged twice, case {number}" for number in range(50)]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Its jobs end when a test moves its clock."""
    switches = Switches(job_delay=3600.0, delivery_backoff=0.1)
    with Sandbox(plan="pro", key=KEY, switches=switches, clock=SandboxClock()) as running:
        yield running


@pytest.fixture(scope="module")
def client(sandbox: Sandbox) -> Iterator[ClassifailyClient]:
    with ClassifailyClient(KEY, base_url=sandbox.base_url) as made:
        yield made


@pytest.fixture(scope="module")
def airflow(
    tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox, client: ClassifailyClient
) -> Iterator[LiveAirflow]:
    home = tmp_path_factory.mktemp("live")
    secrets = {"CLASSIFAILY_WEBHOOK_SECRET": SECRET, "CLASSIFAILY_WEBHOOK_SECRET_WATCHED": WATCHED}
    with live_airflow(home, DAGS, **{CONNECTION: connection_json(sandbox)}, **secrets) as running:
        client.webhooks.create(f"{running.url}/classifaily/webhooks", secret=SECRET)
        yield running
    for secret in (KEY, SECRET, WATCHED):
        assert files_holding(secret, home) == []


@pytest.fixture(autouse=True)
def own_bill(sandbox: Sandbox) -> Iterator[None]:
    sandbox.reset_bill()
    yield
    sandbox.clear_faults()


# --- waiting ------------------------------------------------------------------------------------


def end_all_jobs(sandbox: Sandbox) -> None:
    sandbox.clock.advance(hours=2)


def test_fifty_sensors_outlive_a_killed_triggerer(airflow: LiveAirflow, sandbox: Sandbox) -> None:
    """kill -9 while they wait; the jobs end and the webhooks come while nobody is there to hear them."""
    run = airflow.trigger("many", texts=FIFTY)
    wait_for(lambda: run.states().count("deferred") == len(FIFTY))
    airflow.kill("triggerer")
    before = len(sandbox.deliveries)
    end_all_jobs(sandbox)
    wait_for(lambda: len(sandbox.deliveries) - before >= len(FIFTY))
    assert {delivery.status for delivery in sandbox.deliveries[before:]} == {204}
    airflow.start("triggerer")
    assert run.end() == "success"
    assert run.states().count("success") == 1 + len(FIFTY)
    assert sandbox.bill().charged == len(FIFTY)
    assert max(sandbox.bill().by_input.values()) == 1
    told = [run.xcom("wait", map_index=index) for index in range(len(FIFTY))]
    assert {(each["label"], each["settled_by"]) for each in told} == {("billing", "webhook")}


def test_without_any_webhook_they_succeed_all_the_same(airflow: LiveAirflow, sandbox: Sandbox) -> None:
    """The receiver is off for the whole run, as far as anyone can tell: the API is asked instead."""
    sandbox.inject(Fault(kind="drop_webhook", times=None))
    run = airflow.trigger("many", texts=["Refund me", "API error 500", "Password reset"])
    wait_for(lambda: run.states().count("deferred") == 3)
    end_all_jobs(sandbox)
    assert run.end() == "success"
    assert {run.xcom("wait", map_index=index)["settled_by"] for index in range(3)} == {"poll"}
    assert sandbox.bill().charged == 3


def test_a_job_that_has_ended_is_never_deferred(
    airflow: LiveAirflow, sandbox: Sandbox, client: ClassifailyClient
) -> None:
    job = client.submit("My invoice is wrong", categories=["billing", "other"])
    before = len(sandbox.deliveries)
    end_all_jobs(sandbox)
    wait_for(lambda: len(sandbox.deliveries) > before)
    run = airflow.trigger("wait", job_id=job.id)
    assert run.end() == "success"
    assert run.xcom("wait")["settled_by"] == "webhook"
    assert "Pausing task as DEFERRED" not in airflow.logs("wait")


def test_a_worker_that_dies_after_submitting_submits_once(airflow: LiveAirflow, sandbox: Sandbox) -> None:
    run = airflow.trigger("once", text="The API is down")
    wait_for(lambda: "deferred" in run.states())
    # What the assertion of the test above relies on.
    assert "Pausing task as DEFERRED" in airflow.logs("once")
    end_all_jobs(sandbox)
    assert run.end() == "success"
    tries = {each["task_id"]: each["try_number"] for each in run.tasks()}
    assert tries["submit"] == 2
    assert run.xcom("wait")["job_id"] == run.xcom("submit")
    assert sandbox.bill().charged == 1


def test_workers_without_the_store_hear_it_from_the_receiver(
    airflow: LiveAirflow, sandbox: Sandbox, client: ClassifailyClient
) -> None:
    """The connection names the receiver's address and secret; its feed tells ids, over HTTP."""
    extra = {"receiver_url": f"{airflow.url}/classifaily/webhooks", "webhook_secret": SECRET}
    connection = {**json.loads(connection_json(sandbox)), "extra": json.dumps(extra)}
    airflow.call("POST", "/api/v2/connections", {"connection_id": "classifaily_remote", **connection})
    job = client.submit("Refund my order", categories=["billing", "other"])
    run = airflow.trigger("wait_remotely", job_id=job.id)
    wait_for(lambda: run.states() == ["deferred"])
    end_all_jobs(sandbox)
    assert run.end() == "success"
    assert run.xcom("wait")["settled_by"] == "webhook"


def test_a_finished_job_schedules_a_dag(airflow: LiveAirflow, sandbox: Sandbox, client: ClassifailyClient) -> None:
    """An AssetWatcher hears of every webhook of its source, also of one that came while the triggerer was down."""
    endpoint = client.webhooks.create(f"{airflow.url}/classifaily/webhooks/watched", secret=WATCHED)

    def heard() -> list[str]:
        runs = airflow.call("GET", "/api/v2/dags/on_finished/dagRuns?state=success")["dag_runs"]
        paths = [f"/api/v2/dags/on_finished/dagRuns/{run['dag_run_id']}" for run in runs]
        entries = [airflow.call("GET", f"{path}/taskInstances/read/xcomEntries/return_value") for path in paths]
        return [job_id for entry in entries for job_id in entry["value"]]

    wait_for(lambda: "Watching the webhooks of watched" in (airflow.home / "triggerer.log").read_text())
    first = client.submit("Charged twice", categories=["billing", "other"])
    end_all_jobs(sandbox)
    wait_for(lambda: first.id in heard())
    airflow.kill("triggerer")
    before = len(sandbox.deliveries)
    second = client.submit("Charged thrice", categories=["billing", "other"])
    end_all_jobs(sandbox)
    wait_for(lambda: len(sandbox.deliveries) >= before + 2)  # each of two endpoints
    airflow.start("triggerer")
    wait_for(lambda: second.id in heard())
    client.webhooks.delete(endpoint.id)


def test_what_is_not_signed_is_refused(airflow: LiveAirflow) -> None:
    """The path is public on the API server; everything there but a signed delivery is refused."""
    for path, status in (("", 401), ("/watched", 401), ("/nobody", 404)):
        request = urllib.request.Request(f"{airflow.url}/classifaily/webhooks{path}", b"{}", method="POST")
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(request, timeout=30)
        refused.value.close()
        assert refused.value.code == status


# --- tables -------------------------------------------------------------------------------------


def table(folder: Path, name: str) -> dict[str, str]:
    """A table of distinct texts, and where its labelled twin goes."""
    source, target = folder / f"{name}.csv", folder / f"{name}_labelled.csv"
    with source.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "body"])
        writer.writerows((number, f"I was charged twice, {name} case {number}") for number in range(ROWS))
    return {"source": str(source), "target": str(target)}


def statuses(target: str) -> dict[str, int]:
    with Path(target).open(newline="", encoding="utf-8") as file:
        found = [row["status"] for row in csv.DictReader(file)]
    return {status: found.count(status) for status in set(found)}


def test_two_killed_workers_cost_nothing(airflow: LiveAirflow, sandbox: Sandbox, tmp_path: Path) -> None:
    """kill -9 in the middle of paid calls: the third try replays what came back, and parks what may have been paid."""
    sandbox.inject(Fault(kind="delay", path="/batch", seconds=0.3, after_work=False, times=None))
    files = table(tmp_path, "dying")
    run = airflow.trigger("dying", **files)
    assert run.end() == "success"
    (task,) = run.tasks()
    assert task["try_number"] == 3
    told = run.xcom("classify")
    found = statuses(files["target"])
    assert sum(found.values()) == told["rows"] == ROWS
    # What was under way when the worker died may have been paid: such rows are never bought again unasked.
    assert set(found) <= {"completed", "unknown"}
    assert found["completed"] <= sandbox.bill().charged <= ROWS
    assert max(sandbox.bill().by_input.values()) == 1

    paid = sandbox.bill().charged
    again = airflow.trigger("dying", **elsewhere(files))
    assert again.end() == "success"
    assert again.xcom("classify")["billed"] == 0
    assert sandbox.bill().charged == paid


def test_a_task_told_to_stop_keeps_what_it_paid(airflow: LiveAirflow, sandbox: Sandbox, tmp_path: Path) -> None:
    """ "Mark as failed" in the UI: the worker is told (on_kill), buys no more, and lets what is under way land."""
    sandbox.inject(Fault(kind="delay", path="/batch", seconds=2, times=None))
    files = table(tmp_path, "stopped")
    run = airflow.trigger("stopped", **files)
    wait_for(lambda: (run.xcom("classify", "progress") or {}).get("done", 0) >= 10)
    airflow.call("PATCH", f"{run.path}/taskInstances/classify", {"new_state": "failed"})
    assert run.end() == "failed"
    wait_for(lambda: "told to stop" in airflow.logs("stopped"))
    paid = sandbox.bill().charged
    assert paid <= ROWS / 2
    sandbox.clear_faults()

    again = airflow.trigger("stopped", **elsewhere(files))
    assert again.end() == "success"
    assert again.xcom("classify")["reused"] == paid
    assert statuses(elsewhere(files)["target"]) == {"completed": ROWS}
    assert sandbox.bill().charged == ROWS
    assert max(sandbox.bill().by_input.values()) == 1


def elsewhere(files: dict[str, str]) -> dict[str, str]:
    """The same table, labelled into another file."""
    return {**files, "target": files["target"].replace(".csv", "_again.csv")}


UNDER_WAY = 10
"""Rows that may be under way at once: two batches of five."""


@pytest.mark.parametrize("told", ["task", "supervisor"])
def test_a_worker_told_to_end_buys_no_more_and_its_retry_the_rest(
    airflow: LiveAirflow, sandbox: Sandbox, tmp_path: Path, told: str
) -> None:
    """SIGTERM, as a node that is drained sends it: what is billed already and under way is kept, not asked again."""
    sandbox.inject(Fault(kind="delay", path="/batch", seconds=1.5, times=None))
    files = table(tmp_path, f"ended_by_{told}")
    processes = tmp_path / "processes"
    run = airflow.trigger("stopped_by_signal", **files, processes=str(processes))
    wait_for(lambda: (run.xcom("classify", "progress") or {}).get("done", 0) >= 10)
    pid = int(processes.read_text().split()[("task", "supervisor").index(told)])
    os.kill(pid, signal.SIGTERM)
    paid = sandbox.bill().charged
    wait_for(lambda: run.states() != ["running"])
    assert sandbox.bill().charged - paid <= UNDER_WAY
    sandbox.clear_faults()

    assert run.end() == "success"
    assert run.tasks()[0]["try_number"] == 2
    assert statuses(files["target"]) == {"completed": ROWS}
    assert sandbox.bill().charged == ROWS
    assert max(sandbox.bill().by_input.values()) == 1


def test_tries_that_an_execution_timeout_ends_share_one_payment(
    airflow: LiveAirflow, sandbox: Sandbox, tmp_path: Path
) -> None:
    sandbox.inject(Fault(kind="delay", path="/batch", seconds=0.8, times=None))
    files = table(tmp_path, "timed_out")
    run = airflow.trigger("stopped_by_its_timeout", **files)
    wait_for(lambda: run.tasks()[0]["try_number"] >= 2)
    sandbox.clear_faults()
    assert run.end() == "success"
    assert statuses(files["target"]) == {"completed": ROWS}
    assert sandbox.bill().charged == ROWS
    assert max(sandbox.bill().by_input.values()) == 1


def test_clearing_what_is_deferred_submits_nothing_anew(airflow: LiveAirflow, sandbox: Sandbox) -> None:
    run = airflow.trigger("submit_and_wait", text="My parcel is lost")
    wait_for(lambda: "deferred" in run.states())
    job_id = run.xcom("submit")
    cleared = {"dry_run": False, "dag_run_id": run.run_id, "only_failed": False, "reset_dag_runs": True}
    airflow.call("POST", "/api/v2/dags/submit_and_wait/clearTaskInstances", cleared)
    wait_for(lambda: {each["task_id"]: each["try_number"] for each in run.tasks()}["submit"] == 2)
    end_all_jobs(sandbox)
    assert run.end() == "success"
    assert run.xcom("submit") == run.xcom("wait")["job_id"] == job_id
    assert sandbox.bill().charged == 1
