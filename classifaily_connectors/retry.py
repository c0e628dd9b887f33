"""When a request may be sent again.

The law of this file: it is pure (no socket, no clock, no sleep), and money decides. A request that must run at most
once is repeated only when it surely did not run, or when the API's own page asks for it (500 `server_error`:
"Retry with exponential backoff", API reference, Errors).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifaily_connectors.errors import (
    ClassifailyError,
    ConfigurationError,
    InvalidRequestError,
    JobTimeoutError,
    NotSentError,
    OutcomeUnknownError,
    RateLimitedError,
    ServerError,
    StorageError,
    StoreError,
    UnsettledRowsError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from classifaily_connectors.errors import Outcome

QUOTA, UNAVAILABLE, SERVER_ERROR = 429, 503, 500
POLL_GROWTH, POLL_CAP = 1.5, 30.0
_SETTLED = (
    AssertionError, AttributeError, ImportError, LookupError, NotImplementedError, TypeError, ValueError,
    FileNotFoundError, IsADirectoryError, NotADirectoryError, PermissionError,
)  # fmt: skip
"""Errors of a program or of its arguments: they come again however long one waits."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try; times are seconds.

    `attempts` counts the first try (1 never retries). Waits are drawn evenly from 0 to `base` * 2**n, at most `cap`
    (full jitter), unless the server names a `Retry-After` of at most `max_retry_after`. No retry starts once
    `max_elapsed` has passed. A job is awaited up to `max_wait`, looked at after `poll_interval`, then ever more rarely.

    Raises ConfigurationError for values that cannot work.
    """

    attempts: int = 3
    max_elapsed: float = 120.0
    max_wait: float = 600.0
    base: float = 0.5
    cap: float = 8.0
    max_retry_after: float = 60.0
    poll_interval: float = 1.0

    def __post_init__(self) -> None:
        if self.attempts < 1:
            raise ConfigurationError(f"retry.attempts is {self.attempts}; it counts the first try, so at least 1")
        for name in ("max_elapsed", "max_wait", "base", "cap", "max_retry_after", "poll_interval"):
            if not getattr(self, name) >= 0:
                raise ConfigurationError(f"retry.{name} is {getattr(self, name)}; it must be 0 or more seconds")

    def delay(self, attempt: int, retry_after: float | None = None) -> float:
        """Seconds to wait after attempt number `attempt` (from 1)."""
        if retry_after is not None:
            return retry_after
        return random.uniform(0, min(self.cap, self.base * 2 ** min(attempt - 1, 64)))  # noqa: S311  # jitter, not a secret

    def poll_delay(self, look: int) -> float:
        """Seconds to wait before look number `look` (from 1) at a running job, spread so that waiters do not march."""
        pause = min(POLL_CAP, self.poll_interval * POLL_GROWTH ** min(look - 1, 64))
        return pause * random.uniform(0.8, 1.2)  # noqa: S311


def repeatable(
    outcome: Outcome,
    *,
    once: bool,
    status: int | None = None,
    code: str | None = None,
    retry_after: float | None = None,
    max_retry_after: float = 60.0,
) -> bool:
    """Whether an attempt that ended so may be followed by another; `once` marks requests that must not run twice.

    429 means the month's quota and is repeated only when a short Retry-After says that it meant a burst.
    """
    short = retry_after is not None and retry_after <= max_retry_after
    if outcome == "not_sent":
        return True
    if status == QUOTA:
        return short
    if status == UNAVAILABLE:
        return short or (not once and retry_after is None)
    if outcome == "failed":
        return not once or (status == SERVER_ERROR and code == "server_error")
    return outcome == "unknown" and not once


def transient(error: object, *, once: bool) -> bool:
    """Whether the call that raised `error` may be made again after a while, by whoever runs the program.

    It is what `repeatable` says of one attempt, said of a whole call that used its attempts up. `once` marks calls
    that cost money: for them it is False whenever a request may have been executed, and for what the server judged.
    """
    if isinstance(error, RateLimitedError | ServerError):
        outcome = error.outcome or "unknown"
        return repeatable(outcome, once=once, status=error.status, code=error.code, retry_after=error.retry_after)
    return isinstance(error, NotSentError)


_ANEW = ("ledger", "refresh", "on_unknown")
"""The options that may have a run buy what was bought before."""


def replays(options: Mapping[str, object]) -> bool:
    """Whether a bulk run with these options, repeated, pays for nothing twice: it has a ledger, and neither `refresh`
    nor `on_unknown="resend"` has it buy anew on purpose, which a repetition would do again."""
    return options.get("ledger") is not False and not options.get("refresh") and options.get("on_unknown") != "resend"


def check_repetition(options: Mapping[str, object], *, attempt: int) -> None:
    """Refuse to repeat unasked what would pay again: to be asked when the work begins, with the options in force then.

    What a platform is told beforehand does not hold for mapped tasks, for options from a template and for a worker
    that died. `attempt` counts from 1; what somebody runs again on purpose begins anew with 1.

    Raises InvalidRequestError, with nothing sent.
    """
    if attempt > 1 and not replays(options):
        # One at a time: a ledger's URL may hold a password.
        given = next(f"{name}={options[name]!r}" for name in _ANEW if not replays({name: options.get(name)}))
        raise InvalidRequestError(
            f"attempt {attempt} is refused: with {given} it would pay again for what an earlier attempt bought; "
            "run it again on purpose, or without these options",
            outcome="not_sent",
        )


def mendable(error: object) -> bool:
    """Whether work that the ledger makes safe to repeat may succeed when it is repeated after a while.

    Money is not at stake here: what was paid is replayed, what may have been paid is parked. False for what the
    caller, the plan or the server's verdict would have to change first; True for outages, ours and the server's.
    """
    if isinstance(error, StoreError):
        return error.passing
    if isinstance(error, UnsettledRowsError):
        return error.mends
    if isinstance(error, ClassifailyError):
        return transient(error, once=False) or isinstance(error, OutcomeUnknownError | JobTimeoutError | StorageError)
    return isinstance(error, Exception) and not isinstance(error, _SETTLED)
