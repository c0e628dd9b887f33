"""`classifaily classify`: what it prints, what it costs, how it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from classifaily_connectors.sandbox import Fault

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

pytestmark = pytest.mark.slow

ASK = ("--text", "body", "--categories", "billing,technical")


def refusing(**which: Any) -> Fault:
    body = {"error": {"code": "invalid_request", "message": "No."}}
    return Fault(kind="answer", method="POST", status=400, times=None, body=body, **which)


def test_a_table_is_labelled_and_a_rerun_is_free(run: Any, tickets: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    first = run("classify", tickets, *ASK, "--out", "labelled.parquet")
    assert (first.code, first.err) == (0, "")
    assert "50 rows" in first.out
    assert "40 billed  0 reused  10 duplicate" in first.out
    assert "billing" in first.out
    assert "█" in first.out
    assert pq.read_table(tmp_path / "labelled.parquet").num_rows == 50
    second = run("classify", tickets, *ASK, "--out", "labelled.csv", "--json")
    assert second.json["billed"] == 0
    assert second.json["reused"] + second.json["duplicate"] == 50
    assert second.json["statuses"]["completed"] == second.json["rows"] == 50
    assert second.json["ledger"] == f"sqlite:///{tmp_path}/state/classifaily/ledger.db"
    assert sandbox.bill().charged == 40


def test_plan_spends_nothing_and_is_right(run: Any, tickets: Path, sandbox: Sandbox) -> None:
    plan = run("classify", tickets, *ASK, "--plan", "--json")
    assert (plan.code, plan.json["to_buy"], plan.json["rows"], plan.json["fits"]) == (0, 40, 50, True)
    assert "40 requests would be billed, in 1 call; nothing" in run("classify", tickets, *ASK, "--plan").out
    assert sandbox.bill().charged == 0
    assert run("classify", tickets, *ASK, "-o", "x.csv", "--json").json["billed"] == 40
    assert run("classify", tickets, *ASK, "--plan", "--json").json["already_paid"] == 40


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.json", '["billing", {"name": "technical", "description": "Bugs"}]'),
        ("c.yaml", "categories:\n  - billing\n  - name: technical\n"),
        ("c.txt", "# ours\nbilling\ntechnical\n"),
    ],
)
def test_categories_from_a_file(name: str, content: str, run: Any, tickets: Path, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    ended = run("classify", tickets, "--text", "body", "--categories", f"@{name}", "-o", "x.csv", "--json")
    assert ended.code == 0
    assert set(ended.json["labels"]) <= {"billing", "technical"}


def test_template_and_policy(run: Any, tickets: Path, tmp_path: Path) -> None:
    options = ("--template", "Id: {id}\\n\\n{body}", "--categories", "billing,other", "--act", "1", "--review", "1")
    ended = run("classify", tickets, *options, "-o", "x.jsonl", "--json", "--prefix", "c_")
    assert ended.json["billed"] == 50
    row = json.loads((tmp_path / "x.jsonl").read_text().splitlines()[0])
    assert row["id"] == "0"
    assert row["c_label"] in ("billing", "other")


WRONG = {
    "no output": (("--text", "body"), "--out is missing"),
    "column": (("--text", "bdy", "-o", "x.csv"), "tickets.csv: column 'bdy' is missing; it has id, body"),
    "ending": (("--text", "body", "-o", "x.xls"), "output 'x.xls': open it and save it as .xlsx or .csv"),
    "categories": (("--text", "body", "-o", "x.csv", "--categories", "@none.json"), "none.json: No such file"),
    "policy": ((*ASK, "-o", "x.csv", "--act", "7"), "act is 7.0"),
    "ledger": ((*ASK, "-o", "x.csv", "--ledger", "mysql://x"), "the store URL must start with"),
    "budget": ((*ASK, "-o", "x.csv", "--max-requests", "-1"), "max_requests is -1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_one_line(case: str, run: Any, tickets: Path, sandbox: Sandbox) -> None:
    words, message = WRONG[case]
    ended = run("classify", tickets, *words)
    assert (ended.code, ended.out) == (2, "")
    assert message in ended.err
    assert ended.err.count("\n") == 1
    assert sandbox.bill().charged == 0


def test_no_key(run: Any, tickets: Path) -> None:
    ended = run("classify", tickets, *ASK, "-o", "x.csv", env={"CLASSIFAILY_KEY": None})
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "no API key" in ended.err


def test_budget_ends_first(run: Any, tickets: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    ended = run("classify", tickets, *ASK, "-o", "x.csv", "--max-requests", "10")
    assert (ended.code, sandbox.bill().charged) == (5, 0)
    assert "40 requests are needed and 10 may be spent" in ended.err
    ended = run("classify", tickets, *ASK, "-o", "x.csv", "--max-requests", "10", "--partial", "--json")
    assert (ended.code, sandbox.bill().charged) == (5, 10)
    assert ended.json["statuses"]["uncovered"] > 0
    assert len(pd.read_csv(tmp_path / "x.csv")) == 50


def test_failed_rows(run: Any, tickets: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.inject(refusing(contains="invoice 7 "))
    ended = run("classify", tickets, *ASK, "-o", "x.csv", "--json")
    assert (ended.code, ended.json["statuses"]["failed"]) == (3, 2)
    ended = run("classify", tickets, *ASK, "-o", "y.csv", "--max-error-ratio", "0.01")
    assert (ended.code, ended.err.count("\n")) == (6, 1)
    assert "2 of 50 rows have no answer" in ended.err
    assert len(pd.read_csv(tmp_path / "y.csv")) == 50


def test_unknown_rows_are_listed_and_settled(run: Any, tickets: Path, sandbox: Sandbox) -> None:
    sandbox.inject(Fault(kind="reset", method="POST", times=1))
    ended = run("classify", tickets, *ASK, "-o", "x.csv", "--batch-size", "10")
    assert ended.code == 4
    assert "classifaily ledger show" in ended.out
    shown = run("ledger", "show", "--json")
    parked = len(shown.json)  # fewer than ten only where reading the file was slow
    assert shown.code == 4
    assert 1 <= parked <= 10
    assert {entry["state"] for entry in shown.json} == {"parked"}
    assert run("ledger", "settle", "--json").json == {"answered": parked, "dropped": 0, "left": 0}
    ended = run("classify", tickets, *ASK, "-o", "x.csv", "--json")
    assert (ended.code, ended.json["billed"], sandbox.bill().charged) == (0, 0, 40)
    assert run("ledger", "show").code == 0


def test_the_service_is_away(run: Any, tickets: Path) -> None:
    ended = run("usage", env={"CLASSIFAILY_BASE_URL": "http://127.0.0.1:9"})
    assert (ended.code, ended.err.count("\n")) == (1, 1)


def test_kill_9_and_the_same_command_again(
    line: list[str], environment: dict[str, str], run: Any, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Killed half-way; the same command goes on, and nothing is paid twice."""
    many = tmp_path / "many.csv"
    many.write_text("id,body\n" + "".join(f"{n},ticket {n}\n" for n in range(3000)))
    sandbox.inject(Fault(kind="delay", method="POST", seconds=0.5, times=None))
    words = ["classify", str(many), *ASK, "-o", "x.csv", "--batch-size", "20", "--concurrency", "4"]
    with subprocess.Popen([*line, *words], cwd=tmp_path, env=environment) as process:
        deadline = time.monotonic() + 60
        while sandbox.bill().charged < 300 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "x.csv").exists()
    sandbox.clear_faults()
    again = run(*words, "--json")
    assert again.code in (0, 4)
    assert again.json["rows"] == 3000
    assert again.json["statuses"]["completed"] + again.json["statuses"]["unknown"] == 3000
    assert max(sandbox.bill().by_input.values()) == 1
    settled = run("ledger", "settle", "--json").json
    assert settled["answered"] + settled["dropped"] + settled["left"] == again.json["statuses"]["unknown"]


def test_interrupted(line: list[str], environment: dict[str, str], sandbox: Sandbox, tmp_path: Path) -> None:
    many = tmp_path / "many.csv"
    many.write_text("body\n" + "".join(f"ticket {n}\n" for n in range(3000)))
    sandbox.inject(Fault(kind="delay", method="POST", seconds=0.5, times=None))
    words = ["classify", str(many), *ASK, "-o", "x.csv", "--batch-size", "20"]
    with subprocess.Popen([*line, *words], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while sandbox.bill().charged < 100 and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "run the same command again" in err
    assert "Traceback" not in err


def test_standard_input_and_output(line: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    """`-` is either; what people read goes to standard error then."""
    command = [
        *line,
        "classify",
        "-",
        "--format",
        "jsonl",
        "--text",
        "body",
        "--categories",
        "billing,technical",
        "-o",
        "-",
    ]
    where: dict[str, Any] = {"env": environment, "cwd": tmp_path, "capture_output": True, "text": True}
    done = subprocess.run(command, check=False, input='{"body": "I was charged twice"}\n', **where)
    assert json.loads(done.stdout)["label"] == "billing"
    assert "1 billed" in done.stderr
    refused = subprocess.run([*command, "--json"], check=False, **where)
    assert (refused.returncode, "choose one" in refused.stdout) == (2, True)
