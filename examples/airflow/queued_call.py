"""A recording is classified in the background: submit it, let the worker go, and wake up when its webhook arrives.

The API server receives the webhook at /classifaily/webhooks when CLASSIFAILY_WEBHOOK_SECRET is set for it; without
one, or when a delivery is lost, the API is asked every few minutes, so the result comes all the same.
"""

from __future__ import annotations

from airflow.sdk import DAG, Param

from airflow_provider_classifaily.operators import ClassifailySubmitOperator
from airflow_provider_classifaily.sensors import ClassifailyWebhookSensor

with DAG(
    "queued_call",
    schedule=None,
    tags=["classifaily"],
    params={"url": Param("https://example.com/calls/1042.mp3", type="string", title="Recording")},
    default_args={"retries": 2},
):
    # A retry of either task costs nothing: the job is submitted once.
    job = ClassifailySubmitOperator(
        task_id="submit",
        input="{{ params.url }}",
        type="audio",
        categories=["complaint", "order", "question"],
    )
    ClassifailyWebhookSensor(task_id="wait", job_id=job.output, timeout=3600)
