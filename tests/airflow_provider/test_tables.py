"""The table operator in real DAG runs: every distinct row paid once, and no row in Airflow's keeping."""

from __future__ import annotations

import csv
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import fsspec
import pytest
from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException
from airflow.sdk import DAG
from airflow_kit import CONNECTION, KEY, STATE, Run, RunDag, connection_json

from airflow_provider_classifaily.hooks import ClassifailyHook
from airflow_provider_classifaily.operators import ClassifailyTableOperator
from classifaily_connectors import ClassifailyClient, UnsettledRowsError, classify_table
from classifaily_connectors.sandbox import Fault, Sandbox

BODIES = ["I was charged twice", "The API keeps returning a 500 error", "How do I change my password?"]
ROWS = [{"id": str(number), "subject": f"Case {number}", "body": BODIES[number % 3]} for number in range(30)]
UNIQUE, JOINED = 3, 30


@pytest.fixture(autouse=True)
def own_ledger() -> Iterator[None]:
    """The default ledger, empty."""
    yield
    for file in STATE.glob("ledger.db*"):
        file.unlink()


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(tmp_path / "tickets.csv")


def write(path: Path, rows: list[dict[str, str]] = ROWS) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", "subject", "body"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def saved_schema(sandbox: Sandbox) -> int | str:
    with ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        return client.schemas.ensure("teams", ["billing", "technical", "account"]).id


def label(run_dag: RunDag, table: Path, dag_id: str = "table", **conf: Any) -> Run:
    return run_dag(dag_id, source=str(table), target=str(table.with_name("labelled.csv")), **conf)


def test_a_table_is_labelled_and_a_second_run_costs_nothing(
    run_dag: RunDag, connected: Sandbox, table: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = label(run_dag, table)
    told = run.xcom("classify")
    assert (told["rows"], told["billed"], told["duplicate"], told["reused"]) == (30, UNIQUE, 30 - UNIQUE, 0)
    assert told["labels"] == {"account": 10, "billing": 10, "technical": 10}
    assert told["statuses"]["completed"] == 30
    assert told["output"] == str(table.with_name("labelled.csv"))
    labelled = read(Path(told["output"]))
    assert [{name: row[name] for name in ROWS[0]} for row in labelled] == ROWS
    assert [row["label"] for row in labelled[:3]] == ["billing", "technical", "account"]
    assert run.xcom("classify", key="progress")["done"] == 30
    assert "| billing | 10 | 33% |" in (logged := capfd.readouterr().out)
    assert "charged twice" not in logged
    assert "charged twice" not in json.dumps([told, run.rendered("classify")])

    again = label(run_dag, table).xcom("classify")
    assert (again["billed"], again["reused"]) == (0, 30)
    assert connected.bill().charged == UNIQUE
    assert (STATE / "ledger.db").exists()


def test_refresh_pays_again_on_purpose(run_dag: RunDag, connected: Sandbox, table: Path) -> None:
    label(run_dag, table)
    assert label(run_dag, table, refresh=True).xcom("classify")["billed"] == UNIQUE
    assert connected.bill().charged == 2 * UNIQUE


def test_a_truth_value_that_became_text_is_refused_before_anything_is_paid(
    run_dag: RunDag, connected: Sandbox, table: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """ "False" is not False: taken for true, it would pay again."""
    assert label(run_dag, table, "table_as_text").tries("classify") == ("failed", 1)
    assert "refresh is 'False'; it must be one of True, False, 'failed'" in capfd.readouterr().out
    assert connected.requests == []


def test_without_a_ledger_every_run_pays_and_nothing_is_retried(
    run_dag: RunDag, connected: Sandbox, table: Path
) -> None:
    for _ in range(2):
        assert label(run_dag, table, "table_without_ledger").xcom("classify")["billed"] == UNIQUE
    assert connected.bill().charged == 2 * UNIQUE
    assert not (STATE / "ledger.db").exists()
    schema = saved_schema(connected)
    connected.inject(Fault(kind="html_502", path="/schemas", times=3))
    assert label(run_dag, table, "table_without_ledger", schema=schema).tries("classify") == ("failed", 1)


def test_an_outage_is_left_to_airflows_retries(run_dag: RunDag, connected: Sandbox, table: Path) -> None:
    """With a ledger a retry is safe: `retries` may be as many as you like."""
    schema = saved_schema(connected)
    connected.inject(Fault(kind="html_502", path="/schemas", times=3))
    assert label(run_dag, table, schema=schema).tries("classify") == ("success", 2)
    assert connected.bill().charged == UNIQUE


def test_a_refresh_is_not_retried(run_dag: RunDag, connected: Sandbox, table: Path) -> None:
    """A second try would pay again for what the first one bought."""
    schema = saved_schema(connected)
    connected.inject(Fault(kind="html_502", path="/schemas", times=3))
    assert label(run_dag, table, schema=schema, refresh=True).tries("classify") == ("failed", 1)


def test_two_tables_share_one_ledger_by_its_url(
    run_dag: RunDag, sandbox: Sandbox, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    monkeypatch.setenv(CONNECTION, connection_json(sandbox, extra={"store_url": url}))
    assert label(run_dag, table).xcom("classify")["billed"] == UNIQUE
    monkeypatch.setenv(CONNECTION, connection_json(sandbox))
    monkeypatch.setenv("CLASSIFAILY_STORE_URL", url)
    other = write(tmp_path / "others.csv", ROWS[:2])
    assert label(run_dag, other).xcom("classify")["billed"] == 0
    assert sandbox.bill().charged == UNIQUE


def test_every_option_reaches_the_core(run_dag: RunDag, connected: Sandbox, tmp_path: Path) -> None:
    table = write(tmp_path / "tickets.csv", [*ROWS, {"id": "1", "subject": "twice", "body": "an id that was there"}])
    told = label(run_dag, table, "table_joined", store=f"sqlite:///{tmp_path}/own.db").xcom("classify")
    assert told["statuses"]["skipped"] == 1
    assert told["billed"] == JOINED
    labelled = read(tmp_path / "labelled.csv")
    assert {"ai_label", "ai_route", "ai_policy"} <= set(labelled[0])
    assert len(json.loads(labelled[0]["ai_labels"])) == 2
    assert "repeats the id" in labelled[-1]["ai_error"]
    assert (tmp_path / "own.db").exists()


def test_the_operator_takes_what_the_core_takes() -> None:
    """With the core's defaults; Airflow has its own way to show progress, and another word for the output."""
    core = {name: each.default for name, each in inspect.signature(classify_table).parameters.items()}
    ours = {
        name: each.default for name, each in inspect.signature(ClassifailyTableOperator.__init__).parameters.items()
    }
    assert {name for name in core if name not in ours} == {"client", "output", "progress"}
    assert {name: core[name] for name in ours if name in core} == {name: ours[name] for name in ours if name in core}


def test_a_files_dialect_is_said_as_in_the_core(connected: Sandbox, tmp_path: Path) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.csv"
    source.write_text("subject;body\nFacture;J'ai \u00e9t\u00e9 d\u00e9bit\u00e9\n", encoding="cp1252")
    operator = ClassifailyTableOperator(
        task_id="label", source=str(source), target=str(target), text="body", categories=["billing", "technical"],
        format="csv", encoding="cp1252", delimiter=";", settle_after=5.0,
    )  # fmt: skip
    assert operator.execute({})["billed"] == 1
    assert "J'ai \u00e9t\u00e9 d\u00e9bit\u00e9" in target.read_text(encoding="utf-8")


def test_several_axes(run_dag: RunDag, connected: Sandbox, table: Path) -> None:
    told = label(run_dag, table, "table_of_axes").xcom("classify")
    assert told["billed"] == connected.bill().charged == 2 * UNIQUE
    assert {"team_label", "urgency_label"} <= set(read(table.with_name("labelled.csv"))[0])


def test_a_budget_and_a_policy(
    run_dag: RunDag, connected: Sandbox, table: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = label(run_dag, table, budget={"max_requests": 2})
    assert run.tries("classify") == ("failed", 1)
    assert "BudgetExceededError: 3 requests are needed and 2 may be spent" in capfd.readouterr().out
    assert connected.bill().charged == 0
    run = label(run_dag, table, budget={"max_requests": 2, "on_exceeded": "partial"}, policy={"act": 1, "review": 1})
    told = run.xcom("classify")
    assert (told["billed"], told["statuses"]["uncovered"]) == (2, 10)
    assert told["routes"] == {"review": 30}
    assert label(run_dag, table, policy={"act": 0.1, "reviews": 0}).tries("classify") == ("failed", 1)
    assert "ConfidencePolicy: " in capfd.readouterr().out


def test_too_many_failures_fail_the_task_once_the_table_is_complete(
    run_dag: RunDag, connected: Sandbox, table: Path
) -> None:
    for body in BODIES[:2]:
        connected.script(body, error="could not be read")
    assert label(run_dag, table).tries("classify") == ("failed", 1)
    assert [row["status"] for row in read(table.with_name("labelled.csv"))[:3]] == ["failed", "failed", "completed"]


def test_what_is_wrong_with_a_table_is_said_before_anything_is_paid(
    run_dag: RunDag, connected: Sandbox, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "tickets.csv"
    table.write_text("id,text\n1,Refund me\n")
    assert label(run_dag, table).tries("classify") == ("failed", 1)
    assert "column 'body' is missing; it has id, text" in capfd.readouterr().out
    assert connected.requests == []


def test_an_object_store_is_reached_through_airflows_connection(
    run_dag: RunDag, connected: Sandbox, table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`scheme://connection@bucket/key` is Airflow's way: the connection brings the file system and its credentials."""
    from airflow.sdk.io import attach
    from airflow.sdk.io.store import _STORE_CACHE

    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", "s3://")
    store = fsspec.filesystem("memory")
    monkeypatch.setitem(_STORE_CACHE, "s3-warehouse", attach("memory", alias="for_the_test", fs=store))
    monkeypatch.delitem(_STORE_CACHE, "for_the_test")
    store.pipe("/bucket/tickets.csv", table.read_bytes())
    source, target = "s3://warehouse@bucket/tickets.csv", "s3://warehouse@bucket/out/labelled.jsonl"
    told = run_dag("table", source=source, target=target).xcom("classify")
    assert (told["output"], told["billed"]) == (target, UNIQUE)
    lines = store.cat("/bucket/out/labelled.jsonl").decode().splitlines()
    assert [json.loads(line)["label"] for line in lines[:3]] == ["billing", "technical", "account"]
    store.rm("/bucket", recursive=True)


def test_the_outlet_assets_event_tells_the_counts(run_dag: RunDag, connected: Sandbox, table: Path) -> None:
    from airflow.models.asset import AssetEvent
    from airflow.utils.session import create_session

    run = label(run_dag, table)
    with create_session() as session:
        (event,) = session.query(AssetEvent).filter_by(source_run_id=run.run_id).all()
    assert event.extra["labels"] == {"account": 10, "billing": 10, "technical": 10}


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"text": "a", "template": "{b}"}, "text and template exclude each other"),
    ({"on_unknown": "guess"}, "on_unknown is 'guess'"),
    ({"on_invalid": "ignore"}, "on_invalid is 'ignore'"),
    ({"max_error_ratio": 2}, "max_error_ratio is 2"),
    ({"threshold": "high"}, "threshold is 'high'"),
    ({"top_n": 3, "mode": "single"}, "top_n goes with"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG)
def test_a_wrong_argument_is_refused_where_the_dag_is_written(arguments: dict[str, Any], message: str) -> None:
    with DAG("wrong", schedule=None), pytest.raises(ValueError, match=message):
        ClassifailyTableOperator(task_id="wrong", source="a.csv", target="b.csv", **arguments)


def test_where_the_ledger_is(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def found(**extra: Any) -> str:
        monkeypatch.setenv(CONNECTION, connection_json(sandbox, extra=extra))
        return ClassifailyHook().store_url()

    monkeypatch.delenv("CLASSIFAILY_STORE_URL", raising=False)
    assert found() == f"sqlite:///{STATE}/ledger.db"
    monkeypatch.setenv("CLASSIFAILY_STORE_URL", "sqlite:///of/the/worker.db")
    assert found(store_url=" ") == "sqlite:///of/the/worker.db"
    assert found(store_url="postgresql+psycopg://u:p@db/ledger") == "postgresql+psycopg://u:p@db/ledger"
    assert KEY not in found()


def test_no_ledger_means_no_second_try() -> None:
    with DAG("no_ledger", schedule=None, default_args={"retries": 3}):
        bare = ClassifailyTableOperator(task_id="a", source="a.csv", target="b.csv", ledger=False)
        kept = ClassifailyTableOperator(task_id="b", source="a.csv", target="b.csv")
        new = ClassifailyTableOperator(task_id="c", source="a.csv", target="b.csv", refresh="failed")
        sent = ClassifailyTableOperator(task_id="d", source="a.csv", target="b.csv", on_unknown="resend")
    assert [each.retries for each in (bare, kept, new, sent)] == [0, 3, 0, 0]


@pytest.mark.parametrize("how", ["", "_mapped", "_by_template"])
@pytest.mark.parametrize("option", ["no_ledger", "refresh", "failed"])
def test_what_pays_anew_is_not_repeated_however_the_task_is_written(
    run_dag: RunDag, connected: Sandbox, table: Path, option: str, how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Airflow repeats a mapped task whatever its constructor said, and a template is not known before it runs."""
    run = label(run_dag, table, f"again_{option}{how}")
    assert run.state == "failed"
    assert connected.bill().charged == UNIQUE
    if how:
        assert "attempt 2 is refused" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("try_number", "max_tries", "retries", "attempt"),
    [
        (1, 0, 0, 1),
        (1, 2, 2, 1),
        (2, 2, 2, 2),
        (3, 2, 2, 3),
        (2, 3, 2, 1),  # cleared after its first try
        (3, 3, 2, 2),
        (4, 5, 2, 1),  # cleared after its third
        (2, 1, 0, 1),
        (2, 1, 3, 2),  # somebody raised `retries` meanwhile
    ],
)
def test_clearing_a_task_begins_anew(try_number: int, max_tries: int, retries: int, attempt: int) -> None:
    task = ClassifailyTableOperator(task_id="t", source="a.csv", target="b.csv", retries=retries)
    instance = SimpleNamespace(try_number=try_number, max_tries=max_tries)
    assert task._attempt(cast("Any", {"ti": instance})) == attempt
    assert task._attempt(cast("Any", {})) == 1


class Faulty:
    """A task instance whose XComs cannot be written."""

    try_number, max_tries, run_id = 1, 0, "run"

    def xcom_push(self, key: str, value: Any) -> None:
        raise OSError("the bucket is away for a moment")


def test_showing_progress_never_stops_a_table(
    connected: Sandbox, table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = table.with_name("labelled.csv")
    task = ClassifailyTableOperator(task_id="t", source=str(table), target=str(target), text="body", categories=["a"])
    assert task.execute(cast("Any", {"ti": Faulty()}))["rows"] == 30
    assert len(read(target)) == 30


def test_a_stop_that_comes_while_progress_is_shown_is_obeyed(connected: Sandbox, table: Path) -> None:
    """Airflow calls on_kill in the middle of whatever the task does, and what is best effort must not swallow that."""
    task = ClassifailyTableOperator(
        task_id="t", source=str(table), target=str(table.with_name("labelled.csv")), text="body", categories=["a"]
    )

    class Stopping(Faulty):
        def xcom_push(self, key: str, value: Any) -> None:
            task.on_kill()

    with pytest.raises(AirflowException, match="told to stop"):
        task.execute(cast("Any", {"ti": Stopping()}))


def test_mapped_tasks_do_not_replace_each_others_table(
    run_dag: RunDag, connected: Sandbox, table: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(table.parent)
    run = run_dag("one_target", source=str(table), target=f"sqlite:///{table.parent}/own.db")
    assert [run.task("same", index).state for index in (0, 1)] == ["success", "failed"]
    assert "target is 'one_target.csv' for every mapped task" in capfd.readouterr().out
    assert [run.task("own", index).state for index in (0, 1)] == ["success", "success"]


# --- every ending tells what it cost -----------------------------------------------------------------


def small(table: Path, **more: Any) -> dict[str, Any]:
    """Three distinct texts, one in a batch."""
    return {
        "task_id": "t", "source": str(table), "target": str(table.with_name("labelled.csv")), "text": "body",
        "categories": ["billing", "technical"], "batch_size": 1, "concurrency": 1, **more,
    }  # fmt: skip


class Told:
    """A task instance that keeps its XComs."""

    def __init__(self, stop: Any = None) -> None:
        self.try_number, self.max_tries, self.run_id, self.stop = 1, 0, "run", stop
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = value
        if key == "progress" and self.stop is not None and value["billed"]:
            self.stop()


def test_a_success_tells_its_cost_and_its_ledger(
    connected: Sandbox, table: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    told = Told()
    ledger = f"sqlite:///{tmp_path}/own.db"
    returned = ClassifailyTableOperator(**small(table), ledger=ledger).execute(cast("Any", {"ti": told}))
    assert told.xcoms["summary"] == returned == {**returned, "billed": UNIQUE, "ledger": ledger}
    assert f"kept in {ledger}" in "".join(capfd.readouterr())


@pytest.mark.parametrize("kept", [True, False])
def test_a_failure_tells_what_was_billed_and_what_a_rerun_costs(
    connected: Sandbox, table: Path, tmp_path: Path, kept: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    """An answer is lost in the middle: what came before it is kept, or is not, and both is said."""
    connected.inject(Fault(kind="answer", path="/batch", nth=3, status=401, times=None))
    ledger = f"sqlite:///{tmp_path}/own.db"
    told = Told()
    operator = ClassifailyTableOperator(**small(table), ledger=ledger if kept else False)
    with pytest.raises(AirflowFailException, match="AuthenticationError"):
        operator.execute(cast("Any", {"ti": told}))
    spent = connected.bill().charged
    assert spent == 2
    logged = "".join(capfd.readouterr())
    assert "2 requests were billed" in logged
    summary = told.xcoms["summary"]
    assert (summary["billed"], summary["ledger"]) == (2, ledger if kept else None)
    assert summary["ended_by"] == "AuthenticationError"
    connected.clear_faults()
    again = ClassifailyTableOperator(**small(table), ledger=ledger if kept else False)
    assert 1 <= again.execute(cast("Any", {}))["billed"] <= summary["rerun_at_most"]
    assert summary["rerun_at_most"] < 30  # without a ledger, what has landed beside the target


def test_rows_without_an_answer_do_not_end_green(connected: Sandbox, table: Path, tmp_path: Path) -> None:
    """The table is complete, and Airflow's retries settle what may have been paid; unless that is accepted."""
    connected.inject(Fault(kind="reset", path="/batch", nth=2, times=1))
    options = {**small(table), "ledger": f"sqlite:///{tmp_path}/own.db"}
    told = Told()
    with pytest.raises(UnsettledRowsError):
        ClassifailyTableOperator(**options).execute(cast("Any", {"ti": told}))
    assert (told.xcoms["summary"]["billed"], told.xcoms["summary"]["unknown"] > 0) == (2, True)
    assert len(read(table.with_name("labelled.csv"))) == 30
    parked = ClassifailyTableOperator(**options, on_unknown="park").execute(cast("Any", {}))
    assert parked["statuses"]["unknown"] > 0
    assert max(connected.bill().by_input.values()) == 1


def test_a_stop_tells_what_was_billed(
    connected: Sandbox, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_provider_classifaily.operators.tables.SHOW_SECONDS", 0.0)
    operator = ClassifailyTableOperator(**small(table), ledger=f"sqlite:///{tmp_path}/own.db")
    told = Told(operator.on_kill)
    connected.inject(Fault(kind="delay", path="/batch", seconds=0.3, times=None))
    with pytest.raises(AirflowException, match="told to stop"):
        operator.execute(cast("Any", {"ti": told}))
    assert told.xcoms["summary"]["billed"] == connected.bill().charged < UNIQUE


def test_a_refusal_tells_that_nothing_was_billed(connected: Sandbox, table: Path, tmp_path: Path) -> None:
    told = Told()
    operator = ClassifailyTableOperator(**{**small(table), "text": "nobody"}, ledger=f"sqlite:///{tmp_path}/own.db")
    with pytest.raises(AirflowFailException, match="column 'nobody' is missing"):
        operator.execute(cast("Any", {"ti": told}))
    assert told.xcoms["summary"]["billed"] == connected.bill().charged == 0
