"""The operators as a user writes them; each DAG takes what varies from the run's params."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_classifaily.operators import (
    ClassifailyBatchOperator,
    ClassifailyClassifyOperator,
    ClassifailySchemaOperator,
)

TEAMS = ["billing", "technical", "account"]
# Retried at once, so that only the number of tries counts.
RETRIED: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(0)}
CONN = "{{ params.conn_id }}"
PARAMS: dict[str, Any] = {"conn_id": "classifaily_default", "input": "I was charged twice for my subscription."}

with DAG("classify", schedule=None, params=PARAMS, default_args=RETRIED):
    ClassifailyClassifyOperator(
        task_id="classify",
        classifaily_conn_id=CONN,
        input="{{ params.input }}",
        categories=TEAMS,
        explain=True,
    )

with DAG("runner_up", schedule=None, params=PARAMS, render_template_as_native_obj=True):
    ClassifailyClassifyOperator(
        task_id="classify", input="{{ params.input }}", categories="{{ params.categories }}", mode="top_n", top_n=2
    )

with DAG("impatient", schedule=None, params=PARAMS, default_args=RETRIED):
    ClassifailyClassifyOperator(
        task_id="classify",
        input="{{ params.input }}",
        categories=TEAMS,
        execution_timeout=timedelta(seconds=1),
    )

with DAG("batch", schedule=None, default_args=RETRIED):

    @task
    def tickets(params: dict[str, Any]) -> list[Any]:
        return params["items"]

    ClassifailyBatchOperator(task_id="batch", items=tickets(), categories=TEAMS)

with DAG("mapped", schedule=None, params=PARAMS):

    @task
    def chunks(params: dict[str, Any]) -> list[list[str]]:
        return params["chunks"]

    ClassifailyBatchOperator.partial(task_id="batch", categories=TEAMS).expand(items=chunks())
    ClassifailyClassifyOperator.partial(task_id="classify", categories=TEAMS).expand(
        input=["The API keeps returning a 500 error.", "How do I change my password?"]
    )

with DAG("by_schema", schedule=None, params={"categories": TEAMS, "mode": None}, render_template_as_native_obj=True):
    schema = ClassifailySchemaOperator(
        task_id="schema", name="support-{{ ds }}", categories="{{ params.categories }}", description="Four teams"
    )
    ClassifailyClassifyOperator(task_id="classify", input="My invoice shows a double charge", schema=schema.output)

with DAG("generic", schedule=None):
    ClassifailyClassifyOperator(task_id="classify", input="The airline cancelled our flight to Rome")
