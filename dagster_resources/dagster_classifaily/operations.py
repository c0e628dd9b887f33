"""What the API does, as methods of the resource: those of the core's clients, with their errors told to Dagster.

The law of this file: an operation is the core's; here it is watched (a run that is being terminated buys nothing) and
counted (what a step spent can be shown).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from dagster import Failure, get_dagster_logger

from classifaily_connectors.redaction import shown_url
from classifaily_connectors.retry import check_repetition, mendable, replays
from dagster_classifaily.failures import afree, araising, free, never, raising
from dagster_classifaily.steps import attempt, scope
from dagster_classifaily.stopping import RunWatch, TableWatch
from dagster_classifaily.usage import AsyncCounted, Counted, Meter, Spent

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from typing import Unpack

    from dagster import AssetExecutionContext, OpExecutionContext

    from classifaily_connectors import (
        AsyncClassifailyClient,
        BatchResult,
        ClassifailyClient,
        Classification,
        Job,
        Plan,
        Progress,
        Schema,
        TableResult,
        Usage,
    )
    from classifaily_connectors.media import Input
    from classifaily_connectors.operations.payloads import Item
    from classifaily_connectors.options import BatchOptions, ClassifyOptions, ClassifyTableOptions, SchemaOptions
    from classifaily_connectors.tables.job import Source
    from classifaily_connectors.taxonomy import CategoryLike
    from classifaily_connectors.webhooks import Settled
    from dagster_classifaily.failures import Rule

_TIMEOUT = 600.0
"""Seconds."""
_WRITING = ("output", "prefix", "max_error_ratio")
"""What a plan has no use for."""


class Operations:
    """The operations of the API; whoever has them brings the clients, the store and the watch."""

    if TYPE_CHECKING:

        @property
        def client(self) -> ClassifailyClient: ...  # noqa: D102

        @property
        def async_client(self) -> AsyncClassifailyClient: ...  # noqa: D102

        @property
        def store(self) -> str: ...  # noqa: D102

        @property
        def deliveries(self) -> str: ...  # noqa: D102

        _meter: Meter
        _watch: RunWatch | None

        def _with_ledger(self, options: ClassifyTableOptions) -> ClassifyTableOptions: ...

    @contextmanager
    def with_usage_metadata(
        self, context: AssetExecutionContext | OpExecutionContext, output_name: str | None = None
    ) -> Generator[Spent]:
        """Show what the calls within cost as metadata of the output: `classifaily/calls`, `requests` and `reused`.

        `requests` are those of the month's quota. They are shown when the calls end in an error too, if the output
        is made all the same. `output_name` is for steps of several outputs. Gives the running count.
        """
        with self._meter.counting() as spent:
            try:
                yield spent
            finally:
                context.add_output_metadata(spent.metadata(), output_name=output_name)

    @raising
    def classify(self, input: Input, **options: Unpack[ClassifyOptions]) -> Classification:
        """Classify one input; costs one request. Arguments: `ClassifailyClient.classify`."""
        answer = self.client.classify(input, **options)
        self._meter.count(1)
        return answer

    @raising
    def submit(self, input: Input, **options: Unpack[ClassifyOptions]) -> Job:
        """Queue one input and return its job at once; costs one request. Arguments: `ClassifailyClient.submit`."""
        job = self.client.submit(input, **options)
        self._meter.count(1)
        return job

    @free
    def submit_once(
        self,
        input: Input,
        *,
        identity: str | None = None,
        refresh: bool = False,
        on_unknown: Literal["park", "resend"] = "park",
        **options: Unpack[ClassifyOptions],
    ) -> Job:
        """`submit` through the ledger in `store`: a step that runs again gets the job that is there already.

        Within a run a URL of audio or video is submitted once; an `identity` makes that once for ever, as a URL does
        not tell what lies behind it. `refresh` and `on_unknown="resend"` pay anew, and a retry of the step is refused
        them. Arguments and errors: `submit_once` of the core.
        """
        from classifaily_connectors import submit_once

        counted: Any = Counted(self.client, self._meter)
        return submit_once(counted, input, ledger=self.store, **_once(identity, refresh, on_unknown), **options)

    @raising
    def batch(self, items: Iterable[Item], **options: Unpack[BatchOptions]) -> BatchResult:
        """Classify several inputs in one API call; costs one request each. Arguments: `ClassifailyClient.batch`."""
        answers = self.client.batch(items, **options)
        self._meter.count(len(answers.results))
        return answers

    def classify_table(self, source: Source, **options: Unpack[ClassifyTableOptions]) -> TableResult:
        """Label a table, each distinct input paid once. Arguments and errors: `classify_table` of the core.

        The ledger is `store` unless `ledger` is another URL; with it, a step that an outage ended may run again, and
        pays nothing twice. With `ledger=False` every error is a `Failure(allow_retries=False)`.
        """
        from classifaily_connectors import classify_table

        given = self._begun(options)
        try:
            with self._watched(given) as watched:
                result = raising(classify_table, _rule(given), repeatable=replays(given))(
                    self.client, source, **watched
                )
            self._meter.count(result.stats.billed, reused=result.stats.reused)
            return result
        finally:
            del source  # or a traceback printed with its locals would show the rows

    @free
    def plan_table(self, source: Source, **options: Unpack[ClassifyTableOptions]) -> Plan:
        """What `classify_table` with the same arguments would buy; free."""
        from classifaily_connectors import plan_table

        priced: Any = {name: value for name, value in self._with_ledger(options).items() if name not in _WRITING}
        return plan_table(self.client, source, **priced)

    @free
    def usage(self, month: str | None = None) -> Usage:
        """What the plan allows and what is used, in `month` (YYYY-MM) or now; free."""
        return self.client.usage(month)

    @free
    def ensure_schema(self, name: str, categories: Iterable[CategoryLike], **options: Unpack[SchemaOptions]) -> Schema:
        """The saved schema of this name with exactly these categories: found, updated or created; free."""
        return self.client.schemas.ensure(name, categories, **options)

    @free
    def get_job(self, id: int | str) -> Job:
        """The job as it stands; free."""
        return self.client.jobs.get(id)

    @free
    def wait_for_job(
        self, id: int | str, *, timeout: float | None = None, deadline: float | None = None, source: str | None = None
    ) -> Job:
        """The job once it has completed; free.

        It waits `timeout` seconds (default: 600), or until `deadline` (seconds since the epoch, which means the same
        to a step that starts again). With a `source` ("default", or the last part of the webhook's path) its webhook
        is awaited, in `deliveries`; without, and when that is lost, the API is asked.

        Raises JobTimeoutError, JobFailedError, and NotFoundError for a job there is not.
        """
        from classifaily_connectors.webhooks import wait_for_job

        found = wait_for_job(self.client, id, **self._patience(timeout, deadline, source))
        return self._settled(found)

    @araising
    async def aclassify(self, input: Input, **options: Unpack[ClassifyOptions]) -> Classification:
        """See `classify`."""
        answer = await self.async_client.classify(input, **options)
        self._meter.count(1)
        return answer

    @araising
    async def asubmit(self, input: Input, **options: Unpack[ClassifyOptions]) -> Job:
        """See `submit`."""
        job = await self.async_client.submit(input, **options)
        self._meter.count(1)
        return job

    @afree
    async def asubmit_once(
        self,
        input: Input,
        *,
        identity: str | None = None,
        refresh: bool = False,
        on_unknown: Literal["park", "resend"] = "park",
        **options: Unpack[ClassifyOptions],
    ) -> Job:
        """See `submit_once`."""
        from classifaily_connectors import asubmit_once

        counted: Any = AsyncCounted(self.async_client, self._meter)
        return await asubmit_once(counted, input, ledger=self.store, **_once(identity, refresh, on_unknown), **options)

    @araising
    async def abatch(self, items: Iterable[Item], **options: Unpack[BatchOptions]) -> BatchResult:
        """See `batch`."""
        answers = await self.async_client.batch(items, **options)
        self._meter.count(len(answers.results))
        return answers

    async def aclassify_table(self, source: Source, **options: Unpack[ClassifyTableOptions]) -> TableResult:
        """See `classify_table`."""
        from classifaily_connectors import aclassify_table

        given = self._begun(options)
        try:
            with self._watched(given) as watched:
                label = araising(aclassify_table, _rule(given), repeatable=replays(given))
                result = await label(self.async_client, source, **watched)
            self._meter.count(result.stats.billed, reused=result.stats.reused)
            return result
        finally:
            del source

    @afree
    async def ausage(self, month: str | None = None) -> Usage:
        """See `usage`."""
        return await self.async_client.usage(month)

    @afree
    async def aensure_schema(
        self, name: str, categories: Iterable[CategoryLike], **options: Unpack[SchemaOptions]
    ) -> Schema:
        """See `ensure_schema`."""
        return await self.async_client.schemas.ensure(name, categories, **options)

    @afree
    async def aget_job(self, id: int | str) -> Job:
        """See `get_job`."""
        return await self.async_client.jobs.get(id)

    @afree
    async def await_for_job(
        self, id: int | str, *, timeout: float | None = None, deadline: float | None = None, source: str | None = None
    ) -> Job:
        """See `wait_for_job`."""
        from classifaily_connectors.webhooks import await_for_job

        found = await await_for_job(self.async_client, id, **self._patience(timeout, deadline, source))
        return self._settled(found)

    @free
    def _begun(self, options: ClassifyTableOptions) -> ClassifyTableOptions:
        check_repetition(options, attempt=attempt())
        return self._with_ledger(options)

    @contextmanager
    def _watched(self, options: ClassifyTableOptions) -> Generator[ClassifyTableOptions]:
        shown = options.get("progress")
        with TableWatch(self._watch) as watch:

            def progress(moment: Progress) -> None:
                watch.check()
                if shown is not None:
                    shown(moment)

            try:
                yield {**options, "progress": progress}
            except BaseException as error:
                _tell(error, options.get("ledger"))
                raise

    def _patience(self, timeout: float | None, deadline: float | None, source: str | None) -> dict[str, Any]:
        until = time.time() + (_TIMEOUT if timeout is None else timeout) if deadline is None else deadline
        return {"deadline": until, **({"store": self.deliveries, "source": source} if source is not None else {})}

    def _settled(self, found: Settled) -> Job:
        get_dagster_logger("classifaily").info("job %s has ended, told by %s", found.job_id, found.settled_by)
        return found.result()


def _once(identity: str | None, refresh: bool, on_unknown: str) -> dict[str, Any]:
    anew = {"refresh": refresh, "on_unknown": on_unknown}
    check_repetition(anew, attempt=attempt())
    return {"identity": identity, "scope": scope(), **anew}


def _tell(error: BaseException, ledger: Any) -> None:
    """Say what the table cost until it ended in this error: in the log, and as metadata where Dagster takes some."""
    from classifaily_connectors import BulkStats
    from classifaily_connectors.tables.report import ending

    kept = None if ledger is False else shown_url(str(ledger))
    stats: BulkStats = getattr(error, "stats", None) or BulkStats(ledger=kept)
    get_dagster_logger("classifaily").warning("%s; ended by %s", stats.ending(), type(error).__name__)
    if isinstance(error, Failure):
        known = {f"classifaily/{name}": value for name, value in ending(stats).items() if value is not None}
        error.metadata = {**error.metadata, **Failure("", metadata=known).metadata}


def _rule(options: ClassifyTableOptions) -> Rule:
    return mendable if replays(options) else never
