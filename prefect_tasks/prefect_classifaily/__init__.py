"""ClassifAIly for Prefect: a credentials block and tasks, each as a sync and an async twin.

The law of this file: it is the `prefect.collections` entry point, which Prefect imports at server start, in workers
and when a block is loaded by name; so it exports every block and task eagerly, and imports only Prefect and the core.
"""

from importlib.util import find_spec

if find_spec("prefect") is None:
    raise ImportError(
        "prefect_classifaily needs prefect: pip install 'classifaily-connectors[prefect]'", name="prefect"
    )

from classifaily_connectors import __version__
from prefect_classifaily.automations import astart_on_job, start_on_job
from prefect_classifaily.credentials import ClassifailyCredentials
from prefect_classifaily.jobs import asubmit_job, await_for_job, submit_job, wait_for_job
from prefect_classifaily.tables import aclassify_table, classify_table, retry_with_ledger
from prefect_classifaily.tasks import (
    aclassify,
    aclassify_batch,
    aensure_schema,
    aget_usage,
    classify,
    classify_batch,
    ensure_schema,
    get_usage,
    retry_idempotent,
    retry_transient,
)

__all__ = [
    "ClassifailyCredentials",
    "__version__",
    "aclassify",
    "aclassify_batch",
    "aclassify_table",
    "aensure_schema",
    "aget_usage",
    "astart_on_job",
    "asubmit_job",
    "await_for_job",
    "classify",
    "classify_batch",
    "classify_table",
    "ensure_schema",
    "get_usage",
    "retry_idempotent",
    "retry_transient",
    "retry_with_ledger",
    "start_on_job",
    "submit_job",
    "wait_for_job",
]
