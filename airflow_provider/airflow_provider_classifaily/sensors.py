"""Waiting for a job without holding a worker.

The law of this file: look first (the store, then the job), stay for a moment, and only then defer: a job that has
ended is never waited for. Whatever path leads to the end, one method makes the result of it.
"""

from __future__ import annotations

import contextlib
import os
import time
from configparser import ConfigParser
from typing import TYPE_CHECKING, Any, cast

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_provider_classifaily.errors import fail_fast
from airflow_provider_classifaily.hooks import ClassifailyHook
from airflow_provider_classifaily.rendering import Rendered
from airflow_provider_classifaily.summaries import job_summary

if TYPE_CHECKING:
    from airflow.sdk import Context, XComArg

    from classifaily_connectors.webhooks import Settled

STAY_SECONDS = 10.0
"""Most jobs are quicker than Airflow's way to the triggerer and back."""
DWELL_SECONDS = 5.0
"""A trigger that fires at once can overtake the end of its own worker, and the task is then taken for killed
(apache/airflow#66374, #72716): it fires no earlier than this after the worker has let go."""


class _ClassifailySensor(Rendered, BaseSensorOperator):
    template_fields = ("classifaily_conn_id", "job_id")
    ui_color = "#e3e8ff"
    source: str | None = None

    def __init__(
        self,
        *,
        job_id: str | XComArg,
        deferrable: bool | None = None,
        stay_seconds: float = STAY_SECONDS,
        classifaily_conn_id: str = ClassifailyHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)  # pyright: ignore[reportUnknownMemberType]
        self.job_id = job_id
        self.deferrable = deferrable_by_default() if deferrable is None else deferrable
        self.stay_seconds = stay_seconds
        self.classifaily_conn_id = classifaily_conn_id

    def poke(self, context: Context) -> PokeReturnValue | bool:
        """Look; and when deferrable, stay for a moment and then let the triggerer wait."""
        began = time.time()
        found = self._look(min(self.stay_seconds, self.timeout) if self.deferrable else 0.0)
        if found is not None:
            return PokeReturnValue(is_done=True, xcom_value=self._complete(found))
        if self.deferrable:
            self._defer(began, context)
        return False

    def execute_complete(
        self,
        context: Context,  # noqa: ARG002
        event: dict[str, Any],
        limit: str = "timeout",
    ) -> dict[str, Any]:
        """Back from the triggerer, which tells only that the job has ended: the job itself says how.

        `limit` is the argument whose moment the triggerer waited for.
        """
        from airflow.providers.common.compat.sdk import (
            AirflowFailException,
            AirflowSensorTimeout,
            AirflowTaskTimeout,
        )

        if event["outcome"] == "timeout" and limit == "execution_timeout":
            raise AirflowTaskTimeout(f"job {event['job_id']} had not ended within {limit}, and runs on")
        if event["outcome"] == "timeout":
            raise AirflowSensorTimeout(f"job {event['job_id']} had not ended after {self.timeout:,.0f} s, and runs on")
        if event["outcome"] == "error":
            raise AirflowFailException(event["error"])
        found = self._look(STAY_SECONDS)
        if found is None:
            raise RuntimeError(f"job {event['job_id']} had ended and cannot be read now")
        return self._complete(found, settled_by=event["settled_by"])

    def _look(self, patience: float) -> Settled | None:
        """The job if it has ended, or ends within so many seconds."""
        from classifaily_connectors import JobTimeoutError
        from classifaily_connectors.operations.jobs import checked_job_id
        from classifaily_connectors.webhooks import check_job, wait_for_job

        with ClassifailyHook(self.classifaily_conn_id) as hook, fail_fast(paid=False):
            # First of all: a task before that was skipped, or had nothing to submit, handed on None.
            job_id = checked_job_id(self.job_id)
            client = hook.get_conn()
            where: Any = {} if self.source is None else hook.deliveries(self.source)
            found = check_job(client, job_id, **where)
            if found is None and patience > 0:
                with contextlib.suppress(JobTimeoutError):
                    found = wait_for_job(client, job_id, deadline=time.time() + patience, **where)
        return found

    def _defer(self, began: float, context: Context) -> None:
        from airflow_provider_classifaily.triggers import ClassifailyJobTrigger

        deadline, limit = began + self.timeout, "timeout"
        if self.execution_timeout is not None:
            # Of the whole task, by Airflow's documentation; but Airflow itself counts only while a worker has it.
            start = getattr(cast("Any", context).get("ti"), "start_date", None)
            ends = (start.timestamp() if start else began) + self.execution_timeout.total_seconds()
            deadline, limit = min((deadline, limit), (ends, "execution_timeout"))
        trigger = ClassifailyJobTrigger(
            job_id=str(self.job_id).strip(),
            classifaily_conn_id=self.classifaily_conn_id,
            source=self.source,
            deadline=deadline,
            not_before=time.time() + DWELL_SECONDS,
        )
        self.defer(trigger=trigger, method_name="execute_complete", kwargs={"limit": limit})

    def _complete(self, settled: Settled, settled_by: str | None = None) -> dict[str, Any]:
        """The one end of every path: the summary for XCom, or the failure."""
        from classifaily_connectors import JobFailedError

        with fail_fast(paid=False):
            try:
                settled.result()
            except JobFailedError as error:
                raise JobFailedError(
                    f"{error}; the same input submitted again is this job: refresh=True on the submitting task "
                    "submits it anew, for another request",
                    job_id=error.job_id,
                    code=error.code,
                ) from error
        told = job_summary(settled)
        told["settled_by"] = settled_by or told["settled_by"]
        self.log.info("Job %s: %s, told by %s", told["job_id"], told["status"], told["settled_by"])
        return told


def deferrable_by_default() -> bool:
    """True, unless Airflow's `[operators] default_deferrable` was set to something else."""
    from airflow.providers.common.compat.sdk import conf

    section, option = "operators", "default_deferrable"
    said = f"AIRFLOW__{section}__{option}".upper() in os.environ
    if not said and isinstance(conf, ConfigParser):
        said = ConfigParser.has_option(conf, section, option)  # in airflow.cfg; its own method knows defaults too
    return bool(conf.getboolean(section, option)) if said else True


class ClassifailyJobSensor(_ClassifailySensor):
    """Wait until a job has ended, by asking the API (`GET /jobs`, free).

    Many sensors share one listing, looked at ever more rarely (2 to 30 seconds). `timeout` (seconds, from the first
    look on) is a moment in time to the triggerer: a restart does not begin it anew. The worker itself waits for
    `stay_seconds` before it defers; `execution_timeout` holds while it is deferred, too. With `deferrable=False` it is
    an ordinary sensor, with `poke_interval` and `mode`; the default is `[operators] default_deferrable` if that is
    set, else True.

    XCom: that of `ClassifailyClassifyOperator`, or of `ClassifailyBatchOperator` for a batch, with `job_id` and
    `settled_by`. A failed job fails the task at once, or skips it with `soft_fail`; so does `timeout`.
    """


class ClassifailyWebhookSensor(_ClassifailySensor):
    """Wait until a job's webhook arrives; should it be lost, the API is asked every few minutes all the same.

    Deliveries are found in the store, whenever they came; `source` is the part of the receiver's path that tells
    accounts and environments apart. The rest is as in `ClassifailyJobSensor`.
    """

    def __init__(self, *, source: str = "default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.source = source
