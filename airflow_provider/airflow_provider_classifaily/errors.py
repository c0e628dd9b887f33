"""Which of the core's errors Airflow may retry.

The law of this file: it is the only place that decides so. An error that no retry can help, or whose retry could pay
twice, becomes `AirflowFailException` (the task fails at this try, whatever `retries` says); every other error passes
untouched, and Airflow's own retries apply.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from classifaily_connectors import ClassifailyError

SPENT = {
    "not_sent": "Nothing was sent and nothing billed",
    "rejected": "The request was refused and is not billed",
    "failed": "The server says that the request failed; the account's usage tells whether it was billed",
    "unknown": "The request may have been executed and billed, and its answer is lost: a rerun would pay again",
}
"""What a call that brought no answer cost, by the outcome of its error."""


def spent(error: ClassifailyError) -> str:
    """What the call that raised the error cost; empty where no request is concerned."""
    return SPENT.get(error.outcome or "", "")


@contextmanager
def fail_fast(*, paid: bool = True, kept: bool | None = None) -> Generator[None]:
    """Run ClassifAIly calls under Airflow's retries, without retrying in vain and without paying twice.

    Left to Airflow's `retries` is what surely was not executed (no connection, a short Retry-After) and what the API
    asks to send again (500 `server_error`); with `paid=False`, for calls that cost nothing, every failure of the
    server. Final is all else: a refusal, a used-up quota or budget, too many failed rows, a failed job; and, because it
    may be billed already, an unknown outcome, a job that outlasted our patience, and an `execution_timeout` that ends
    the call.

    Work of many payments says with `kept` whether a retry replays what was paid. If so, whatever may mend by itself is
    left to `retries`, an unknown outcome and an `execution_timeout` included; if not, nothing is.

    Raises AirflowFailException carrying the class and the message of the error; its `__cause__` is the core's error
    with `code`, `limit`, `used`, `resets_at` and `outcome` (for an `on_failure_callback`).
    """
    from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout

    from classifaily_connectors import ClassifailyError
    from classifaily_connectors.retry import mendable, transient

    try:
        yield
    except ClassifailyError as error:
        if transient(error, once=paid) if kept is None else kept and mendable(error):
            raise
        # The core's errors hold neither the key nor the input, so the chain may be logged as it is.
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error
    except AirflowTaskTimeout as error:
        if kept or (kept is None and not paid):
            raise
        raise AirflowFailException(
            "execution_timeout ended the call before its answer came: it may have been executed and billed. "
            "Set the connection's timeout below the task's execution_timeout"
        ) from error
