"""Whole tables: labelled by one task run each, through a ledger in which each distinct input is paid once.

The law of this file: the ledger decides what costs money, never Prefect's state. So with one, Prefect may repeat the
task whenever that could help: what was paid is replayed from the ledger, and a half-written output is completed.
Without one, and where things are bought anew on purpose, nothing is repeated. What comes back is a summary; rows never
enter Prefect's results.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Unpack

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import TaskRunContext
from prefect.exceptions import CancelledRun
from prefect.tasks import Task, exponential_backoff

from classifaily_connectors import aclassify_table as acore
from classifaily_connectors import classify_table as core
from classifaily_connectors.retry import mendable, replays
from classifaily_connectors.tables.report import summary
from prefect_classifaily.credentials import CredentialsLike, aresolve, resolve
from prefect_classifaily.display import TableDisplay
from prefect_classifaily.stopping import StopWatch, is_stopping
from prefect_classifaily.tasks import BACKOFF, JITTER, RETRIES

if TYPE_CHECKING:
    from collections.abc import Callable

    from prefect.client.schemas.objects import State, TaskRun

    from classifaily_connectors import Progress
    from classifaily_connectors.options import LabellingOptions
    from classifaily_connectors.places import Address
    from classifaily_connectors.tables.job import Source
    from prefect_classifaily.credentials import ClassifailyCredentials

REPORT = "classifaily-table"


# A plain function on purpose: Prefect ignores a `retry_condition_fn` that is any other kind of callable.
def retry_with_ledger(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """The `retry_condition_fn` of the table tasks: True for what may mend itself, as long as a ledger remembers.

    False with `ledger=False`, with `refresh` and `on_unknown="resend"` (each attempt would buy anew), and for what a
    wait cannot mend: a wrong argument or table, a refused key or plan, a used-up quota or budget, too many failed rows.
    """
    context = TaskRunContext.get()
    if context is None or isinstance(state.data, CancelledRun):
        return False
    return replays(context.parameters.get("options", {})) and mendable(state.data) and not is_stopping()


_durable = task(
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(BACKOFF),
    retry_jitter_factor=JITTER,
    retry_condition_fn=retry_with_ledger,
    cache_policy=NO_CACHE,
)


@_durable
def classify_table(
    source: Source,
    output: Address,
    *,
    credentials: CredentialsLike = None,
    report: str | None = REPORT,
    **options: Unpack[LabellingOptions],
) -> dict[str, Any]:
    """Label a table: its own columns, and label, confidence, route, status and more; each distinct input paid once.

    `source` and `output` are paths or URLs (.csv, .tsv, .jsonl, .parquet, perhaps compressed; s3://, gs:// and all
    else that fsspec knows); `source` may also be a data frame or a list of dicts (wrap it in `quote`). `options` are
    those of the core's `classify_table`: `text="body"` or `template="{subject}: {body}"` say what to classify, then
    `categories` or `schema`, `type`, `mode`, `threshold`, `explain`, `id_column`, `prefix`, `on_invalid`,
    `max_error_ratio`, `policy`, `budget`, `batch_size`, `concurrency`, `on_unknown`, `refresh` and `progress`.

    `ledger` is a store URL, or False for none; else the `store_url` of the credentials, CLASSIFAILY_STORE_URL, or the
    file in the user's state folder that the command line has too. Processes and machines that share one never pay for
    the same input twice.

    `report` is the key of the artifacts: `KEY-progress`, updated meanwhile, `KEY` and `KEY-labels`; None for none.

    Returns counts of rows (`rows`, `billed`, `reused`, `duplicate`, `resumed`, `statuses`, `labels`, `routes`), the
    quota left (`remaining`), `seconds` and where the table is (`output`).

    Raises what the core's `classify_table` raises; what was paid is kept for the next attempt.
    """
    block = resolve(credentials)
    with TableDisplay(report, options.get("progress")) as display, StopWatch() as watch, block.get_client() as client:
        progress = _watched(watch, display)
        display.result = core(client, source, output=output, **_with_ledger(block, options), progress=progress)
        return summary(display.result)


@_durable
async def aclassify_table(
    source: Source,
    output: Address,
    *,
    credentials: CredentialsLike = None,
    report: str | None = REPORT,
    **options: Unpack[LabellingOptions],
) -> dict[str, Any]:
    """The async twin of `classify_table`; see there."""
    block = await aresolve(credentials)
    display = TableDisplay(report, options.get("progress")).__enter__()
    ended_by: BaseException | None = None
    try:
        with StopWatch() as watch:
            async with block.get_async_client() as client:
                given, progress = _with_ledger(block, options), _watched(watch, display)
                display.result = await acore(client, source, output=output, **given, progress=progress)
        return summary(display.result)
    except BaseException as error:
        ended_by = error
        raise
    finally:
        # Two steps: where the task is cancelled, anyio cancels the waiting too, and its thread would never end.
        display.end(ended_by)
        await asyncio.to_thread(display.join)


def _watched(watch: StopWatch, display: TableDisplay) -> Callable[[Progress], None]:
    def progress(moment: Progress) -> None:
        watch.check()
        display(moment)

    return progress


def _with_ledger(block: ClassifailyCredentials, options: LabellingOptions) -> dict[str, Any]:
    """The options for the core, with a ledger unless there is to be none."""
    given: dict[str, Any] = {name: value for name, value in options.items() if name != "progress"}
    if given.get("ledger") is None:
        given["ledger"] = block.get_store_url()
    return given
