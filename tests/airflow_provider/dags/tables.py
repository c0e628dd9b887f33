"""The table operator as a user writes it; what varies comes from the run's params."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, task

from airflow_provider_classifaily.operators import ClassifailyTableOperator

TEAMS = ["billing", "technical", "account"]
PARAMS: dict[str, Any] = {
    "source": "", "target": "", "schema": None, "refresh": False, "budget": None, "policy": None
}  # fmt: skip
COMMON: dict[str, Any] = {
    "source": "{{ params.source }}",
    "target": "{{ params.target }}",
    "text": "body",
    "categories": TEAMS,
    "retries": 2,
    "retry_delay": timedelta(0),
}

with DAG("table", schedule=None, params=PARAMS, render_template_as_native_obj=True):
    ClassifailyTableOperator(
        task_id="classify",
        **COMMON,
        schema="{{ params.schema }}",
        refresh="{{ params.refresh }}",
        budget="{{ params.budget }}",
        policy="{{ params.policy }}",
        max_error_ratio=0.5,
        outlets=[Asset("labelled_tickets", uri="file://labelled/tickets.csv")],
    )

with DAG("table_as_text", schedule=None, params=PARAMS):
    ClassifailyTableOperator(task_id="classify", **COMMON, refresh="{{ params.refresh }}")

with DAG("table_without_ledger", schedule=None, params=PARAMS, render_template_as_native_obj=True):
    ClassifailyTableOperator(task_id="classify", **COMMON, schema="{{ params.schema }}", ledger=False)

with DAG("table_joined", schedule=None, params=PARAMS):
    ClassifailyTableOperator(
        task_id="classify",
        **{**COMMON, "text": None},
        template="Subject: {subject}\n\n{body}",
        id_column="id",
        prefix="ai_",
        ledger="{{ params.store }}",
        on_invalid="skip",
        mode="top_n",
        top_n=2,
        batch_size=10,
        concurrency=2,
    )

with DAG("table_of_axes", schedule=None, params=PARAMS):
    ClassifailyTableOperator(
        task_id="classify",
        **{**COMMON, "categories": None},
        axes={"team": TEAMS, "urgency": ["urgent", "can wait"]},
    )


def broken(context: Any, result: Any) -> None:
    raise OSError("a check of the user's own, after the table was paid")


AFTERWARDS: dict[str, Any] = {
    "text": "body", "categories": TEAMS, "retries": 2, "retry_delay": timedelta(0), "post_execute": broken
}  # fmt: skip
ANEW: dict[str, dict[str, Any]] = {
    "no_ledger": {"ledger": False}, "refresh": {"refresh": True}, "failed": {"refresh": "failed"}
}  # fmt: skip

for name, option in ANEW.items():
    with DAG(f"again_{name}", schedule=None, params=PARAMS, render_template_as_native_obj=True):
        ClassifailyTableOperator(
            task_id="plain", source="{{ params.source }}", target="{{ params.target }}", **option, **AFTERWARDS
        )
    with DAG(f"again_{name}_mapped", schedule=None, params=PARAMS):
        ClassifailyTableOperator.partial(task_id="plain", target="{{ params.target }}", **option, **AFTERWARDS).expand(
            source=["{{ params.source }}"]
        )
    with DAG(f"again_{name}_by_template", schedule=None, params=PARAMS, render_template_as_native_obj=True):
        ClassifailyTableOperator(
            task_id="plain",
            source="{{ params.source }}",
            target="{{ params.target }}",
            **{each: "{{ " + repr(value) + " }}" for each, value in option.items()},
            **AFTERWARDS,
        )

with DAG("one_target", schedule=None, params=PARAMS):

    @task
    def sources(params: dict[str, Any]) -> list[str]:
        return [params["source"], params["source"]]

    ClassifailyTableOperator.partial(
        task_id="same", target="one_target.csv", text="body", categories=TEAMS, ledger="{{ params.target }}"
    ).expand(source=sources())
    ClassifailyTableOperator.partial(
        task_id="own", target="one_target_{{ ti.map_index }}.csv", text="body", categories=TEAMS,
        ledger="{{ params.target }}",
    ).expand(source=sources())  # fmt: skip
