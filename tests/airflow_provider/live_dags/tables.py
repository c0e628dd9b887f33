"""A table whose worker dies or is stopped in the middle of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG

from airflow_provider_classifaily.operators import ClassifailyTableOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from classifaily_connectors import Progress

PARAMS: dict[str, Any] = {"source": "", "target": "", "processes": ""}
TABLE: dict[str, Any] = {
    "source": "{{ params.source }}",
    "target": "{{ params.target }}",
    "text": "body",
    "categories": ["billing", "technical", "account"],
    "batch_size": 5,
    "concurrency": 2,
    "retries": 3,
    "retry_delay": timedelta(seconds=1),
}


class Dying(ClassifailyTableOperator):
    """Its first two workers die when a part of the table has been paid."""

    def _show(self, context: Context) -> Callable[[Progress], None]:
        show, tries = super()._show(context), context["ti"].try_number

        def die(progress: Progress) -> None:
            show(progress)
            if tries <= 2 and progress.billed >= 20:
                os.kill(os.getpid(), signal.SIGKILL)

        return die


with DAG("dying", schedule=None, params=PARAMS):
    Dying(task_id="classify", on_unknown="park", **TABLE)


def name_processes(context: Context) -> None:
    """Tell the test who is at work: the task's process, and the one that supervises it."""
    Path(context["params"]["processes"]).write_text(f"{os.getpid()} {os.getppid()}")


with DAG("stopped", schedule=None, params=PARAMS):
    ClassifailyTableOperator(task_id="classify", **TABLE)

with DAG("stopped_by_signal", schedule=None, params=PARAMS):
    ClassifailyTableOperator(task_id="classify", pre_execute=name_processes, **TABLE)

with DAG("stopped_by_its_timeout", schedule=None, params=PARAMS):
    ClassifailyTableOperator(task_id="classify", execution_timeout=timedelta(seconds=6), **{**TABLE, "retries": 9})
