"""Whole tables through a real Prefect: paid once however often they run, retried safely, shown as artifacts."""

from __future__ import annotations

import asyncio
import csv
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect import Task, flow, unmapped
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.sorting import ArtifactSort
from prefect.states import Failed
from prefect.utilities.annotations import quote

from classifaily_connectors import (
    Budget,
    BudgetExceededError,
    ClassifailyClient,
    ConfidencePolicy,
    ConfigurationError,
    InvalidRequestError,
    UnsettledRowsError,
    plan_table,
)
from classifaily_connectors.sandbox import Fault, Sandbox
from prefect_classifaily import ClassifailyCredentials, aclassify_table, classify_table, retry_with_ledger

TEAMS = ["billing", "technical"]
BODIES = [f"Ticket {number}: I was charged twice." for number in range(40)] + ["Ticket 7: I was charged twice.", " "]
UNIQUE = 40
BOTH = [classify_table, aclassify_table]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "body"])
        writer.writerows(enumerate(BODIES))
    return path


def labelled(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def run(task: Task[..., Any], *args: Any, **options: Any) -> Any:
    """The final state of the task, in a flow of its own without pauses between Prefect's attempts."""
    quick = task.with_options(retry_delay_seconds=0)
    states: list[Any] = []

    @flow(name="tables")
    def sync_flow() -> None:
        states.append(quick(*args, return_state=True, **options))

    @flow(name="tables")
    async def async_flow() -> None:
        states.append(await quick(*args, return_state=True, **options))

    if task.isasync:
        asyncio.run(async_flow())
    else:
        sync_flow()
    return states[0]


def shown(state: Any) -> dict[str, Any]:
    """The artifacts of the flow run by key."""
    with get_client(sync_client=True) as client:
        task_run = client.read_task_run(state.state_details.task_run_id)
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[task_run.flow_run_id]))
        found = client.read_artifacts(artifact_filter=of_run, sort=ArtifactSort.CREATED_DESC)
    return {each.key: each for each in found}


@pytest.mark.parametrize("task", BOTH)
def test_a_rerun_bills_nothing_and_both_are_shown(
    server: Any, environment: Sandbox, table: Path, tmp_path: Path, task: Task[..., Any]
) -> None:
    output = tmp_path / "labelled.csv"
    told = []
    for again in (False, True):
        state = run(task, table, output, text="body", categories=TEAMS)
        told.append(state.result())
        keys = {"classifaily-table-progress", "classifaily-table", "classifaily-table-labels"}
        artifacts = shown(state)
        assert set(artifacts) == keys
        assert artifacts["classifaily-table-progress"].data == 100
        bill = "0 billed, 41 reused" if again else "40 billed, 1 duplicate"
        assert artifacts["classifaily-table-progress"].description.startswith(f"42 of 42 rows: {bill}; ")
        assert "| billing | 41 | 100% | █" in artifacts["classifaily-table"].data
        assert '"share": 1.0' in str(artifacts["classifaily-table-labels"].data)
    assert [(each["rows"], each["billed"], each["duplicate"]) for each in told] == [(42, 40, 1), (42, 0, 0)]
    assert told[0]["statuses"]["skipped"] == 1
    assert told[0]["output"] == str(output)
    assert environment.bill().charged == UNIQUE
    rows = labelled(output)
    assert [row["body"] for row in rows] == BODIES
    assert [row["label"] for row in rows] == ["billing"] * 41 + [""]
    # Where nobody said otherwise, the ledger is the one of the machine's user.
    assert (Path(os.environ["XDG_STATE_HOME"]) / "classifaily" / "ledger.db").exists()


@pytest.mark.parametrize("task", BOTH)
def test_paying_again_on_purpose(environment: Sandbox, table: Path, tmp_path: Path, task: Task[..., Any]) -> None:
    def billed(**options: Any) -> int:
        arguments = {"text": "body", "categories": TEAMS, "report": None, **options}
        told = task.fn(table, tmp_path / "labelled.csv", **arguments)
        told = asyncio.run(told) if task.isasync else told
        count: int = told["billed"]
        return count

    assert [billed(ledger=False), billed(ledger=False)] == [UNIQUE, UNIQUE]
    own = f"sqlite:///{tmp_path / 'own.db'}"
    assert [billed(ledger=own), billed(ledger=own), billed(ledger=own, refresh=True)] == [UNIQUE, 0, UNIQUE]
    assert environment.bill().charged == 4 * UNIQUE


def test_every_option_of_the_core_is_within_reach(environment: Sandbox, table: Path, tmp_path: Path) -> None:
    budget = Budget(max_requests=10, on_exceeded="partial")
    moments: list[Any] = []
    told = classify_table.fn(
        table,
        tmp_path / "labelled.parquet",
        template="#{id}: {body}",
        id_column="id",
        prefix="ai_",
        categories=TEAMS,
        threshold=0.1,
        budget=budget,
        policy=ConfidencePolicy(act=1.0, review=1.0),
        batch_size=5,
        concurrency=1,
        on_unknown="reconcile",
        on_invalid="skip",
        max_error_ratio=0.5,
        progress=moments.append,
    )
    assert (told["billed"], told["statuses"]["uncovered"]) == (10, 32)
    assert sum(told["routes"].values()) == 42
    assert moments[-1].done == 42
    with pytest.raises(BudgetExceededError):
        classify_table.fn(table, tmp_path / "other.csv", text="body", budget=Budget(max_requests=0))


@pytest.mark.parametrize("task", BOTH)
@pytest.mark.parametrize("key", ["tickets_2026", "Support Tickets", "", "ü"])
def test_a_key_that_prefect_would_refuse_is_refused_first(
    server: Any, environment: Sandbox, table: Path, tmp_path: Path, task: Task[..., Any], key: str
) -> None:
    state = run(task, table, tmp_path / "labelled.csv", text="body", categories=TEAMS, report=key)
    with pytest.raises(ConfigurationError, match="lowercase letters, digits and dashes"):
        state.result()
    assert environment.requests == []


def test_two_runs_that_share_one_ledger(server: Any, sandbox: Sandbox, table: Path, tmp_path: Path) -> None:
    """At once, in one flow; the ledger is the block's."""
    sandbox.inject(Fault(kind="delay", path="/batch", seconds=0.05, times=None))
    store = f"sqlite:///{tmp_path / 'shared.db'}"
    block: Any = ClassifailyCredentials(api_key=sandbox.key, base_url=sandbox.base_url, store_url=store)
    assert block.get_store_url() == store

    @flow
    def both() -> list[Any]:
        outputs = [tmp_path / "one.csv", tmp_path / "two.csv"]
        same = {"credentials": unmapped(block), "categories": unmapped(TEAMS), "batch_size": 5}
        return classify_table.map(unmapped(table), outputs, text="body", **same).result()

    told = both()
    assert sum(each["billed"] for each in told) == UNIQUE == sandbox.bill().charged
    assert labelled(tmp_path / "one.csv")[0]["label"] == labelled(tmp_path / "two.csv")[0]["label"] == "billing"
    assert (tmp_path / "shared.db").exists()


class Breaks:
    """A `progress` that raises once, when something has been paid for."""

    met = 0

    def __call__(self, moment: Any) -> None:
        if moment.billed and not self.met:
            self.met += 1
            raise ConnectionResetError("the disk went away")


@pytest.mark.parametrize("task", BOTH)
def test_prefect_tries_again_and_nothing_is_paid_twice(
    server: Any, environment: Sandbox, table: Path, tmp_path: Path, task: Task[..., Any]
) -> None:
    trouble = Breaks()
    options: Any = {"text": "body", "categories": TEAMS, "batch_size": 5, "progress": trouble}
    told = run(task, quote(list(labelled(table))), tmp_path / "labelled.csv", **options).result()
    assert trouble.met == 1
    assert told["statuses"]["completed"] == 41
    assert told["billed"] < UNIQUE
    assert environment.bill().charged == UNIQUE


@pytest.mark.parametrize("anew", [{"ledger": False}, {"refresh": True}])
def test_what_would_pay_anew_is_not_tried_again(
    server: Any, environment: Sandbox, table: Path, tmp_path: Path, anew: dict[str, Any]
) -> None:
    trouble = Breaks()
    options: Any = {"text": "body", "categories": TEAMS, "batch_size": 5, "progress": trouble, **anew}
    state = run(classify_table, table, tmp_path / "labelled.csv", **options)
    with pytest.raises(ConnectionResetError):
        state.result()
    assert trouble.met == 1
    # What it cost all the same, and where that is kept.
    assert f"{environment.bill().charged} requests were billed" in shown(state)["classifaily-table"].data
    assert environment.bill().charged <= UNIQUE


def test_what_a_retry_cannot_mend_is_met_once(
    server: Any, environment: Sandbox, table: Path, tmp_path: Path, until: Callable[..., Any]
) -> None:
    state = run(classify_table, table, tmp_path / "labelled.csv", text="corpus")
    with pytest.raises(InvalidRequestError, match=r"tickets\.csv: column 'corpus' is missing"):
        state.result()

    def count() -> int:
        with get_client(sync_client=True) as client:
            return client.read_task_run(state.state_details.task_run_id).run_count

    until(lambda: count() == 1)
    assert environment.requests == []
    # Outside a task run nobody can say whether there is a ledger.
    unknown: Any = None
    assert not retry_with_ledger(classify_table, unknown, Failed(data=ConnectionResetError()))


KILLED = """
import sys
from pathlib import Path
from prefect import flow
from prefect_classifaily import classify_table

@flow(name="killed")
def label(source: Path, output: Path) -> None:
    classify_table(source, output, text="body", categories=["billing", "technical"], batch_size=4, concurrency=2)

label(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def test_a_killed_run_is_finished_by_the_next(
    server: Any, environment: Sandbox, table: Path, tmp_path: Path, until: Callable[..., Any]
) -> None:
    script, output = tmp_path / "killed.py", tmp_path / "labelled.csv"
    script.write_text(KILLED)
    environment.inject(Fault(kind="delay", path="/batch", seconds=1.0, times=None))
    command = [sys.executable, script, table, output]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        until(lambda: environment.bill().charged >= 8 or process.poll() is not None, 120)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert not output.exists()

    environment.clear_faults()
    options: Any = {"text": "body", "categories": TEAMS, "batch_size": 4}
    # What was under way when it was killed was perhaps paid. Asked at once, nobody can know: the task fails, and its
    # output is complete all the same.
    state = run(classify_table, table, output, **options)
    with pytest.raises(UnsettledRowsError):
        state.result()
    assert len(labelled(output)) == len(BODIES)
    told = run(classify_table, table, output, settle_after=0.1, **options).result()
    assert (told["statuses"]["completed"], told["statuses"]["unknown"]) == (41, 0)
    bill = environment.bill()
    assert set(bill.by_input.values()) == {1}
    assert bill.charged == UNIQUE


def test_a_plan_over_the_same_ledger_says_zero(
    credentials: ClassifailyCredentials, sandbox: Sandbox, table: Path, tmp_path: Path
) -> None:
    classify_table.fn(table, tmp_path / "labelled.csv", text="body", categories=TEAMS, credentials=credentials)
    with ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        plan = plan_table(client, table, text="body", categories=TEAMS, ledger=credentials.get_store_url())
    assert (plan.to_buy, plan.already_paid) == (0, UNIQUE)
