"""The asynchronous client: the twin of `client`, word for word; see there for its laws."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, Unpack, overload

from classifaily_connectors.bulk.axes import AsyncAxesRun, parse_axes
from classifaily_connectors.bulk.prepare import prepare
from classifaily_connectors.bulk.run import AsyncBulkRun
from classifaily_connectors.bulk.runner import aclose_runs
from classifaily_connectors.operations import account, classify, jobs, schemas
from classifaily_connectors.operations.context import Context
from classifaily_connectors.operations.history import read_history
from classifaily_connectors.retry import RetryPolicy
from classifaily_connectors.settings import Settings, as_secret
from classifaily_connectors.transport import AsyncTransport

if TYPE_CHECKING:
    from pydantic import SecretStr

    from classifaily_connectors.bulk.plan import Plan
    from classifaily_connectors.bulk.prepare import AxesOptions, ManyOptions
    from classifaily_connectors.bulk.source import Rows
    from classifaily_connectors.media import Input
    from classifaily_connectors.models import BatchResult, Classification, Job, Schema, Usage, WebhookEndpoint
    from classifaily_connectors.operations.effects import Operation
    from classifaily_connectors.operations.history import History
    from classifaily_connectors.operations.jobs import Page
    from classifaily_connectors.operations.payloads import BatchOptions, ClassifyOptions, Item
    from classifaily_connectors.taxonomy import CategorySet

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


class _Part:
    def __init__(self, transport: AsyncTransport, context: Context) -> None:
        self._transport = transport
        self._context = context

    async def _run(self, operation: Operation[T]) -> T:
        return await self._transport.run(operation)


class AsyncClassifailyClient(_Part):
    """A client for the ClassifAIly API; a context manager, safe to share between threads and across a fork.

    `api_key` and `base_url` default to CLASSIFAILY_KEY and CLASSIFAILY_BASE_URL. `timeout` is the seconds one attempt
    may wait for the answer (default: 60 for one input, 30 + 0.5 per item for a batch, 30 for reads). `application`
    is added to the User-Agent, e.g. "airflow/3.3.2".

    Raises ConfigurationError when a setting is missing or cannot work.
    """

    def __init__(
        self,
        api_key: str | SecretStr | None = None,
        *,
        base_url: str | None = None,
        timeout: float | None = None,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008  # frozen
        max_connections: int = 100,
        application: str | None = None,
    ) -> None:
        api_key = as_secret(api_key)
        settings = Settings.resolve(api_key, base_url, timeout)
        transport = AsyncTransport(settings, max_connections=max_connections, application=application)
        super().__init__(transport, Context(retry, settings.timeout))
        self.schemas = AsyncSchemas(transport, self._context)
        """Saved category sets."""
        self.jobs = AsyncJobs(transport, self._context)
        """What has been submitted, and how it ended."""
        self.webhooks = AsyncWebhooks(transport, self._context)
        """Registered endpoints."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def base_url(self) -> str:
        """The address this client talks to."""
        return self._transport.settings.base_url

    @property
    def settings(self) -> Settings:
        """The checked key, address and timeout: two clients with the same ones are the same account's."""
        return self._transport.settings

    def __repr__(self) -> str:
        if not hasattr(self, "_transport"):  # the settings were refused, and the traceback is printed with its locals
            return f"{type(self).__name__}()"
        return f"{type(self).__name__}(base_url={self.base_url!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a client holds sockets and a key and cannot be pickled: make one where it is used")

    async def close(self) -> None:
        """Stop this client's bulk runs, wait for what they have under way, and close all connections.

        The client cannot be used afterwards.
        """
        await aclose_runs(self._transport)
        await self._transport.close()

    @overload  # an Enum is a set like any other, and more
    async def classify(  # type: ignore[overload-overlap]
        self, input: Input, *, categories: type[E], **options: Unpack[ClassifyOptions]
    ) -> Classification[E]: ...
    @overload
    async def classify(
        self, input: Input, *, categories: CategorySet | None = None, **options: Unpack[ClassifyOptions]
    ) -> Classification: ...
    async def classify(
        self,
        input: Input,
        *,
        categories: CategorySet | None = None,
        schema: int | str | Schema | None = None,
        type: str = "text",
        mode: str | None = None,
        top_n: int | None = None,
        threshold: float | None = None,
        explain: bool = False,
    ) -> Classification[Any]:
        """Classify one input (API reference, Classify); costs one request.

        `input` is a text or a public URL; with `type="image"` also bytes, a `pathlib.Path` or a data URI. `schema`
        beats `categories`; with neither, the API uses generic labels. `mode` is single, multi or top_n; `top_n` runs
        from 1 to 10, `threshold` from 0 to 1. When the server queues the input, its job is awaited.

        Raises InvalidRequestError before sending when an argument is wrong; OutcomeUnknownError when the answer was
        lost (it may have been billed); QuotaExceededError, PlanRestrictionError and the other errors of the API;
        JobFailedError and JobTimeoutError for queued inputs.
        """
        operation = classify.classify(
            self._context,
            input,
            categories=categories,
            schema=schema,
            type=type,
            mode=mode,
            top_n=top_n,
            threshold=threshold,
            explain=explain,
        )
        del input
        return await self._run(operation)

    async def submit(
        self,
        input: Input,
        *,
        categories: CategorySet | None = None,
        schema: int | str | Schema | None = None,
        type: str = "text",
        mode: str | None = None,
        top_n: int | None = None,
        threshold: float | None = None,
        explain: bool = False,
    ) -> Job:
        """Queue one input and return its job at once (`async: true`, API reference, Classify); costs one request.

        Take the result with `jobs.wait(job.id)` or by webhook. Arguments and errors are those of `classify`.
        """
        operation = classify.submit(
            self._context,
            input,
            categories=categories,
            schema=schema,
            type=type,
            mode=mode,
            top_n=top_n,
            threshold=threshold,
            explain=explain,
        )
        del input
        return await self._run(operation)

    @overload  # an Enum is a set like any other, and more
    async def batch(  # type: ignore[overload-overlap]
        self, items: Iterable[Item], *, categories: type[E], **options: Unpack[BatchOptions]
    ) -> BatchResult[E]: ...
    @overload
    async def batch(
        self, items: Iterable[Item], *, categories: CategorySet | None = None, **options: Unpack[BatchOptions]
    ) -> BatchResult: ...
    async def batch(
        self,
        items: Iterable[Item],
        *,
        categories: CategorySet | None = None,
        schema: int | str | Schema | None = None,
        type: str | None = None,
        mode: str | None = None,
        threshold: float | None = None,
        explain: bool = False,
    ) -> BatchResult[Any]:
        """Classify several inputs in ONE API call (API reference, Batch); each item costs one request.

        `items` are inputs, or mappings with `input` and perhaps `id`, `type` and `categories`. `results` come in the
        order of the items, one for each: an item that failed has status `failed` and an `error`. How many items fit
        in a call depends on the plan (`usage().limits.batch_size`): a call that is too large is refused, not split.

        Raises what `classify` raises; an item that failed raises nothing.
        """
        operation = classify.batch(
            self._context,
            items,
            type=type,
            categories=categories,
            schema=schema,
            mode=mode,
            threshold=threshold,
            explain=explain,
        )
        del items
        return await self._run(operation)

    @overload  # an Enum is a set like any other, and more
    def classify_many(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, rows: Rows, *, categories: type[E], **options: Unpack[ManyOptions]
    ) -> AsyncBulkRun[E]: ...
    @overload
    def classify_many(
        self, rows: Rows, *, categories: CategorySet | None = None, **options: Unpack[ManyOptions]
    ) -> AsyncBulkRun: ...
    def classify_many(
        self, rows: Rows, *, categories: CategorySet | None = None, **options: Unpack[ManyOptions]
    ) -> AsyncBulkRun[Any]:
        """Classify any number of rows, each distinct input paid once; iterate what it returns, which yields `Row`s.

        `rows` are texts, or mappings: of items (`input` and perhaps `type`, `categories`), or of table columns, of
        which `text` names the one to classify or `template` joins several ("Subject: {subject}\\n\\n{body}").
        `identity` names the column that tells media apart (a hash, an etag) where the URL does not.

        `ledger` (a store URL or `Ledger`) remembers what was paid, across runs, crashes and machines; None uses
        CLASSIFAILY_STORE_URL, else this run's memory; False none. `on_unknown` says what to do with inputs that may
        have been paid without an answer: "park" leaves them, "reconcile" waits until `settle_after` seconds (60) after
        the request and asks the API's history, "resend" may pay twice; None parks what is lost now and reconciles what
        earlier runs lost at least as long ago.
        `refresh=True` pays again on purpose, `refresh="failed"` for failed rows only. `budget` stops before a limit,
        by default before the month's quota. At most `concurrency` requests (16) of `batch_size` items (the plan's)
        are under way. `policy` routes each answer; `progress` is called a few times a second.

        A row that fails is a row, never an exception. Raises, once what was paid has landed: BudgetExceededError,
        QuotaExceededError, AuthenticationError, PlanRestrictionError and what else ends the whole run.
        """
        request = prepare(self._context, self.base_url, rows, categories=categories, **options)
        return AsyncBulkRun(request, self._transport)

    async def plan(self, rows: Rows, *, categories: CategorySet | None = None, **options: Unpack[ManyOptions]) -> Plan:
        """What `classify_many` would buy for these arguments, from the ledger and the usage alone; spends nothing."""
        return await self.classify_many(rows, categories=categories, **options).plan()

    def classify_axes(
        self, rows: Rows, axes: Mapping[str, CategorySet], **options: Unpack[AxesOptions]
    ) -> AsyncAxesRun:
        """Ask several category sets about the same rows: `axes={"topic": ["billing", "other"], "urgency": Urgency}`.

        Iterate what it returns, which yields one `AxesRow` for each row: `row["topic"].label`. Each axis of each row is
        a request of its own to the quota, the `budget` and the ledger, which knows an answer that `classify_many` has
        bought for the same set. Options and errors are those of `classify_many`.
        """
        asked = parse_axes(axes, options.get("policy"))
        request = prepare(self._context, self.base_url, rows, axes=asked, **options)
        return AsyncAxesRun(AsyncBulkRun(request, self._transport), asked)

    async def plan_axes(self, rows: Rows, axes: Mapping[str, CategorySet], **options: Unpack[AxesOptions]) -> Plan:
        """What `classify_axes` would buy for these arguments, all axes together; spends nothing."""
        return await self.classify_axes(rows, axes, **options).plan()

    async def usage(self, month: str | None = None) -> Usage:
        """What the plan allows and what is used, in `month` (YYYY-MM) or now (API reference, Usage); free."""
        return await self._run(account.usage(self._context, month))


class AsyncSchemas(_Part):
    """Saved category sets (API reference, Schemas); need a Starter plan."""

    async def create(
        self,
        name: str,
        categories: CategorySet,
        *,
        description: str | None = None,
        type: str | None = None,
        mode: str | None = None,
    ) -> Schema:
        """Save a category set. `type` is text, image, audio, video or any; `mode` is single or multi."""
        options: dict[str, Any] = {"description": description, "type": type, "mode": mode}
        return await self._run(schemas.create_schema(self._context, name, categories, **options))

    async def get(self, id: int | str) -> Schema:
        """The schema with this id. Raises SchemaNotFoundError."""
        return await self._run(schemas.get_schema(self._context, id))

    async def list(self) -> Sequence[Schema]:
        """Every schema of the account. Raises MethodNotAllowedError when the server cannot list them."""
        return await self._run(schemas.list_schemas(self._context))

    async def update(
        self,
        id: int | str,
        *,
        name: str | None = None,
        categories: CategorySet | None = None,
        description: str | None = None,
        type: str | None = None,
        mode: str | None = None,
    ) -> Schema:
        """Change a schema; what is not given stays. Raises MethodNotAllowedError when the server cannot."""
        options: dict[str, Any] = {"description": description, "type": type, "mode": mode}
        return await self._run(schemas.update_schema(self._context, id, name=name, categories=categories, **options))

    async def delete(self, id: int | str) -> None:
        """Delete a schema. Raises SchemaNotFoundError, or MethodNotAllowedError when the server cannot."""
        await self._run(schemas.delete_schema(self._context, id))

    async def ensure(
        self,
        name: str,
        categories: CategorySet,
        *,
        description: str | None = None,
        type: str | None = None,
        mode: str | None = None,
    ) -> Schema:
        """The schema of this name with exactly these categories: found, updated or created.

        Compared by the content of the categories, `type` and `mode`, so running it again changes nothing.
        Raises MethodNotAllowedError when the server cannot list or change schemas.
        """
        options: dict[str, Any] = {"description": description, "type": type, "mode": mode}
        return await self._run(schemas.ensure_schema(self._context, name, categories, **options))


class AsyncJobs(_Part):
    """What has been submitted (API reference, Jobs); all of it free."""

    async def get(self, id: int | str) -> Job:
        """The job as it stands. Raises NotFoundError, also once the plan's history has passed."""
        return await self._run(jobs.get_job(self._context, id))

    async def list(
        self, *, limit: int = 20, offset: int = 0, status: str | None = None, input_type: str | None = None
    ) -> Page[Job]:
        """One page of jobs: `limit` from 1 to 100, `offset` from 0; `total` on the page when the server tells it."""
        page = jobs.list_jobs(self._context, limit=limit, offset=offset, status=status, input_type=input_type)
        return await self._run(page)

    async def iterate(self, *, status: str | None = None, input_type: str | None = None) -> AsyncIterator[Job]:
        """All jobs, page by page, each once even when new ones push the pages along."""
        pages = jobs.Pages()
        while not pages.ended:
            page = await self.list(limit=jobs.MAX_PAGE, offset=pages.offset, status=status, input_type=input_type)
            for job in pages.fresh(page):
                yield job

    async def history(self, seconds: float) -> History:
        """The results and jobs of the last `seconds`, with their ages by the server's own clock."""
        return await self._run(read_history(self._context, seconds))

    async def wait(self, id: int | str, *, timeout: float | None = None) -> Job:
        """The job once it has completed, looked at ever more rarely, for at most `timeout` seconds (default: 600).

        Raises JobFailedError, and JobTimeoutError carrying the job's id.
        """
        return await self._run(jobs.wait_for_job(self._context, id, timeout=timeout))


class AsyncWebhooks(_Part):
    """Registered endpoints (API reference, Webhooks); need a Pro plan."""

    async def create(
        self, url: str, *, events: Sequence[str] = ("*",), secret: str | SecretStr | None = None
    ) -> WebhookEndpoint:
        """Register `url` (https) for job.completed, job.failed, batch.completed or all events.

        Without `secret` the server makes one: it is in the answer, this once.
        """
        secret = as_secret(secret)
        return await self._run(account.create_webhook(self._context, url, events=events, secret=secret))

    async def list(self) -> Sequence[WebhookEndpoint]:
        """Every registered endpoint, without secrets."""
        return await self._run(account.list_webhooks(self._context))

    async def delete(self, id: int | str) -> None:
        """Remove an endpoint."""
        await self._run(account.delete_webhook(self._context, id))
