"""Every snippet of the README and every example runs; the launcher runs the demo and leaves no process behind."""

from __future__ import annotations

import csv
import json
import os
import re
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors import ErrorRatioExceededError, InvalidRequestError
from classifaily_connectors.sandbox import Fault, Sandbox
from prefect_classifaily import ClassifailyCredentials

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES, DATA = ROOT / "examples" / "prefect", ROOT / "examples" / "data"


def snippets(readme: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)


SNIPPETS = snippets(ROOT / "prefect_tasks" / "README.md")
SNIPPETS += [each for each in snippets(ROOT / "README.md") if "prefect" in each]
NEW = ["label", "confidence", "labels", "explanation", "route", "status", "source", "decided_by", "policy", "error"]
NEW += ["job_id"]


@pytest.fixture
def block(environment: Sandbox, server: Any) -> Sandbox:
    """The environment's sandbox, also as the block that the README names."""
    ClassifailyCredentials.from_env().save("my-block", overwrite=True)
    return environment


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_readme(block: Sandbox, snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "snippet.py"
    script.write_text(snippet)
    runpy.run_path(str(script), run_name="__main__")
    assert block.requests or any(each in snippet for each in (".save(", "sweep_jobs", "Sandbox("))


def test_classify_one(block: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "classify_one.py"), run_name="__main__")
    assert capfd.readouterr().out.strip() == "account"
    assert block.bill().charged == 1


def test_keep_schema(block: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        runpy.run_path(str(EXAMPLES / "keep_schema.py"), run_name="__main__")
        assert len(re.findall(r"'TW-\d+': '(?:billing|technical|account|general)'", capfd.readouterr().out)) == 5
    assert [each.method for each in block.requests if each.path.endswith("/schemas")].count("POST") == 1


def rows_of(path: Path) -> list[dict[str, str]]:
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


TABLE = [
    {"id": "1", "body": "I was charged twice\nfor my subscription."},
    {"id": "2", "body": "  "},
    {"id": "3", "body": 'The API keeps returning a "500" error.'},
    {"id": "4", "body": "log " * 25_001},
    {"id": "5", "body": "How do I change my password? 🔑"},
]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, ["id", "body"])
        writer.writeheader()
        writer.writerows(TABLE)
    return path


def support_tickets() -> Any:
    return runpy.run_path(str(EXAMPLES / "support_tickets.py"))["label_tickets"]


def test_support_tickets(block: Sandbox, table: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "labelled.csv"
    told = [support_tickets()(table, output=output, credentials="my-block") for _ in range(2)]
    assert [(each["rows"], each["billed"], each["reused"]) for each in told] == [(5, 4, 0), (5, 0, 4)]
    rows = rows_of(output)
    assert [{name: row[name] for name in ("id", "body")} for row in rows] == TABLE
    assert [row["label"] for row in rows][:3] == ["billing", "", "technical"]
    assert [row["status"] for row in rows] == ["completed", "skipped", "completed", "completed", "completed"]
    assert list(rows[0]) == ["id", "body", *NEW]
    assert block.bill().charged == 4


def test_support_tickets_lands_what_was_paid_for_and_then_fails(block: Sandbox, table: Path, tmp_path: Path) -> None:
    block.inject(Fault(kind="reset", path="/batch", after_work=True, times=None))
    output = tmp_path / "labelled.csv"
    with pytest.raises(ErrorRatioExceededError):
        support_tickets()(table, output=output)
    rows = rows_of(output)
    assert [row["status"] for row in rows] == ["unknown", "skipped", "unknown", "unknown", "unknown"]
    assert {row["label"] for row in rows} == {""}
    assert "may have been executed and billed" in rows[2]["error"]
    assert block.bill().charged == 4


def test_support_tickets_names_a_missing_column(block: Sandbox, table: Path) -> None:
    with pytest.raises(InvalidRequestError, match=r"column 'text' is missing; it has id, body"):
        support_tickets()(table, text="text")
    assert block.requests == []


def launch(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, EXAMPLES / "launch.py", *map(str, arguments)]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **pipes, **options)


def demo(workdir: Path, table: Path, *more: Any) -> subprocess.Popen[str]:
    files = ["--input", table, "--output", workdir / "out.csv", "--categories", DATA / "categories.json"]
    return launch("demo", *files, "--text", "body", "--workdir", workdir, *more)


def left_over(workdir: Path) -> list[str]:
    """The command lines of processes whose Prefect home is in `workdir`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"PREFECT_HOME={workdir}".encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def test_the_launcher_runs_the_demo(environment: Sandbox, table: Path, tmp_path: Path) -> None:
    """Twice, and the second run pays for nothing."""
    workdir = tmp_path / "demo"
    with demo(workdir, table, "--rows", 3, "--runs", 2) as launcher:
        told, complaint = launcher.communicate()
    assert launcher.returncode == 0, complaint
    events: list[dict[str, Any]] = [json.loads(line) for line in told.splitlines()]
    assert [each["event"] for each in events[:2]] == ["starting", "ready"]
    done = [each for each in events if each["event"] == "run_done"]
    assert [(each["run"], each["rows"]) for each in done] == [(1, 3), (2, 3)]
    assert len({each["run_url"] for each in done}) == 2
    for run in (1, 2):
        progress = [each["done"] for each in events if each["event"] == "progress" and each["run"] == run]
        assert progress == sorted(progress)
        assert progress[-1] == 3
    assert [row["status"] for row in rows_of(workdir / "out.csv")] == ["completed", "skipped", "completed"]
    assert environment.bill().charged == 2
    assert left_over(workdir) == []


def test_the_launcher_says_why_a_flow_failed(environment: Sandbox, table: Path, tmp_path: Path) -> None:
    environment.revoke(environment.key)
    workdir = tmp_path / "demo"
    with demo(workdir, table) as launcher:
        told, complaint = launcher.communicate()
    assert launcher.returncode == 1
    assert "run_done" not in told
    assert "AuthenticationError" in complaint
    assert "the flow of run 1 failed" in complaint
    assert environment.key not in complaint
    assert left_over(workdir) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_launcher_leaves_nothing_running(
    environment: Sandbox, table: Path, tmp_path: Path, number: int
) -> None:
    workdir = tmp_path / "demo"
    with demo(workdir, table) as launcher:
        assert launcher.stdout
        assert '"starting"' in launcher.stdout.readline()
        launcher.send_signal(number)
        launcher.communicate(timeout=60)
    assert launcher.returncode == 128 + number
    assert left_over(workdir) == []


def test_the_ui_serves_every_example(
    environment: Sandbox, server: Any, tmp_path: Path, until: Callable[..., Any]
) -> None:
    """As `launch.py ui` does, in the server of these tests."""
    from prefect.client.orchestration import get_client

    with (tmp_path / "log").open("wb") as log:
        serving = subprocess.Popen(
            [sys.executable, EXAMPLES / "serve_examples.py"],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env={**os.environ, "PREFECT_RUNNER_POLL_FREQUENCY": "1"},
            start_new_session=True,
        )
    try:

        def deployed() -> set[str]:
            with get_client(sync_client=True) as client:
                return {each.entrypoint or "" for each in client.read_deployments()}

        flows = {path.name for path in EXAMPLES.glob("*.py") if "@flow" in path.read_text()}
        flows.add("prefect_classifaily.sink.sweep_jobs")
        until(lambda: {Path(each.partition(":")[0]).name for each in deployed()} >= flows, 120)
        with get_client(sync_client=True) as client:

            def start(name: str) -> Any:
                return client.create_flow_run_from_deployment(client.read_deployment_by_name(name).id).id

            def reached(run: Any, *names: str) -> str:
                def there() -> str | None:
                    state = client.read_flow_run(run).state
                    assert state
                    assert state.name in names or not state.is_final(), (tmp_path / "log").read_text()
                    return state.name if state.name in names else None

                return str(until(there, 240))

            one, video = start("classify-one/example"), start("suspended-video/example")
            # Its job may have ended before the run could be suspended.
            if reached(video, "Suspended", "Completed") == "Suspended":
                reached(start("classifaily-sweep/every minute"), "Completed")
            reached(video, "Completed")
            reached(one, "Completed")
    finally:
        os.killpg(serving.pid, signal.SIGTERM)
        serving.wait(30)
