"""One text, one task: type it into the trigger form, read the label in the task's XCom."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_classifaily.operators import ClassifailyClassifyOperator

with DAG(
    "classify_one",
    schedule=None,
    tags=["classifaily"],
    params={"text": Param("I was charged twice for my subscription.", type="string", title="Text")},
):
    ClassifailyClassifyOperator(
        task_id="classify",
        input="{{ params.text }}",
        categories=["billing", "technical", "account", "general"],
        explain=True,
        retries=2,
    )
