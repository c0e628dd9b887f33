"""The launcher: a real Airflow (scheduler, API server, DAG processor, LocalExecutor) labels a table and goes away."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_kit import EXAMPLES, KEY, files_holding, processes_in, processes_left_in

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

TEAMS = [{"name": "billing", "description": "Payments, refunds", "examples": ["charged twice"]}, "technical", "account"]
csv.field_size_limit(10_000_000)
BODIES = ["I was charged twice", "The API keeps returning a 500 error", "How do I change my password?"]
ROWS = [
    *({"id": str(number), "body": f"{BODIES[number % 3]} (ticket {number})"} for number in range(55)),
    {"id": "blank", "body": " \n"},
    {"id": "long", "body": "x" * 140_000},
    {"id": "façade", "body": 'Refund "now",\nplease 🙏'},
]


def launch(tmp_path: Path, sandbox: Sandbox, *more: str) -> subprocess.Popen[str]:
    table, categories = tmp_path / "tickets.csv", tmp_path / "teams.json"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "body"])
        writer.writeheader()
        writer.writerows(ROWS)
    categories.write_text(json.dumps(TEAMS))
    command = [sys.executable, str(EXAMPLES / "launch.py"), "demo", "--input", str(table), "--text", "body"]
    command += [
        "--output",
        str(tmp_path / "out.csv"),
        "--categories",
        str(categories),
        "--workdir",
        str(tmp_path / "af"),
    ]
    # An Airflow of its own: nothing of this process's.
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    env |= {"CLASSIFAILY_KEY": sandbox.key, "CLASSIFAILY_BASE_URL": sandbox.base_url}
    return subprocess.Popen([*command, *more], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def events(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_a_table_is_labelled_by_a_real_dag_run(tmp_path: Path, sandbox: Sandbox) -> None:
    output, errors = launch(tmp_path, sandbox, "--runs", "2").communicate(timeout=180)
    assert errors == ""
    told = events(output)
    assert [each["event"] for each in told if each["event"] != "progress"] == [
        "starting",
        "ready",
        "run_done",
        "run_done",
    ]
    assert [each["run"] for each in told if each["event"] == "run_done"] == [1, 2]
    assert {"event": "progress", "run": 1, "done": 58, "rows": 58} in told
    done = told[-1]
    assert done["rows"] == 58
    assert done["run_url"].startswith(f"{told[1]['url']}/dags/support_tickets/runs/")

    with Path(done["output"]).open(newline="", encoding="utf-8") as file:
        labelled = list(csv.DictReader(file))
    assert [{"id": row["id"], "body": row["body"]} for row in labelled] == ROWS
    assert [row["label"] for row in labelled[:3]] == ["billing", "technical", "account"]
    assert {row["status"] for row in labelled[:55]} == {"completed"}
    assert [(labelled[55][name]) for name in ("status", "label", "job_id")] == ["skipped", "", ""]
    assert [row["label"] for row in labelled[56:]] == ["billing", "billing"]
    assert all(0 <= float(row["confidence"]) <= 1 for row in labelled if row["status"] == "completed")
    # Two runs, and every row was paid once.
    assert sandbox.bill().charged == 57

    assert files_holding(KEY, tmp_path) == []
    assert processes_left_in(tmp_path / "af") == []


def test_a_failing_run_shows_the_tasks_log_and_no_key(tmp_path: Path, sandbox: Sandbox) -> None:
    sandbox.revoke(KEY)
    process = launch(tmp_path, sandbox)
    output, errors = process.communicate(timeout=180)
    assert process.returncode == 1
    assert [each["event"] for each in events(output)][:2] == ["starting", "ready"]
    assert "AuthenticationError" in errors
    assert "attempt=1.log" in errors
    assert KEY not in errors
    assert [request[2] for request in sandbox.requests] == [401]
    assert files_holding(KEY, tmp_path) == []
    assert processes_left_in(tmp_path / "af") == []


def test_a_signal_stops_everything(tmp_path: Path, sandbox: Sandbox) -> None:
    process = launch(tmp_path, sandbox, "--runs", "50")  # or it might end before the signal comes
    assert process.stdout
    while json.loads(process.stdout.readline())["event"] != "progress":
        pass
    assert processes_in(tmp_path / "af")
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130
    assert processes_left_in(tmp_path / "af") == []
