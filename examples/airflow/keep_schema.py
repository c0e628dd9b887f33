"""Keep a category set in git and in the account alike; use its id downstream."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_classifaily.operators import ClassifailyClassifyOperator, ClassifailySchemaOperator

TEAMS = [
    {"name": "billing", "description": "Payments, refunds, invoices", "examples": ["I was charged twice"]},
    {"name": "technical", "description": "Bugs, errors, API issues", "examples": ["getting a 500 error"]},
    {"name": "account", "description": "Profile, password, permissions", "examples": ["forgot my password"]},
]

with DAG("keep_schema", schedule=None, tags=["classifaily"], default_args={"retries": 2}):
    # Running it again changes nothing; changing TEAMS updates the saved schema.
    teams = ClassifailySchemaOperator(task_id="teams", name="support-teams", categories=TEAMS)
    ClassifailyClassifyOperator(
        task_id="classify", input="The API keeps returning a 500 error.", schema=teams.output, mode="top_n", top_n=2
    )
