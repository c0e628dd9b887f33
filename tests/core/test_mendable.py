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
    QuotaExceededError,
    RateLimitedError,
    ServerError,
)
from classifaily_connectors.retry import mendable


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
        (RuntimeError("another run is writing this output"), True),
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
