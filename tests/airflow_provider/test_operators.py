"""The operators in real DAG runs: templates, XCom, mapping, and what is refused before money is spent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from airflow.sdk import DAG
from airflow_kit import CONNECTION, KEY, RunDag, connection_json

from airflow_provider_classifaily.operators import (
    ClassifailyBatchOperator,
    ClassifailyClassifyOperator,
    ClassifailySchemaOperator,
)
from classifaily_connectors.sandbox import Sandbox, Switches


def test_classify_hands_on_a_small_json_summary(run_dag: RunDag, connected: Sandbox) -> None:
    text = "My invoice shows a double charge this month."
    run = run_dag("classify", input=text)
    summary = run.xcom("classify")
    assert summary["label"] == "billing"
    assert summary["labels"][0] == {"label": "billing", "confidence": summary["confidence"]}
    assert summary["explanation"]
    assert summary["status"] == "completed"
    assert summary["job_id"].isdecimal()
    assert summary["error"] is None
    assert text not in json.dumps(summary)
    # Airflow itself shows template fields; nothing but what the DAG's author put into them.
    assert run.rendered("classify") == {
        "classifaily_conn_id": "classifaily_default",
        "input": text,
        "categories": ["billing", "technical", "account"],
        "schema": None,
    }
    assert connected.bill().charged == 1


def test_categories_may_be_a_template(run_dag: RunDag, connected: Sandbox) -> None:
    run = run_dag("runner_up", categories=[{"name": "billing", "description": "Money"}, "technical", "general"])
    summary = run.xcom("classify")
    assert [each["label"] for each in summary["labels"]][:1] == ["billing"]
    assert len(summary["labels"]) == 2


def test_a_batch_answers_every_item_in_order(run_dag: RunDag, connected: Sandbox) -> None:
    """ "An error never wears a label": a failed item has a status, an error and no label, and the task succeeds."""
    connected.script("broken", error="could not be read")
    run = run_dag("batch", items=["Refund me", {"id": "t-2", "input": "broken"}, {"id": 3, "input": "API error 500"}])
    summary = run.xcom("batch")
    assert [each["id"] for each in summary["results"]] == ["0", "t-2", "3"]
    assert [each["status"] for each in summary["results"]] == ["completed", "failed", "completed"]
    assert summary["results"][1]["label"] is None
    assert summary["results"][1]["error"] == "could not be read"
    assert summary["results"][0]["label"] == "billing"
    assert (summary["total"], summary["completed"], summary["failed"]) == (3, 2, 1)
    assert summary["labels"] == {"billing": 1, "technical": 1}
    assert summary["batch_id"].startswith("batch_")
    assert "Refund me" not in json.dumps(summary)
    assert connected.bill().charged == 3


def test_operators_can_be_mapped(run_dag: RunDag, connected: Sandbox) -> None:
    run = run_dag("mapped", chunks=[["Refund me"], ["Password reset", "API error 500"]])
    assert [run.xcom("batch", index)["total"] for index in (0, 1)] == [1, 2]
    assert [run.xcom("classify", index)["label"] for index in (0, 1)] == ["technical", "account"]
    assert [request[1] for request in connected.requests].count("/batch") == 2
    assert connected.bill().charged == 5


def test_a_queued_answer_is_awaited(run_dag: RunDag, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(key=KEY, switches=Switches(unasked_async="batch", job_delay=0.01)) as sandbox:
        monkeypatch.setenv(CONNECTION, connection_json(sandbox))
        summary = run_dag("batch", items=["Refund me"]).xcom("batch")
    assert summary["results"][0]["label"] == "billing"
    assert summary["status"] == "completed"


def test_a_schema_is_created_once_and_used_by_id(run_dag: RunDag, connected: Sandbox) -> None:
    first = run_dag("by_schema")
    again = run_dag("by_schema")
    assert first.xcom("schema") == again.xcom("schema")
    assert first.xcom("classify")["label"] == "billing"
    # Other categories under the same name: updated, not created beside it.
    changed = run_dag("by_schema", categories=["invoices", "crashes"])
    assert changed.xcom("schema") == first.xcom("schema")
    assert changed.xcom("classify")["label"] in {"invoices", None}


def test_more_items_than_the_plan_takes_are_refused_before_anything_is_sent(
    run_dag: RunDag, connected: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    run = run_dag("batch", items=["Refund me"] * 51)
    assert run.tries("batch") == ("failed", 1)
    assert "items holds 51 inputs, and the plan takes 50 in a batch" in capfd.readouterr().out
    assert ("POST", "/batch") not in [request[:2] for request in connected.requests]
    assert connected.bill().charged == 0


def test_no_input_is_logged(run_dag: RunDag, connected: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    run_dag("classify", input="A most private complaint")
    assert "Classified as" in (logged := capfd.readouterr().out)
    assert "private complaint" not in logged


WRONG: list[tuple[type[Any], dict[str, Any], str]] = [
    (ClassifailyClassifyOperator, {"input": "x", "top_n": 0}, "top_n is 0"),
    (ClassifailyClassifyOperator, {"input": "x", "top_n": 11}, "top_n is 11"),
    (ClassifailyClassifyOperator, {"input": "x", "top_n": True}, "top_n is True"),
    (ClassifailyClassifyOperator, {"input": "x", "top_n": 2, "mode": "multi"}, "top_n goes with mode='top_n'"),
    (ClassifailyClassifyOperator, {"input": "x", "threshold": 1.5}, "threshold is 1.5"),
    (ClassifailyClassifyOperator, {"input": "x", "threshold": "{{ 0.5 }}"}, "threshold is '{{ 0.5 }}'"),
    (ClassifailyClassifyOperator, {"input": "x", "mode": "best"}, "mode is 'best'"),
    (ClassifailyBatchOperator, {"items": ["x"], "threshold": -0.1}, "threshold is -0.1"),
    (ClassifailyBatchOperator, {"items": ["x"], "mode": ""}, "mode is ''"),
    (ClassifailySchemaOperator, {"name": "x", "categories": ["a"], "mode": "top_n"}, "mode is 'top_n'"),
]


@pytest.mark.parametrize(("operator", "arguments", "message"), WRONG)
def test_a_wrong_argument_is_refused_where_the_dag_is_written(
    operator: type[Any], arguments: dict[str, Any], message: str
) -> None:
    with DAG("wrong", schedule=None), pytest.raises(ValueError, match=message.replace("{", r"\{")):
        operator(task_id="wrong", **arguments)


def test_neither_categories_nor_schema_is_fine(connected: Sandbox, run_dag: RunDag) -> None:
    """API reference, Classify: without categories the API uses generic labels."""
    run = run_dag("generic")
    assert run.xcom("classify")["label"]


def test_every_template_field_is_an_attribute() -> None:
    with DAG("fields", schedule=None):
        operators = [
            ClassifailyClassifyOperator(task_id="a", input="x"),
            ClassifailyBatchOperator(task_id="b", items=["x"]),
            ClassifailySchemaOperator(task_id="c", name="x", categories=["y"]),
        ]
    for operator in operators:
        assert all(hasattr(operator, field) for field in operator.template_fields)
        assert set(operator.template_fields_renderers) <= set(operator.template_fields)
