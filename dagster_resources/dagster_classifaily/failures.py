"""The errors that a retry cannot help, in Dagster's words.

A `RetryPolicy` runs the whole step again, whatever went wrong, unless the error is a `Failure` that forbids it. When
the quota is used up that is pointless; when the answer to a paid request was lost, it pays a second time. With the
ledger nothing is paid a second time, so a table may be repeated after any outage; without it, after none.

The law of this file: an error of ours never changes its class. Those below are raised as *both*: `except
QuotaExceededError` still catches them, and Dagster sees a `Failure(allow_retries=False)` whose metadata say what the
error knows.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, cast

from dagster import Failure, MetadataValue

from classifaily_connectors.errors import ClassifailyError
from classifaily_connectors.retry import transient
from dagster_classifaily.stopping import StepStoppedError, interruptible, uninterrupted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import ParamSpec, TypeVar

    P = ParamSpec("P")
    T = TypeVar("T")
    Rule = Callable[[object], bool]
    """Whether a step that ended in this error may run again."""

_TOLD = ("code", "status", "outcome", "limit", "used", "needed", "available", "errors", "rows", "output", "job_id")


def paid_call(error: object) -> bool:
    """The rule of a single call: of our errors, those after which surely nothing was executed (no connection, a short
    Retry-After), and 500 `server_error`, which the API asks to send again.

    A step cannot tell its paid calls from its free ones, so all count as paid.
    """
    return not isinstance(error, ClassifailyError) or transient(error, once=True)


def never(error: object) -> bool:  # noqa: ARG001
    """The rule of a table that would pay anew for what was paid: without a ledger, or with a refresh."""
    return False


def as_raised(error: Exception, may_run_again: Rule = paid_call) -> Exception:
    """`error`, also a `Failure(allow_retries=False)` unless the step `may_run_again`.

    An error that is not ours becomes the cause of one. Metadata: code, status (HTTP), outcome, limit, used,
    resets_at, docs, job_id, needed, available, errors, rows, output; those that are known.
    """
    if isinstance(error, Failure | StepStoppedError) or may_run_again(error):
        return error
    if not isinstance(error, ClassifailyError):
        failure = Failure(f"{type(error).__name__}: {error}", allow_retries=False)
        failure.__cause__ = error
        return failure
    failure = Failure(str(error), metadata=_metadata(error), allow_retries=False)
    kind = _failing(type(error))
    told = kind.__new__(kind, error.message)
    vars(told).update(vars(error), **vars(failure), _plain=error.with_traceback(None))
    return told


def _failing(kind: type[ClassifailyError]) -> type[ClassifailyError]:
    body = {"__doc__": kind.__doc__, "__module__": kind.__module__, "__reduce__": _reduce}
    return cast("type[ClassifailyError]", type(kind.__name__, (Failure, kind), body))


def _reduce(told: Any) -> tuple[Any, ...]:
    # A class made here has no address to be unpickled from: the plain error travels, and is told anew.
    return as_raised, (told._plain, never)  # noqa: SLF001


def _metadata(error: ClassifailyError) -> dict[str, Any]:
    known: dict[str, Any] = {name: getattr(error, name, None) for name in _TOLD}
    if docs := getattr(error, "docs", None):
        known["docs"] = MetadataValue.url(docs)
    if resets_at := getattr(error, "resets_at", None):
        known["resets_at"] = MetadataValue.timestamp(resets_at)
    return {name: value for name, value in known.items() if value is not None}


def raising(method: Callable[P, T], may_run_again: Rule = paid_call, *, repeatable: bool = False) -> Callable[P, T]:
    """`method`, with its errors told to Dagster; forgets the arguments, or tracebacks with locals would show them.

    `repeatable` says whether a step that was interrupted meanwhile may run again, elsewhere: nothing was paid, or a
    ledger knows it.
    """

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with interruptible(repeatable=repeatable):
                return method(*args, **kwargs)
        except ClassifailyError as error:
            told = as_raised(error, may_run_again).with_traceback(None)
        except Exception as error:
            told = as_raised(error, may_run_again)
            if told is error:
                raise
        finally:
            del args, kwargs
        raise told

    return call


def araising(
    method: Callable[P, Awaitable[T]], may_run_again: Rule = paid_call, *, repeatable: bool = False
) -> Callable[P, Awaitable[T]]:
    """See `raising`."""

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            with interruptible(repeatable=repeatable):
                found: T = await uninterrupted(method(*args, **kwargs))
                return found
        except ClassifailyError as error:
            told = as_raised(error, may_run_again).with_traceback(None)
        except Exception as error:
            told = as_raised(error, may_run_again)
            if told is error:
                raise
        finally:
            del args, kwargs
        raise told

    return call


def free(method: Callable[P, T]) -> Callable[P, T]:
    """`raising`, for what costs nothing, or is paid once by its ledger."""
    return raising(method, repeatable=True)


def afree(method: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """See `free`."""
    return araising(method, repeatable=True)
