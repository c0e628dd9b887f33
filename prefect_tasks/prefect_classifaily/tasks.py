"""The tasks: one call of the API each, as a sync and an async twin.

The law of this file: a task names its arguments, makes a client, calls the core and returns its model. Both twins are
real `Task` objects (no dispatch between them), so `.submit`, `.map`, `.delay` and `.with_options` work on each.

Two layers retry. The client rides out what passes in seconds, within one task run. Prefect's retries, shown as
AwaitingRetry, ride out an outage of half a minute; they start a new task run attempt only for errors after which
surely nothing was executed, or which the API asks to retry. Change them with `.with_options(retries=…)`.

Nothing is cached (`NO_CACHE`): usage and schemas change behind Prefect's back, and what is paid for is not decided by
a cache that can be switched off, expire or fail to write. Prefect stores which runs a task's arguments came from, not
their values; the arguments of your flow, however, it stores and shows, and `.delay` stores a task's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.tasks import Task, exponential_backoff

from classifaily_connectors import BatchResult, Classification, Job, Schema, Usage
from classifaily_connectors.retry import transient
from prefect_classifaily.credentials import CredentialsLike, aresolve, resolve

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State, TaskRun

    from classifaily_connectors.media import Input
    from classifaily_connectors.operations.payloads import Item
    from classifaily_connectors.taxonomy import CategoryLike

RETRIES, BACKOFF, JITTER = 3, 5, 0.5
"""Prefect's own retries: after about 5, 10 and 20 seconds."""


# Plain functions on purpose: Prefect ignores a `retry_condition_fn` that is any other kind of callable.
def retry_transient(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """The `retry_condition_fn` of the paid tasks: True only when running again cannot pay twice.

    True for NotSentError, RateLimitedError (a short Retry-After) and the ServerErrors that the API asks to retry.
    False for OutcomeUnknownError, JobTimeoutError, a used-up quota, every other refusal, and Prefect's own timeout.
    """
    return transient(state.data, once=True)


def retry_idempotent(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001
    """The `retry_condition_fn` of the free tasks: as `retry_transient`, and True for every ServerError."""
    return transient(state.data, once=False)


paid = task(
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(BACKOFF),
    retry_jitter_factor=JITTER,
    retry_condition_fn=retry_transient,
    cache_policy=NO_CACHE,
)
free = task(
    retries=RETRIES,
    retry_delay_seconds=exponential_backoff(BACKOFF),
    retry_jitter_factor=JITTER,
    retry_condition_fn=retry_idempotent,
    cache_policy=NO_CACHE,
)


@paid
def classify(
    input: Input,
    *,
    credentials: CredentialsLike = None,
    categories: Iterable[CategoryLike] | None = None,
    schema: int | str | Schema | None = None,
    type: str = "text",
    mode: str | None = None,
    top_n: int | None = None,
    threshold: float | None = None,
    explain: bool = False,
) -> Classification:
    """Classify one input (API reference, Classify); costs one request.

    `credentials` is a `ClassifailyCredentials` block, the name of a saved one, or None for the environment
    (CLASSIFAILY_KEY). The rest is as in `ClassifailyClient.classify`: `schema` beats `categories`, `threshold` runs
    from 0 to 1, `top_n` from 1 to 10. With `.map`, wrap what all inputs share in `unmapped(...)`.

    Raises OutcomeUnknownError, never retried, when the answer was lost: it may have been billed.
    """
    with resolve(credentials).get_client() as client:
        return without_excerpt(
            client.classify(
                input,
                categories=categories,
                schema=schema,
                type=type,
                mode=mode,
                top_n=top_n,
                threshold=threshold,
                explain=explain,
            )
        )


@paid
async def aclassify(
    input: Input,
    *,
    credentials: CredentialsLike = None,
    categories: Iterable[CategoryLike] | None = None,
    schema: int | str | Schema | None = None,
    type: str = "text",
    mode: str | None = None,
    top_n: int | None = None,
    threshold: float | None = None,
    explain: bool = False,
) -> Classification:
    """The async twin of `classify`; see there."""
    block = await aresolve(credentials)
    async with block.get_async_client() as client:
        return without_excerpt(
            await client.classify(
                input,
                categories=categories,
                schema=schema,
                type=type,
                mode=mode,
                top_n=top_n,
                threshold=threshold,
                explain=explain,
            )
        )


@paid
def classify_batch(
    items: Iterable[Item],
    *,
    credentials: CredentialsLike = None,
    categories: Iterable[CategoryLike] | None = None,
    schema: int | str | Schema | None = None,
    type: str | None = None,
    mode: str | None = None,
    threshold: float | None = None,
    explain: bool = False,
) -> BatchResult:
    """Classify several inputs in ONE API call (API reference, Batch); each item costs one request.

    `items` are inputs, or mappings with `input` and perhaps `id`, `type` and `categories`. How many fit in a call
    depends on the plan (`get_usage().limits.batch_size`); a call that is too large is refused, not split. `results`
    come in the order of the items; an item that failed has status `failed` and an `error`, and fails no task.
    Pass a long list as `prefect.utilities.annotations.quote(items)`, or Prefect searches it for futures.

    Raises what `classify` raises.
    """
    with resolve(credentials).get_client() as client:
        return client.batch(
            items,
            categories=categories,
            schema=schema,
            type=type,
            mode=mode,
            threshold=threshold,
            explain=explain,
        )


@paid
async def aclassify_batch(
    items: Iterable[Item],
    *,
    credentials: CredentialsLike = None,
    categories: Iterable[CategoryLike] | None = None,
    schema: int | str | Schema | None = None,
    type: str | None = None,
    mode: str | None = None,
    threshold: float | None = None,
    explain: bool = False,
) -> BatchResult:
    """The async twin of `classify_batch`; see there."""
    block = await aresolve(credentials)
    async with block.get_async_client() as client:
        return await client.batch(
            items,
            categories=categories,
            schema=schema,
            type=type,
            mode=mode,
            threshold=threshold,
            explain=explain,
        )


@free
def ensure_schema(
    name: str,
    categories: Iterable[CategoryLike],
    *,
    credentials: CredentialsLike = None,
    description: str | None = None,
    type: str | None = None,
    mode: str | None = None,
) -> Schema:
    """The saved schema of this name with exactly these categories: found, updated or created; free.

    Give it to `classify(schema=…)`. Compared by content, so running it again changes nothing.

    Raises MethodNotAllowedError when the server cannot list or change schemas: use the dashboard then.
    """
    with resolve(credentials).get_client() as client:
        return client.schemas.ensure(name, categories, description=description, type=type, mode=mode)


@free
async def aensure_schema(
    name: str,
    categories: Iterable[CategoryLike],
    *,
    credentials: CredentialsLike = None,
    description: str | None = None,
    type: str | None = None,
    mode: str | None = None,
) -> Schema:
    """The async twin of `ensure_schema`; see there."""
    block = await aresolve(credentials)
    async with block.get_async_client() as client:
        return await client.schemas.ensure(name, categories, description=description, type=type, mode=mode)


@free
def get_usage(month: str | None = None, *, credentials: CredentialsLike = None) -> Usage:
    """What the plan allows and what is used, in `month` (YYYY-MM) or now (API reference, Usage); free."""
    with resolve(credentials).get_client() as client:
        return client.usage(month)


@free
async def aget_usage(month: str | None = None, *, credentials: CredentialsLike = None) -> Usage:
    """The async twin of `get_usage`; see there."""
    block = await aresolve(credentials)
    async with block.get_async_client() as client:
        return await client.usage(month)


A = TypeVar("A", bound=Classification)


def without_excerpt(answer: A) -> A:
    """The answer without the API's excerpt of the input, which would end in Prefect's result storage."""
    return answer.model_copy(update={"input_preview": None}) if isinstance(answer, Job) else answer
