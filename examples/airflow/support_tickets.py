"""Label a table of support tickets with the team that should answer each.

    read -> classify (one mapped task per chunk, one API call each) -> write

The texts travel through XCom here, which is plain to read in the UI. For private texts, call the hook inside one
task, as `private_texts.py` does: then nothing but the file holds them.
"""

from __future__ import annotations

import csv
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow.sdk import Param, dag, task

from airflow_provider_classifaily.errors import fail_fast
from airflow_provider_classifaily.hooks import ClassifailyHook
from airflow_provider_classifaily.operators import ClassifailyBatchOperator

DATA = Path(__file__).parent.parent / "data"
TEAMS = [
    {"name": "billing", "description": "Payments, refunds, invoices, subscription charges"},
    {"name": "technical", "description": "Bugs, errors, API issues, performance problems"},
    {"name": "account", "description": "Profile, password, permissions, 2FA"},
    {"name": "general", "description": "Everything else"},
]
LONGEST_TEXT = 100_000
csv.field_size_limit(10_000_000)  # a text that is too long is skipped below, not refused by the csv module
DEFAULT_BATCH_SIZE = 25
NEW_COLUMNS = ("label", "confidence", "status", "error", "job_id")


@dag(
    schedule=None,
    tags=["classifaily"],
    render_template_as_native_obj=True,  # so that `categories` below stays a list
    default_args={"retries": 2, "retry_delay": timedelta(seconds=10)},
    params={
        "table": Param(str(DATA / "support_tickets.csv"), type="string", title="CSV file to label"),
        "text": Param("body", type="string", title="Column to classify"),
        "output": Param("support_tickets_labelled.csv", type="string", title="CSV file to write"),
        "categories": Param(TEAMS, type="array", title="Teams"),
        "rows": Param(None, type=["integer", "null"], title="Only the first rows"),
    },
)
def support_tickets() -> None:
    @task(show_return_value_in_logs=False)  # the texts are nobody's business in a log
    def read(params: dict[str, Any]) -> list[list[dict[str, str]]]:
        """The texts worth a request, in chunks of what the plan takes at once; ids are row numbers."""
        texts = enumerate(row[params["text"]] or "" for row in _rows(params))
        items = [{"id": str(number), "input": text} for number, text in texts if 0 < len(text.strip()) <= LONGEST_TEXT]
        with ClassifailyHook() as hook, fail_fast():
            size = hook.get_conn().usage().limits.batch_size or DEFAULT_BATCH_SIZE
        return [items[start : start + size] for start in range(0, len(items), size)]

    @task(trigger_rule="none_failed")
    def write(batches: list[dict[str, Any]], params: dict[str, Any]) -> dict[str, int]:
        """The table again, in its order, with the answers beside it."""
        answers = {
            int(answer["id"]): {**answer, "job_id": batch["batch_id"]}
            for batch in batches
            for answer in batch["results"]
        }
        rows = _rows(params)
        skipped = {"status": "skipped"}
        labelled = [
            row | {column: answers.get(number, skipped).get(column) for column in NEW_COLUMNS}
            for number, row in enumerate(rows)
        ]
        with Path(params["output"]).open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, labelled[0] if labelled else NEW_COLUMNS)
            table.writeheader()
            table.writerows(labelled)
        return {"rows": len(rows), "classified": len(answers)}

    classify = ClassifailyBatchOperator.partial(task_id="classify", categories="{{ params.categories }}")
    write(classify.expand(items=read()).output)


def _rows(params: dict[str, Any]) -> list[dict[str, str]]:
    with Path(params["table"]).open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))[: params["rows"]]


support_tickets()
