"""One call: send, judge what came back, repeat if that is safe, read the answer or raise.

The law of this file: every status and every body ends in a value or in one of our errors, and an error is built from
the server's envelope alone. Errors are raised outside `except` blocks, so that none drags another's data along.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, TypeVar

from classifaily_connectors.errors import (
    ClassifailyError,
    ConfigurationError,
    NotSentError,
    Outcome,
    OutcomeUnknownError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    error_class,
)
from classifaily_connectors.fields import Count, Instant, as_map
from classifaily_connectors.models import Model
from classifaily_connectors.operations.effects import Lost, Reply, Send, Sleep
from classifaily_connectors.retry import QUOTA, UNAVAILABLE, repeatable
from classifaily_connectors.settings import BASE_URL_HINT, PROXY_VARIABLES
from classifaily_connectors.wire import read_json

if TYPE_CHECKING:
    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.operations.effects import Answer, Operation
    from classifaily_connectors.retry import RetryPolicy

T = TypeVar("T")
Reader = Callable[[Any], T]
"""Turns decoded JSON (None for an empty body) into a value; raises ValueError when the shape says nothing."""

_UNSURE_GATEWAY = (502, 504)
_ENDED_WELL = range(200, 300)
_NOT_FOUND, _TOO_LARGE = 404, 413
_REDIRECTED = range(300, 400)
_SERVER_FAILED = range(500, 1000)
_PERHAPS_BILLED = (
    "The request may have been executed and billed, so it is not sent again by itself: look in jobs.list() or in the "
    "dashboard before you send it again"
)


class _Unreadable:
    pass


@dataclass(frozen=True, slots=True)
class _Trouble:
    """An attempt that brought no value: the error to raise unless another attempt may follow."""

    error: ClassifailyError
    outcome: Outcome
    status: int | None = None
    code: str | None = None
    retry_after: float | None = None


class _Quota(Model):
    limit: Count = None
    used: Count = None
    resets_at: Instant = None


def call(context: Context, send: Send, read: Reader[T]) -> Operation[T]:
    """What `read` makes of the answer to `send`, after as many attempts as are safe and the policy allows."""
    policy = context.policy
    if context.timeout is not None:
        send = replace(send, timeout=context.timeout)
    elapsed = 0.0
    attempt = 1
    while True:
        answer = yield send
        assert answer is not None, "a driver answers every Send"  # noqa: S101
        if isinstance(answer, Reply):
            context.server_date = answer.headers.get("date")
        if isinstance(answer, Reply) and answer.status in _ENDED_WELL:
            value = _read(answer.body, read)
            if not isinstance(value, _Unreadable):
                return value
        trouble = _judge(answer, send, max_retry_after=policy.max_retry_after)
        pause = policy.delay(attempt, trouble.retry_after)
        elapsed += answer.elapsed + pause
        attempt += 1
        if attempt > policy.attempts or elapsed > policy.max_elapsed or not _may_repeat(trouble, send, policy):
            raise trouble.error
        yield Sleep(pause)


def _may_repeat(trouble: _Trouble, send: Send, policy: RetryPolicy) -> bool:
    return repeatable(
        trouble.outcome,
        once=send.once,
        status=trouble.status,
        code=trouble.code,
        retry_after=trouble.retry_after,
        max_retry_after=policy.max_retry_after,
    )


def _read(body: bytes, read: Reader[T]) -> T | _Unreadable:
    try:
        return read(read_json(body) if body.strip() else None)
    except (ValueError, RecursionError):  # not JSON, not the shape (pydantic), nested too deep
        return _Unreadable()


def _judge(answer: Answer, send: Send, *, max_retry_after: float) -> _Trouble:
    once = send.once
    if isinstance(answer, Lost):
        return _lost(answer, once=once)
    status = answer.status
    if status in _ENDED_WELL:
        return _unsure(status, f"the answer (HTTP {status}) cannot be read. {BASE_URL_HINT}", once=once)
    if status in _REDIRECTED:
        message = f"the server redirects (HTTP {status}), and a key is never sent after a redirect. {BASE_URL_HINT}"
        return _Trouble(ConfigurationError(message), "rejected", status)
    envelope = _envelope(answer.body)
    unsigned = envelope is None and status != UNAVAILABLE
    if status in _SERVER_FAILED and (unsigned or status in _UNSURE_GATEWAY):
        return _unsure(status, f"a gateway answered HTTP {status} in the API's place", once=once)
    return _refused(answer, envelope, max_retry_after, size=len(send.body or b""))


def _lost(lost: Lost, *, once: bool) -> _Trouble:
    if lost.outcome == "not_sent":
        hint = f"The proxy is {lost.proxy}: check {PROXY_VARIABLES}" if lost.proxy else BASE_URL_HINT
        return _Trouble(NotSentError(f"could not connect: {lost.reason}. {hint}"), "not_sent")
    what = f"no complete answer: {lost.reason}"
    return _unsure(None, what if once else f"{what}; nothing was billed, try again in a while", once=once)


def _unsure(status: int | None, what: str, *, once: bool) -> _Trouble:
    if once:
        return _Trouble(OutcomeUnknownError(f"{what}. {_PERHAPS_BILLED}", status=status), "unknown", status)
    return _Trouble(ServerError(what, status=status, outcome="unknown"), "unknown", status)


def _refused(reply: Reply, envelope: Mapping[str, Any] | None, max_retry_after: float, *, size: int) -> _Trouble:
    error = envelope or {}
    code = error["code"] if isinstance(error.get("code"), str) else None
    message = str(error.get("message") or _unexplained(reply, envelope))
    if reply.status == _TOO_LARGE:
        message = f"{message}: the request has {size:,} bytes, and servers commonly take 1,048,576; shorten the input"
    retry_after = _retry_after(reply.headers)
    kind = error_class(reply.status, code)
    if kind is QuotaExceededError and retry_after is not None and retry_after <= max_retry_after:
        kind = RateLimitedError
    quota = _Quota.model_validate({name: error.get(name) for name in ("limit", "used", "resets_at")})
    outcome: Outcome = "failed" if issubclass(kind, ServerError) else "rejected"
    built = kind(
        message,
        status=reply.status,
        code=code,
        docs=error["docs"] if isinstance(error.get("docs"), str) else None,
        outcome=outcome,
        limit=quota.limit,
        used=quota.used,
        resets_at=quota.resets_at,
        retry_after=retry_after if reply.status in (QUOTA, UNAVAILABLE) else None,
    )
    return _Trouble(built, outcome, reply.status, code, built.retry_after)


def _unexplained(reply: Reply, envelope: Mapping[str, Any] | None) -> str:
    if envelope is None and _html(reply):
        return f"a web page came instead of the API's JSON. {BASE_URL_HINT}"
    if envelope is None and reply.status == _NOT_FOUND:
        return f"there is no API at this address. {BASE_URL_HINT}"
    return "the request is too large" if reply.status == _TOO_LARGE else "the server gave no reason"


def _envelope(body: bytes) -> dict[str, Any] | None:
    """The error's fields, whether `error` is an object (reference) or a text (guides); None without an envelope.

    The reference places limit, used and resets_at in the error; they may also stand beside it.
    """
    try:
        wire = as_map(read_json(body))
    except ValueError:
        return None
    if not wire.get("error"):
        return None
    error = wire.pop("error")
    return {**wire, **(as_map(error) or {"message": str(error)})}


def _html(reply: Reply) -> bool:
    return "html" in reply.headers.get("content-type", "").lower() or reply.body.lstrip()[:1] == b"<"


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds until the server wants us back; a date is read against the server's own clock, never against ours."""
    value = headers.get("retry-after")
    if not value:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            now = parsedate_to_datetime(headers.get("date", ""))
            seconds = (parsedate_to_datetime(value) - now).total_seconds()
        except (ValueError, TypeError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
