"""Label a table of support tickets with the team that should answer each: one task, each distinct ticket paid once.

The table never passes through Airflow: the task reads it, asks, and writes the labelled one. A second run of the same
table costs nothing, because the answers are in the ledger (the user's own file unless told otherwise). `table` and
`output` may lie in an object store: s3://my_aws@bucket/tickets.csv uses the Airflow connection `my_aws`.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Param

from airflow_provider_classifaily.operators import ClassifailyTableOperator

DATA = Path(__file__).parent.parent / "data"
TEAMS = [
    {"name": "billing", "description": "Payments, refunds, invoices, subscription charges"},
    {"name": "technical", "description": "Bugs, errors, API issues, performance problems"},
    {"name": "account", "description": "Profile, password, permissions, 2FA"},
    {"name": "general", "description": "Everything else"},
]

with DAG(
    "support_tickets",
    schedule=None,
    tags=["classifaily"],
    render_template_as_native_obj=True,  # so that `categories` stays a list and `refresh` a truth value
    params={
        "table": Param(str(DATA / "support_tickets.csv"), type="string", title="Table to label"),
        "text": Param("body", type="string", title="Column to classify"),
        "output": Param("support_tickets_labelled.csv", type="string", title="Table to write"),
        "categories": Param(TEAMS, type="array", title="Teams"),
        "refresh": Param(False, type="boolean", title="Pay again for rows that were paid before"),
    },
):
    ClassifailyTableOperator(
        task_id="classify",
        source="{{ params.table }}",
        target="{{ params.output }}",
        text="{{ params.text }}",
        categories="{{ params.categories }}",
        refresh="{{ params.refresh }}",
        on_invalid="skip",
        # A retry is safe: what was paid is not paid again, and with `refresh` a second attempt is refused.
        retries=2,
        retry_delay=timedelta(seconds=10),
    )
