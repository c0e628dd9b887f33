"""The synchronous client.

The law of this file: thin. A method names its arguments, hands them to the operation of the same name, and runs it;
`async_client` holds its twin, and a test keeps their signatures and documentation equal. A method that is given an
input forgets it before it runs, so that a traceback printed with its locals cannot show it.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, Unpack, overload

from classifaily_connectors.arguments import checked_keywords
from classifaily_connectors.bulk.runner import close_runs
from classifaily_connectors.clients.bulk import BulkMethods
from classifaily_connectors.clients.resources import Jobs, Schemas, Webhooks
from classifaily_connectors.operations import account, classify
from classifaily_connectors.operations.context import Context
from classifaily_connectors.retry import RetryPolicy
from classifaily_connectors.settings import Settings, as_secret
from classifaily_connectors.transport import SyncTransport

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import SecretStr

    from classifaily_connectors.media import Input
    from classifaily_connectors.models import BatchResult, Classification, Job, Schema, Usage
    from classifaily_connectors.operations.payloads import BatchOptions, ClassifyOptions, Item
    from classifaily_connectors.taxonomy import CategorySet

T = TypeVar("T")
E = TypeVar("E", bound=Enum)


class ClassifailyClient(BulkMethods):
    """A client for the ClassifAIly API; a context manager, safe to share between threads and across a fork.

    `api_key` and `base_url` default to CLASSIFAILY_KEY and CLASSIFAILY_BASE_URL. `timeout` is the seconds one attempt
    may wait for the answer (default: 60 for one input, 30 + 0.5 per item for a batch, 30 for reads). `application`
    is added to the User-Agent, e.g. "airflow/3.3.2"; `key_source` says where `api_key` comes from, for the error that
    refuses it, e.g. "the Airflow connection x".

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
        key_source: str | None = None,
    ) -> None:
        api_key = as_secret(api_key)
        settings = Settings.resolve(api_key, base_url, timeout, key_source=key_source)
        transport = SyncTransport(settings, max_connections=max_connections, application=application)
        super().__init__(transport, Context(retry, settings.timeout))
        self.schemas = Schemas(transport, self._context)
        """Saved category sets."""
        self.jobs = Jobs(transport, self._context)
        """What has been submitted, and how it ended."""
        self.webhooks = Webhooks(transport, self._context)
        """Registered endpoints."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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

    def close(self) -> None:
        """Stop this client's bulk runs, wait for what they have under way, and close all connections.

        The client cannot be used afterwards.
        """
        close_runs(self._transport)
        self._transport.close()

    @overload  # an Enum is a set like any other, and more
    def classify(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, input: Input, *, categories: type[E], **options: Unpack[ClassifyOptions]
    ) -> Classification[E]: ...
    @overload
    def classify(
        self, input: Input, *, categories: CategorySet | None = None, **options: Unpack[ClassifyOptions]
    ) -> Classification: ...
    @checked_keywords
    def classify(
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
        return self._run(operation)

    @checked_keywords
    def submit(
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
        return self._run(operation)

    @overload  # an Enum is a set like any other, and more
    def batch(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, items: Iterable[Item], *, categories: type[E], **options: Unpack[BatchOptions]
    ) -> BatchResult[E]: ...
    @overload
    def batch(
        self, items: Iterable[Item], *, categories: CategorySet | None = None, **options: Unpack[BatchOptions]
    ) -> BatchResult: ...
    @checked_keywords
    def batch(
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
        return self._run(operation)

    def usage(self, month: str | None = None) -> Usage:
        """What the plan allows and what is used, in `month` (YYYY-MM) or now (API reference, Usage); free."""
        return self._run(account.usage(self._context, month))
