"""The launcher: a real Dagster, its runs, and nothing left behind."""

import csv
import importlib.util
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors.bulk.rows import COLUMNS
from classifaily_connectors.sandbox import Fault, Sandbox

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
LAUNCHER = EXAMPLES / "dagster" / "launch.py"
CATEGORIES = EXAMPLES / "data" / "categories.json"
TICKETS = [
    ("1", "I was charged twice for my subscription."),
    ("2", "  "),
    ("3", 'The API says "500",\nand then 500 again.'),
    ("4", "x" * 100_001),
    ("5", "请问如何修改密码 How do I change my password?"),
]

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def workdir(tmp_path: Path) -> Path:
    with (tmp_path / "tickets.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("ticket_id", "body"), *TICKETS])
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


@pytest.fixture
def start(sandbox: Sandbox, workdir: Path) -> Iterator[Start]:
    """Starts the launcher as a shell starts a background job: with SIGINT ignored."""
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> "subprocess.Popen[str]":
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            process = subprocess.Popen(
                [sys.executable, str(LAUNCHER), *arguments, "--workdir", str(workdir)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            signal.signal(signal.SIGINT, previous)
        started.append(process)
        return process

    yield run
    for process in started:
        process.terminate()
        process.communicate(timeout=60)
    assert left_running(workdir) == []


def left_running(workdir: Path) -> list[str]:
    """Commands of the processes whose DAGSTER_HOME is below `workdir`."""
    home = f"DAGSTER_HOME={workdir.resolve()}".encode()
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if home in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue  # it has just ended, or is not ours
    return found


def demo(workdir: Path, *more: str) -> list[str]:
    table, output = workdir.parent / "tickets.csv", workdir.parent / "out.csv"
    paths = ["--input", str(table), "--output", str(output), "--categories", str(CATEGORIES)]
    return ["demo", "--text", "body", *paths, *more]


def labelled(workdir: Path) -> list[dict[str, str]]:
    with (workdir.parent / "out.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_demo_labels_the_table_in_real_runs(
    sandbox: Sandbox, start: Start, workdir: Path, places_of: Callable[[str, Path], list[str]]
) -> None:
    process = start(*demo(workdir, "--runs", "2"))
    printed, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert left_running(workdir) == []

    events = [json.loads(line) for line in printed.splitlines()]
    assert [event["event"] for event in events] == ["starting", "ready", *["progress", "run_done"] * 2]
    assert [event.get("run") for event in events[2:]] == [1, 1, 2, 2]
    assert events[2] == {"event": "progress", "run": 1, "done": 5, "rows": 5}
    assert events[3]["run_url"].startswith(f"{events[1]['url']}/runs/")
    assert (events[3]["rows"], events[3]["output"]) == (5, str(workdir.parent / "out.csv"))

    rows = labelled(workdir)
    assert list(rows[0]) == ["ticket_id", "body", *COLUMNS]
    assert [(row["ticket_id"], row["body"]) for row in rows] == TICKETS
    assert [row["status"] for row in rows] == ["completed", "skipped", "completed", "completed", "completed"]
    assert [rows[place]["label"] for place in (0, 1, 2, 4)] == ["billing", "", "technical", "account"]
    assert sandbox.bill().charged == 4, "the second run bills nothing"
    assert places_of(sandbox.key, workdir) == []


def test_demo_that_fails_says_why(
    sandbox: Sandbox, start: Start, workdir: Path, places_of: Callable[[str, Path], list[str]]
) -> None:
    sandbox.revoke(sandbox.key)
    process = start(*demo(workdir, "--rows", "1"))
    _, errors = process.communicate(timeout=400)
    assert process.returncode == 1
    assert "AuthenticationError" in errors
    assert "--- webserver.log" in errors
    assert not (workdir.parent / "out.csv").exists()
    assert sandbox.key not in errors
    assert places_of(sandbox.key, workdir) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_that_is_stopped_in_a_run_leaves_no_process(
    sandbox: Sandbox, start: Start, workdir: Path, number: signal.Signals
) -> None:
    sandbox.inject(Fault(kind="delay", path="/batch", seconds=20))
    process = start(*demo(workdir))
    assert process.stdout
    assert [json.loads(process.stdout.readline())["event"] for _ in "12"] == ["starting", "ready"]
    before = len(sandbox.requests)
    while len(sandbox.requests) == before:  # the run asks for the usage first
        assert process.poll() is None
        time.sleep(0.05)
    assert left_running(workdir)
    process.send_signal(number)
    process.communicate(timeout=120)
    assert process.returncode == 128 + number
    assert left_running(workdir) == []


def test_ui_shows_the_examples_masks_the_key_and_runs_what_is_queued(
    sandbox: Sandbox, start: Start, workdir: Path, places_of: Callable[[str, Path], list[str]]
) -> None:
    module = local_dagster()
    port = module.free_port()
    process = start("ui", "--port", str(port))
    assert process.stdout
    assert f"http://127.0.0.1:{port}" in process.stdout.readline()

    examples = [file for file in LAUNCHER.parent.glob("*.py") if file.stem not in ("launch", "local_dagster")]
    dagster = module.LocalDagster(workdir, examples, port=port, daemon=True)
    dagster.wait_until_loaded()

    resource = dagster.ask(RESOURCE)["topLevelResourceDetailsOrError"]
    assert resource["resourceType"] == "dagster_classifaily.resource.ClassifailyResource"
    configured = {value["key"]: (value["type"], value["value"]) for value in resource["configuredValues"]}
    described = {field["name"]: field["defaultValueAsJson"] for field in resource["configFields"]}
    shown = json.dumps([configured, described])
    assert sandbox.key not in shown
    assert "CLASSIFAILY_KEY" in shown

    output = workdir.parent / "out.csv"
    config = {"input": str(workdir.parent / "tickets.csv"), "output": str(output), "categories": str(CATEGORIES)}
    run_id = dagster.launch("support_tickets", "labelled_tickets", config)
    told = list(dagster.messages(run_id))
    assert "RunEnqueuedEvent" in told, "the daemon takes runs from a queue"
    assert labelled(workdir)[0]["label"] == "billing"
    assert places_of(sandbox.key, workdir) == []


RESOURCE = """{ topLevelResourceDetailsOrError(resourceSelector: {
    repositoryLocationName: "support_tickets", repositoryName: "__repository__", resourceName: "classifaily" }) {
    __typename ... on ResourceDetails { resourceType configuredValues { key value type }
    configFields { name defaultValueAsJson } } ... on PythonError { message } } }"""


def local_dagster() -> Any:
    spec = importlib.util.spec_from_file_location("local_dagster", LAUNCHER.with_name("local_dagster.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
