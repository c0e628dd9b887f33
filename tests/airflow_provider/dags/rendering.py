"""Texts that look like templates, numbers or files, on every way into an operator; they come from the run's params."""

from __future__ import annotations

import enum
from typing import Any

from airflow.sdk import DAG, task

from airflow_provider_classifaily.operators import (
    ClassifailyBatchOperator,
    ClassifailyClassifyOperator,
    ClassifailySubmitOperator,
    ClassifailyTableOperator,
)

TEAMS = ["billing", "technical"]
PARAMS: dict[str, Any] = {"text": "", "source": "", "target": "", "store": ""}


class Team(enum.Enum):
    """One member has the name of a method that Airflow looks for in whatever it renders."""

    BILLING = "billing"
    resolve = "resolve"


@task
def text(params: dict[str, Any]) -> str:
    return str(params["text"])


@task
def texts(params: dict[str, Any]) -> list[str]:
    return [params["text"]]


@task
def inputs(params: dict[str, Any]) -> list[dict[str, str]]:
    return [{"input": params["text"]}]


@task
def batches(params: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"items": [{"id": "1", "input": params["text"]}, params["text"]]}]


for native in (False, True):
    how = "natively" if native else "plainly"
    options: dict[str, Any] = {"schedule": None, "params": PARAMS, "render_template_as_native_obj": native}

    with DAG(f"texts_{how}", **options):
        ClassifailyClassifyOperator(task_id="by_template", input="{{ params.text }}", categories=TEAMS)
        ClassifailyClassifyOperator(task_id="by_xcom", input=text(), categories=TEAMS)
        ClassifailyBatchOperator(task_id="inside", items=["{{ params.text }}"], categories=TEAMS)
        one = ClassifailyClassifyOperator.partial(task_id="by_expand", categories=TEAMS).expand(input=texts())
        more = ClassifailyClassifyOperator.partial(task_id="by_kwargs", categories=TEAMS).expand_kwargs(inputs())
        ClassifailySubmitOperator.partial(task_id="submitted", categories=TEAMS).expand_kwargs(inputs())
        ClassifailyBatchOperator.partial(task_id="batched", categories=TEAMS).expand_kwargs(batches())

    with DAG(f"written_{how}", **options):
        # What the DAG's author wrote is a template, also where it is mapped over.
        ClassifailyClassifyOperator.partial(task_id="one", categories=TEAMS).expand(input=["{{ params.text }}, once"])
        ClassifailyClassifyOperator.partial(task_id="two", categories=TEAMS).expand_kwargs(
            [{"input": "{{ params.text }}, twice"}]
        )
        ClassifailyClassifyOperator.partial(task_id="three", categories=["{{ params.text }}", "other"]).expand_kwargs(
            inputs()
        )

    with DAG(f"enums_{how}", **options):
        ClassifailyClassifyOperator(task_id="one", input="refund me", categories=Team)
        ClassifailyClassifyOperator.partial(task_id="mapped", categories=Team).expand(input=["refund me"])
        ClassifailyTableOperator(
            task_id="table",
            source="{{ params.source }}",
            target="{{ params.target }}",
            text="body",
            axes={"team": Team, "size": ["404", "{{ 500 }}"]},
        )

with DAG("ledgers", schedule=None, params=PARAMS):
    ClassifailyTableOperator(
        task_id="table", source="in.csv", target="out.csv", text="body", categories=TEAMS, ledger="{{ params.store }}"
    )
    ClassifailySubmitOperator(task_id="submit", input="refund", categories=TEAMS, ledger="{{ params.store }}")

    @task(show_return_value_in_logs=False)
    def stores(params: dict[str, Any]) -> list[dict[str, str]]:
        return [{"ledger": params["store"]}]

    ClassifailySubmitOperator.partial(task_id="mapped", input="refund", categories=TEAMS).expand_kwargs(stores())
