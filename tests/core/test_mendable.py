"""Which errors a platform's retry may mend, once a ledger makes it safe."""

from __future__ import annotations

import pytest

from classifaily_connectors import (
    AuthenticationError,
    BudgetExceededError,
    ConfigurationError,
    ErrorRatioExceededError,
    InvalidRequestError,
    JobFailedError,
    JobTimeoutError,
    NotSentError,
    OutcomeUnknownError,
    OutputBusyError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    StorageError,
)
from classifaily_connectors.retry import check_repetition, mendable, replays


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NotSentError("no connection"), True),
        (OutcomeUnknownError("lost"), True),
        (JobTimeoutError("still running", job_id="1"), True),
        (ServerError("failed", status=500, outcome="failed"), True),
        (ServerError("away", status=503, outcome="failed"), True),
        (RateLimitedError("slow down", status=429, retry_after=2.0), True),
        (OSError("no space left on device"), True),
        (TimeoutError("the platform's own"), True),
        (OutputBusyError("another run is writing this output"), True),
        (StorageError("no space left on device"), True),
        (QuotaExceededError("used up", status=429), False),
        (AuthenticationError("who", status=401), False),
        (InvalidRequestError("empty"), False),
        (ConfigurationError("no key"), False),
        (BudgetExceededError("too dear"), False),
        (ErrorRatioExceededError("too many"), False),
        (JobFailedError("failed"), False),
        (FileNotFoundError("tickets.csv"), False),
        (ImportError("pyarrow"), False),
        (TypeError("a bug"), False),
        (KeyboardInterrupt(), False),
        (None, False),
    ],
)
def test_what_may_mend_itself(error: object, expected: bool) -> None:
    assert mendable(error) is expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"ledger": "sqlite:///ledger.db", "refresh": False, "on_unknown": "reconcile"}, True),
        ({"ledger": False}, False),
        ({"refresh": True}, False),
        ({"refresh": "failed"}, False),
        ({"on_unknown": "resend"}, False),
    ],
)
def test_what_may_be_repeated_as_a_whole(options: dict[str, object], expected: bool) -> None:
    assert replays(options) is expected
    check_repetition(options, attempt=1)
    if expected:
        check_repetition(options, attempt=2)
    else:
        with pytest.raises(InvalidRequestError, match="attempt 2 is refused") as refused:
            check_repetition({"ledger": "postgresql://u:hidden@db/labels", **options}, attempt=2)
        assert refused.value.outcome == "not_sent"
        assert "hidden" not in str(refused.value)
