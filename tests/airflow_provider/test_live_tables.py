"""A table under a real scheduler, whose worker is killed or told to stop: nothing is paid twice."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
from airflow_kit import CONNECTION, KEY, connection_json, files_holding
from live_airflow import LiveAirflow, live_airflow, wait_for

from classifaily_connectors.sandbox import Fault, Sandbox

DAGS = Path(__file__).parent / "live_dags"
ROWS = 200


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(plan="pro", key=KEY) as running:
        yield running


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Iterator[LiveAirflow]:
    home = tmp_path_factory.mktemp("live")
    with live_airflow(home, DAGS, **{CONNECTION: connection_json(sandbox)}) as running:
        yield running
    assert files_holding(KEY, home) == []


@pytest.fixture
def slow(sandbox: Sandbox) -> Iterator[Sandbox]:
    """Batches take a moment, so that there is a middle to break in."""
    sandbox.reset_bill()
    sandbox.inject(Fault(kind="delay", path="/batch", seconds=0.3, after_work=False, times=None))
    yield sandbox
    sandbox.clear_faults()


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


def test_two_killed_workers_cost_nothing(airflow: LiveAirflow, slow: Sandbox, tmp_path: Path) -> None:
    """kill -9 in the middle of paid calls: the third try replays what came back, and parks what may have been paid."""
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
    assert found["completed"] <= slow.bill().charged <= ROWS
    assert max(slow.bill().by_input.values()) == 1

    paid = slow.bill().charged
    again = airflow.trigger("dying", **elsewhere(files))
    assert again.end() == "success"
    assert again.xcom("classify")["billed"] == 0
    assert slow.bill().charged == paid


def test_a_task_told_to_stop_keeps_what_it_paid(airflow: LiveAirflow, slow: Sandbox, tmp_path: Path) -> None:
    """ "Mark as failed" in the UI: the worker is told (on_kill), buys no more, and lets what is under way land."""
    files = table(tmp_path, "stopped")
    run = airflow.trigger("stopped", **files)
    wait_for(lambda: (run.xcom("classify", "progress") or {}).get("done", 0) >= 10)
    airflow.call("PATCH", f"{run.path}/taskInstances/classify", {"new_state": "failed"})
    assert run.end() == "failed"
    wait_for(lambda: "told to stop" in airflow.logs("stopped"))

    again = airflow.trigger("stopped", **elsewhere(files))
    assert again.end() == "success"
    assert again.xcom("classify")["reused"] >= 10
    assert sum(statuses(elsewhere(files)["target"]).values()) == ROWS
    assert max(slow.bill().by_input.values()) == 1


def elsewhere(files: dict[str, str]) -> dict[str, str]:
    """The same table, labelled into another file."""
    return {**files, "target": files["target"].replace(".csv", "_again.csv")}
