"""Operators and sensors called as a user's own unit tests call them: without a DAG, a scheduler or a task instance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import Asset
from airflow_kit import KEY

from airflow_provider_classifaily.operators import (
    ClassifailyBatchOperator,
    ClassifailyClassifyOperator,
    ClassifailySchemaOperator,
    ClassifailySubmitOperator,
    ClassifailyTableOperator,
)
from airflow_provider_classifaily.sensors import ClassifailyJobSensor, ClassifailyWebhookSensor
from classifaily_connectors.sandbox import Fault, Sandbox

if TYPE_CHECKING:
    from pathlib import Path

TEAMS = ["billing", "technical"]
BARE: Any = {}


def test_every_operator_works_with_a_bare_context(connected: Sandbox, tmp_path: Path) -> None:
    connected.add_key(KEY, plan="pro")  # audio needs it
    source, target = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("id,body\n1,Refund me\n")
    ledger = f"sqlite:///{tmp_path}/ledger.db"

    one = ClassifailyClassifyOperator(task_id="one", input="Refund me", categories=TEAMS).execute(BARE)
    assert one["label"] == "billing"
    batch = ClassifailyBatchOperator(task_id="batch", items=["Refund me"], categories=TEAMS).execute(BARE)
    assert batch["completed"] == 1
    assert ClassifailySchemaOperator(task_id="schema", name="teams", categories=TEAMS).execute(BARE)
    table = ClassifailyTableOperator(
        task_id="table", source=str(source), target=str(target), text="body", categories=TEAMS, ledger=ledger,
        outlets=[Asset("labelled", uri="file://labelled.csv")],
    )  # fmt: skip
    assert table.execute(BARE)["billed"] == 1
    assert "billing" in target.read_text()
    call = ClassifailySubmitOperator(
        task_id="call", input="https://example.com/call.mp3", type="audio", categories=TEAMS, ledger=ledger
    )
    assert call.execute(BARE) == call.execute(BARE)
    job_id = ClassifailySubmitOperator(task_id="text", input="Refund", categories=TEAMS, ledger=ledger).execute(BARE)
    for sensor in (ClassifailyJobSensor, ClassifailyWebhookSensor):
        done = sensor(task_id="wait", job_id=job_id, stay_seconds=30).poke(BARE)
        assert done.xcom_value["label"] == "billing"
    assert connected.bill().charged == 5


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (Fault(kind="reset", path="/classify", times=None), "may have been executed and billed"),
        (Fault(kind="answer", path="/classify", status=401, times=None), "is not billed"),
    ],
)
def test_a_call_without_an_answer_says_what_it_cost(
    connected: Sandbox, fault: Fault, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    connected.inject(fault)
    with pytest.raises(AirflowFailException):
        ClassifailyClassifyOperator(task_id="one", input="Refund me", categories=TEAMS).execute(BARE)
    assert said in "".join(capfd.readouterr())


@pytest.mark.parametrize("items", [None, "Refund me", {"input": "Refund me"}, 3])
def test_what_is_no_batch_is_refused_at_once(connected: Sandbox, items: Any) -> None:
    with pytest.raises(AirflowFailException, match="items is .* must be a list"):
        ClassifailyBatchOperator(task_id="batch", items=items, categories=TEAMS).execute(BARE)
    assert connected.requests == []


@pytest.mark.parametrize("items", [[None], [{"id": "1", "input": None}], [], ["ok", ["no"]]])
def test_an_item_that_is_none_is_refused_before_anything_is_paid(connected: Sandbox, items: Any) -> None:
    with pytest.raises(AirflowFailException):
        ClassifailyBatchOperator(task_id="batch", items=items, categories=TEAMS).execute(BARE)
    assert connected.bill().charged == 0
