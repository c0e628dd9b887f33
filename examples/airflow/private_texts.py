"""Texts that must stay out of Airflow's database: read, classified and written inside one task.

Nothing here is a template field or an XCom but the counts, so no text reaches Rendered Templates, XCom or a log.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param, task

from airflow_provider_classifaily.errors import fail_fast
from airflow_provider_classifaily.hooks import ClassifailyHook

with DAG(
    "private_texts",
    schedule=None,
    tags=["classifaily"],
    params={
        "texts": Param("private.txt", type="string", title="File with one text a line"),
        "labels": Param("private_labels.txt", type="string", title="File to write: one label a line"),
    },
):

    @task(retries=2)
    def classify_file(params: dict[str, Any]) -> dict[str, int]:
        texts = Path(params["texts"]).read_text(encoding="utf-8").splitlines()
        with ClassifailyHook() as hook, fail_fast():
            results = hook.get_conn().batch(texts, categories=["complaint", "praise", "question"]).results
        labels = [result.label or "" for result in results]
        Path(params["labels"]).write_text("\n".join(labels) + "\n", encoding="utf-8")
        return dict(Counter(labels))

    classify_file()
