"""Jobs submitted and waited for, under a real triggerer."""

from __future__ import annotations

import os
import signal
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, Asset, AssetWatcher, task

from airflow_provider_classifaily.errors import fail_fast
from airflow_provider_classifaily.hooks import ClassifailyHook
from airflow_provider_classifaily.operators import ClassifailySubmitOperator
from airflow_provider_classifaily.sensors import ClassifailyWebhookSensor
from airflow_provider_classifaily.triggers import ClassifailyEventTrigger

if TYPE_CHECKING:
    from airflow.sdk import Context

TEAMS = ["billing", "technical", "account"]
# Retries cost nothing, and Airflow itself may take a quick trigger for a killed task (apache/airflow#66374).
RETRIED: dict[str, Any] = {"retries": 5, "retry_delay": timedelta(seconds=1)}


class DyingSubmit(ClassifailySubmitOperator):
    """Its first worker dies as soon as the job is submitted."""

    def execute(self, context: Context) -> str | None:
        job_id = super().execute(context)
        if context["ti"].try_number == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return job_id


with DAG("many", schedule=None, params={"texts": []}, default_args=RETRIED):

    @task
    def submit(params: dict[str, Any]) -> list[str]:
        from classifaily_connectors import submit_once

        with ClassifailyHook() as hook, fail_fast():
            options: dict[str, Any] = {"ledger": hook.store_url(), "categories": TEAMS}
            return [submit_once(hook.get_conn(), text, **options).id or "" for text in params["texts"]]

    ClassifailyWebhookSensor.partial(task_id="wait", stay_seconds=0).expand(job_id=submit())

with DAG("once", schedule=None, params={"text": ""}, default_args=RETRIED):
    submitted = DyingSubmit(task_id="submit", input="{{ params.text }}", categories=TEAMS)
    ClassifailyWebhookSensor(task_id="wait", job_id=submitted.output, stay_seconds=0)

with DAG("submit_and_wait", schedule=None, params={"text": ""}, default_args=RETRIED):
    queued = ClassifailySubmitOperator(task_id="submit", input="{{ params.text }}", categories=TEAMS)
    ClassifailyWebhookSensor(task_id="wait", job_id=queued.output, stay_seconds=0)

with DAG("wait", schedule=None, params={"job_id": ""}):
    ClassifailyWebhookSensor(task_id="wait", job_id="{{ params.job_id }}")

with DAG("wait_remotely", schedule=None, params={"job_id": ""}, default_args=RETRIED):
    ClassifailyWebhookSensor(
        task_id="wait", job_id="{{ params.job_id }}", classifaily_conn_id="classifaily_remote", stay_seconds=0
    )

finished = Asset(
    "finished_jobs",
    watchers=[
        AssetWatcher(name="jobs", trigger=ClassifailyEventTrigger(source="watched", events=["job.completed"])),
    ],
)

with DAG("on_finished", schedule=[finished]):

    @task
    def read(triggering_asset_events: Any = None) -> list[str]:
        events = [event for events in triggering_asset_events.values() for event in events]
        return [job_id for event in events for job_id in event.extra["payload"]["job_ids"]]

    read()
