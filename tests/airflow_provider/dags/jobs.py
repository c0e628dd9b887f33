"""Submitting and waiting as a user writes them; each DAG takes what varies from the run's params."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_classifaily.operators import ClassifailySubmitOperator
from airflow_provider_classifaily.sensors import ClassifailyJobSensor, ClassifailyWebhookSensor

TEAMS = ["billing", "technical", "account"]
RETRIED: dict[str, Any] = {"retries": 2, "retry_delay": timedelta(0)}

with DAG("submit", schedule=None, default_args=RETRIED, params={"input": "I was charged twice", "type": "text"}):
    submitted = ClassifailySubmitOperator(task_id="submit", input="{{ params.input }}", categories=TEAMS)
    ClassifailyJobSensor(task_id="wait", job_id=submitted.output, stay_seconds=30)

with DAG("submit_audio", schedule=None, default_args=RETRIED, params={"identity": None}):
    ClassifailySubmitOperator(
        task_id="submit", input="https://example.com/call.mp3", type="audio", identity="{{ params.identity or '' }}"
    )

with DAG("by_webhook", schedule=None, default_args=RETRIED, params={"job_id": ""}):
    ClassifailyWebhookSensor(task_id="wait", job_id="{{ params.job_id }}", stay_seconds=0, timeout=60)

with DAG("deferred", schedule=None, default_args=RETRIED, params={"job_id": ""}):
    ClassifailyJobSensor(task_id="wait", job_id="{{ params.job_id }}", stay_seconds=0, timeout=60)

with DAG("too_late", schedule=None, params={"job_id": ""}):
    ClassifailyJobSensor(task_id="wait", job_id="{{ params.job_id }}", stay_seconds=0, timeout=0.1)
    ClassifailyJobSensor(task_id="soft", job_id="{{ params.job_id }}", stay_seconds=0, timeout=0.1, soft_fail=True)
    ClassifailyJobSensor(
        task_id="poking", job_id="{{ params.job_id }}", deferrable=False, poke_interval=0.05, timeout=0.1
    )
