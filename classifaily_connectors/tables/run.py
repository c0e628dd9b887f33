"""The doors: a table, labelled, by the client at hand.

The law of this file: the two clients run the same job; here is only how each waits.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from typing import TYPE_CHECKING, Any, Literal, cast

from classifaily_connectors.arguments import checked_keywords
from classifaily_connectors.bulk.endings import Told
from classifaily_connectors.bulk.prepare import DEFAULT_CONCURRENCY
from classifaily_connectors.bulk.reconcile import SETTLE_AFTER
from classifaily_connectors.bulk.waiting import outlast
from classifaily_connectors.concurrency import check_loop
from classifaily_connectors.tables.job import Labelling, Source, TableJob, TableOptions

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping

    from classifaily_connectors.async_client import AsyncClassifailyClient
    from classifaily_connectors.bulk.budget import Budget
    from classifaily_connectors.bulk.decisions import OnUnknown
    from classifaily_connectors.bulk.plan import Plan
    from classifaily_connectors.bulk.progress import Progress
    from classifaily_connectors.bulk.rows import Row
    from classifaily_connectors.client import ClassifailyClient
    from classifaily_connectors.models import Schema
    from classifaily_connectors.places import Address
    from classifaily_connectors.routing import ConfidencePolicy
    from classifaily_connectors.store import Ledger
    from classifaily_connectors.tables.checking import OnInvalid
    from classifaily_connectors.tables.endings import TableResult
    from classifaily_connectors.taxonomy import CategorySet


@checked_keywords
def classify_table(
    client: ClassifailyClient,
    source: Source,
    *,
    text: str | None = None,
    template: str | None = None,
    output: Address | None = None,
    id_column: str | None = None,
    prefix: str = "",
    max_error_ratio: float | None = None,
    on_invalid: OnInvalid = "raise",
    categories: CategorySet | None = None,
    schema: int | str | Schema | None = None,
    axes: Mapping[str, CategorySet] | None = None,
    type: str = "text",
    mode: str | None = None,
    top_n: int | None = None,
    threshold: float | None = None,
    explain: bool = False,
    identity: str | None = None,
    media_folder: Address | None = None,
    format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    quoting: str | None = None,
    ledger: Ledger | str | os.PathLike[str] | Literal[False] | None = None,
    budget: Budget | None = None,
    on_unknown: OnUnknown | None = None,
    settle_after: float = SETTLE_AFTER,
    refresh: bool | Literal["failed"] = False,
    batch_size: int | None = None,
    concurrency: int = DEFAULT_CONCURRENCY,
    policy: ConfidencePolicy | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TableResult:
    """Label a table: its own columns and the row shape, in its own order; each distinct input is paid once.

    `source` is a path or URL (.csv, .tsv, .jsonl, .parquet, perhaps .gz, .bz2, .xz or .zst; any file system fsspec
    knows), a data frame (pandas, polars, pyarrow, …) or an iterable of dicts. `text` names the column to classify,
    `template` joins several ("Subject: {subject}\\n\\n{body}"). With `output` (a path or URL) the labelled table goes
    there, else to `result.frame`, a frame of the same library. The other options are those of `classify_many`. Media
    may also be paths, bytes and object-store URLs (`classifaily_connectors.identity`): text that names a file is opened
    only when `type` says so, and only inside the table's own folder or `media_folder` (a path or URL). With `axes`,
    several category sets by name, our columns come once for each of them and are called after it: `topic_label`,
    `urgency_label`.

    A half-written output is completed by the next call with the same input and options; a changed input or option
    begins anew. Everything is checked in a first pass, before anything is paid, except where a source can be gone
    through only once: that is checked on the way, each row before its batch. Empty cells are `skipped`. Rows that
    are invalid (no text, a ragged line, a repeated `id_column`) raise, or with `on_invalid="skip"` are `skipped`
    with their error. `prefix` is put before the names of our columns.

    Raises InvalidRequestError naming file, line and column; ErrorRatioExceededError, once the output is complete,
    when more than `max_error_ratio` (0 to 1) of the rows are failed or unknown; UnsettledRowsError, likewise, when some
    may have been paid without an answer, unless `on_unknown="park"` accepts that; and what `classify_many` raises, with
    everything that came back kept for the next call.
    """
    options = TableOptions(
        categories=categories, schema=schema, axes=axes, type=type, mode=mode, top_n=top_n, threshold=threshold,
        explain=explain, identity=identity, media_folder=media_folder, format=format, encoding=encoding,
        delimiter=delimiter, quoting=quoting, ledger=ledger, budget=budget, on_unknown=on_unknown,
        settle_after=settle_after, refresh=refresh, batch_size=batch_size, concurrency=concurrency,
        policy=policy, progress=progress,
    )  # fmt: skip
    labelling = Labelling(
        text=text, template=template, output=output, id_column=id_column, prefix=prefix,
        max_error_ratio=max_error_ratio, on_invalid=on_invalid,
    )  # fmt: skip
    job = TableJob(source, labelling, options)
    job.survey()
    saved = None if schema is None or output is None else client.schemas.get(_id(schema))
    with job.reserved():
        job.begin(client.base_url, saved)
        run = job.ask(client, job.feed())
        with Told(run):
            try:
                with closing(cast("Generator[Row]", iter(run))) as rows:
                    for row in rows:
                        if job.land(row):
                            job.write()
            except BaseException:
                job.keep(run.leftover)
                raise
            return job.finish(run.stats)


@checked_keywords
async def aclassify_table(
    client: AsyncClassifailyClient,
    source: Source,
    *,
    text: str | None = None,
    template: str | None = None,
    output: Address | None = None,
    id_column: str | None = None,
    prefix: str = "",
    max_error_ratio: float | None = None,
    on_invalid: OnInvalid = "raise",
    categories: CategorySet | None = None,
    schema: int | str | Schema | None = None,
    axes: Mapping[str, CategorySet] | None = None,
    type: str = "text",
    mode: str | None = None,
    top_n: int | None = None,
    threshold: float | None = None,
    explain: bool = False,
    identity: str | None = None,
    media_folder: Address | None = None,
    format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    quoting: str | None = None,
    ledger: Ledger | str | os.PathLike[str] | Literal[False] | None = None,
    budget: Budget | None = None,
    on_unknown: OnUnknown | None = None,
    settle_after: float = SETTLE_AFTER,
    refresh: bool | Literal["failed"] = False,
    batch_size: int | None = None,
    concurrency: int = DEFAULT_CONCURRENCY,
    policy: ConfidencePolicy | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> TableResult:
    """`classify_table` for the asynchronous client: files are read and written beside the event loop."""
    check_loop("aclassify_table")
    options = TableOptions(
        categories=categories, schema=schema, axes=axes, type=type, mode=mode, top_n=top_n, threshold=threshold,
        explain=explain, identity=identity, media_folder=media_folder, format=format, encoding=encoding,
        delimiter=delimiter, quoting=quoting, ledger=ledger, budget=budget, on_unknown=on_unknown,
        settle_after=settle_after, refresh=refresh, batch_size=batch_size, concurrency=concurrency,
        policy=policy, progress=progress,
    )  # fmt: skip
    labelling = Labelling(
        text=text, template=template, output=output, id_column=id_column, prefix=prefix,
        max_error_ratio=max_error_ratio, on_invalid=on_invalid,
    )  # fmt: skip
    job = await asyncio.to_thread(TableJob, source, labelling, options)
    await asyncio.to_thread(job.survey)
    saved = None if schema is None or output is None else await client.schemas.get(_id(schema))
    # What is being written is finished, whoever is cancelled meanwhile: the output is ours until then.
    with job.reserved(), ThreadPoolExecutor(1, thread_name_prefix="classifaily-table") as writer:
        await outlast(writer.submit(job.begin, client.base_url, saved))
        run = job.ask(client, job.afeed())
        with Told(run):
            try:
                async with aclosing(cast("AsyncGenerator[Row]", aiter(run))) as rows:
                    async for row in rows:
                        if job.land(row):
                            await outlast(writer.submit(job.write))
            except BaseException:
                job.keep(run.leftover)
                raise
            return await outlast(writer.submit(job.finish, run.stats))


@checked_keywords
def plan_table(
    client: ClassifailyClient,
    source: Source,
    *,
    text: str | None = None,
    template: str | None = None,
    id_column: str | None = None,
    on_invalid: OnInvalid = "raise",
    categories: CategorySet | None = None,
    schema: int | str | Schema | None = None,
    axes: Mapping[str, CategorySet] | None = None,
    type: str = "text",
    mode: str | None = None,
    top_n: int | None = None,
    threshold: float | None = None,
    explain: bool = False,
    identity: str | None = None,
    media_folder: Address | None = None,
    format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    quoting: str | None = None,
    ledger: Ledger | str | os.PathLike[str] | Literal[False] | None = None,
    budget: Budget | None = None,
    on_unknown: OnUnknown | None = None,
    settle_after: float = SETTLE_AFTER,
    refresh: bool | Literal["failed"] = False,
    batch_size: int | None = None,
    concurrency: int = DEFAULT_CONCURRENCY,
    policy: ConfidencePolicy | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Plan:
    """What `classify_table` would buy, from the ledger and the usage alone; spends nothing.

    What a half-written output holds is not taken into account: only the ledger is.
    """
    options = TableOptions(
        categories=categories, schema=schema, axes=axes, type=type, mode=mode, top_n=top_n, threshold=threshold,
        explain=explain, identity=identity, media_folder=media_folder, format=format, encoding=encoding,
        delimiter=delimiter, quoting=quoting, ledger=ledger, budget=budget, on_unknown=on_unknown,
        settle_after=settle_after, refresh=refresh, batch_size=batch_size, concurrency=concurrency,
        policy=policy, progress=progress,
    )  # fmt: skip
    job = _priced(source, options, text=text, template=template, id_column=id_column, on_invalid=on_invalid)
    plan: Plan = job.ask(client, job.feed(rehearsing=True)).plan()
    return plan


@checked_keywords
async def aplan_table(
    client: AsyncClassifailyClient,
    source: Source,
    *,
    text: str | None = None,
    template: str | None = None,
    id_column: str | None = None,
    on_invalid: OnInvalid = "raise",
    categories: CategorySet | None = None,
    schema: int | str | Schema | None = None,
    axes: Mapping[str, CategorySet] | None = None,
    type: str = "text",
    mode: str | None = None,
    top_n: int | None = None,
    threshold: float | None = None,
    explain: bool = False,
    identity: str | None = None,
    media_folder: Address | None = None,
    format: str | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    quoting: str | None = None,
    ledger: Ledger | str | os.PathLike[str] | Literal[False] | None = None,
    budget: Budget | None = None,
    on_unknown: OnUnknown | None = None,
    settle_after: float = SETTLE_AFTER,
    refresh: bool | Literal["failed"] = False,
    batch_size: int | None = None,
    concurrency: int = DEFAULT_CONCURRENCY,
    policy: ConfidencePolicy | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Plan:
    """`plan_table` for the asynchronous client."""
    check_loop("aplan_table")
    options = TableOptions(
        categories=categories, schema=schema, axes=axes, type=type, mode=mode, top_n=top_n, threshold=threshold,
        explain=explain, identity=identity, media_folder=media_folder, format=format, encoding=encoding,
        delimiter=delimiter, quoting=quoting, ledger=ledger, budget=budget, on_unknown=on_unknown,
        settle_after=settle_after, refresh=refresh, batch_size=batch_size, concurrency=concurrency,
        policy=policy, progress=progress,
    )  # fmt: skip
    job = await asyncio.to_thread(
        _priced, source, options, text=text, template=template, id_column=id_column, on_invalid=on_invalid
    )
    plan: Plan = await job.ask(client, job.afeed(rehearsing=True)).plan()
    return plan


def _priced(
    source: Source,
    options: TableOptions,
    *,
    text: str | None,
    template: str | None,
    id_column: str | None,
    on_invalid: OnInvalid,
) -> TableJob:
    # A prefix that no column has: names are the output's business, and there is none.
    labelling = Labelling(
        text=text, template=template, output=None, id_column=id_column, prefix="\0",
        max_error_ratio=None, on_invalid=on_invalid,
    )  # fmt: skip
    job = TableJob(source, labelling, options)
    job.survey()
    return job


def _id(schema: Any) -> int | str:
    return cast("int | str", getattr(schema, "id", schema))
