"""`classifaily ledger`, `usage` and `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import ClassifailyClient, OutcomeUnknownError, __version__, submit_once
from classifaily_connectors.sandbox import Fault

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

pytestmark = pytest.mark.slow

ASK = ("--text", "body", "--categories", "billing,technical")


def test_help_names_every_command(run: Any) -> None:
    ended = run("--help")
    assert ended.code == 0
    for name in ("classify", "ledger", "usage", "doctor", "sandbox"):
        assert name in ended.out


def test_ledger_counts_and_forgets(run: Any, tickets: Path) -> None:
    run("classify", tickets, *ASK, "-o", "x.csv", "--ledger", "own.db")
    stats = run("ledger", "stats", "--ledger", "own.db", "--json").json
    assert (stats["done"], stats["parked"], stats["interrupted"], stats["live"]) == (40, 0, 0, 0)
    assert run("ledger", "stats", "--json").json["done"] == 0
    assert run("ledger", "prune", "--older-than", "1d", "--ledger", "own.db", "--json").json == {"dropped": 0}
    assert run("ledger", "prune", "--older-than", "0s", "--ledger", "own.db", "--json").json == {"dropped": 40}
    wrong = run("ledger", "prune", "--older-than", "3x")
    assert (wrong.code, wrong.err) == (2, "error: --older-than '3x': write a number and s, m, h, d or w, such as 90d\n")


def test_ledger_by_environment(run: Any, tickets: Path, tmp_path: Path) -> None:
    env = {"CLASSIFAILY_STORE_URL": f"sqlite:///{tmp_path}/env.db"}
    run("classify", tickets, *ASK, "-o", "x.csv", env=env)
    assert run("ledger", "stats", "--json", env=env).json["done"] == 40


def test_resend_drops_what_is_open(run: Any, tickets: Path, sandbox: Sandbox) -> None:
    sandbox.inject(Fault(kind="reset", method="POST", times=1))
    assert run("classify", tickets, *ASK, "-o", "x.csv").code == 4
    assert run("ledger", "settle", "--resend", "--reconcile").code == 2
    dropped = run("ledger", "settle", "--resend", "--json")
    assert (dropped.code, dropped.json["dropped"] > 0) == (0, True)
    assert run("classify", tickets, *ASK, "-o", "x.csv").code == 0


def test_submitted_jobs_are_looked_after_beside_the_rows(run: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path}/own.db"
    with ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        submit_once(client, "I was charged twice.", ledger=store, categories=["billing", "technical"])
        sandbox.inject(Fault(kind="reset", after_work=True, path="/classify"))
        with pytest.raises(OutcomeUnknownError):
            submit_once(client, "The API answers 500.", ledger=store, categories=["billing", "technical"])
    there = ("--ledger", "own.db", "--json")
    assert {run("ledger", "stats", *there).json[name] for name in ("parked", "interrupted", "jobs")} == {0}
    stats = run("ledger", "stats", "--submitted", *there).json
    assert (stats["parked"], stats["interrupted"], stats["jobs"]) == (1, 0, 1)
    (question,) = (
        each
        for each in run("doctor", "--json", env={"CLASSIFAILY_STORE_URL": store}).json
        if each["name"] == "open questions"
    )
    assert question["detail"] == "1 perhaps paid without an answer: classifaily ledger settle --submitted"
    assert run("ledger", "show", *there).code == 0
    shown = run("ledger", "show", "--submitted", *there).json
    assert {(each["state"], each["job_id"] is None) for each in shown} == {("job", False), ("parked", True)}
    assert run("ledger", "settle", "--resend", *there).json["dropped"] == 0
    assert run("ledger", "settle", "--submitted", "--resend", *there).json["dropped"] == 1
    assert run("ledger", "stats", "--submitted", *there).json["jobs"] == 1


def test_usage(run: Any, tickets: Path) -> None:
    run("classify", tickets, *ASK, "-o", "x.csv")
    report = run("usage", "--json").json
    assert (report["plan"], report["usage"]["requests"], report["remaining"]) == ("pro", 40, 99_960)
    shown = run("usage")
    assert (shown.code, "40 of 100,000 requests used  99,960 left" in shown.out) == (0, True)
    assert run("usage", "--month", "soon").code == 2


def levels(ended: Any) -> dict[str, str]:
    return {each["name"]: each["level"] for each in ended.json}


def test_doctor_finds_everything_in_order(run: Any) -> None:
    ended = run("doctor", "--json")
    assert ended.code == 0
    assert levels(ended) == dict.fromkeys(("key", "address", "service", "quota", "clock", "ledger"), "good")
    assert run("doctor").code == 0


@pytest.mark.parametrize(
    ("env", "finding", "detail"),
    [
        ({"CLASSIFAILY_KEY": None}, "key", "set CLASSIFAILY_KEY"),
        ({"CLASSIFAILY_BASE_URL": "ftp://x"}, "address", "base_url must look like"),
        ({"CLASSIFAILY_BASE_URL": "http://127.0.0.1:9/v1"}, "service", ""),
        ({"CLASSIFAILY_KEY": "cai_live_" + "e" * 40}, "service", "401"),
        ({"CLASSIFAILY_STORE_URL": "sqlite:////proc/no/ledger.db"}, "ledger", ""),
        ({"CLASSIFAILY_STORE_URL": "oracle://x"}, "ledger", "must start with"),
    ],
)
def test_doctor_names_what_is_wrong(env: dict[str, str | None], finding: str, detail: str, run: Any) -> None:
    ended = run("doctor", "--json", env=env)
    assert ended.code == 1
    bad = [each for each in ended.json if each["level"] == "bad"]
    assert [each["name"] for each in bad] == [finding]
    assert detail in bad[0]["detail"]


def test_doctor_sees_an_exhausted_quota_and_open_questions(run: Any, sandbox: Sandbox, tickets: Path) -> None:
    sandbox.inject(Fault(kind="reset", method="POST", times=1))
    run("classify", tickets, *ASK, "-o", "x.csv")
    assert levels(run("doctor", "--json"))["open questions"] == "warning"
    sandbox.add_key("cai_live_" + "9" * 40, plan="starter", used=10_000)
    found = run("doctor", "--json", env={"CLASSIFAILY_KEY": "cai_live_" + "9" * 40})
    assert (found.code, levels(found)["quota"]) == (1, "bad")


def test_the_version(run: Any) -> None:
    ended = run("--version")
    assert (ended.code, ended.out) == (0, f"classifaily {__version__}\n")


def test_names_with_brackets_are_shown_and_written(run: Any, tickets: Path, tmp_path: Path) -> None:
    """Brackets are markup to the library that colours what is printed."""
    (tmp_path / "x[").mkdir()
    for name in ("o [draft].csv", "x[/y].csv"):
        ended = run("classify", tickets, *ASK, "-o", name)
        assert ended.code == 0, ended.err
        assert name in ended.out
        assert (tmp_path / name).exists()


def test_a_wrong_certificate_file_is_named(run: Any, tmp_path: Path) -> None:
    env = {
        "SSL_CERT_FILE": str(tmp_path / "none.pem"),
        "CLASSIFAILY_BASE_URL": "https://127.0.0.1:9/v1",
        "SSL_CERT_DIR": None,
    }
    ended = run("usage", env=env)
    assert (ended.code, ended.err) == (2, "error: SSL_CERT_FILE cannot be used: No such file or directory\n")


def test_messages_speak_of_options(run: Any, tickets: Path) -> None:
    """And of none that only Python has."""
    ended = run("classify", tickets, "--categories", "billing,technical", "-o", "x.csv")
    assert (ended.code, "--text or --template" in ended.err, "text=" in ended.err) == (2, True, False)
    ended = run("classify", tickets, *ASK, "-o", "x.csv", "--ledger", "own.db")
    again = run("classify", "x.csv", *ASK, "-o", "y.csv")
    assert (again.code, "--prefix classifaily_" in again.err) == (2, True)


def test_errors_are_json_where_json_was_asked_for(run: Any, tickets: Path) -> None:
    ended = run("classify", tickets, "--text", "none", "--categories", "billing,technical", "-o", "x.csv", "--json")
    assert (ended.code, ended.err) == (2, "")
    assert ended.json["error"]["type"] == "InvalidRequestError"
    assert "column 'none' is missing" in ended.json["error"]["message"]
    assert ended.json["error"]["outcome"] == "not_sent"
