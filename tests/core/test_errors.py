"""Every status and every code has a class, and every class says what it knows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import classifaily_connectors as cc
from classifaily_connectors.errors import error_class

CODES = [
    "invalid_json",
    "invalid_request",
    "unauthorized",
    "subscription_inactive",
    "plan_restriction",
    "schema_not_found",
    "method_not_allowed",
    "rate_limit_exceeded",
    "server_error",
]


@given(st.integers(300, 999), st.none() | st.sampled_from(CODES) | st.text(max_size=10))
def test_every_status_and_code_has_a_class(status: int, code: str | None) -> None:
    kind = error_class(status, code)
    assert issubclass(kind, cc.APIError)
    assert (kind is cc.ServerError) == (status >= 500)
    built = kind("No.", status=status, code=code)
    assert (built.status, built.code, built.message) == (status, code, "No.")


DOCUMENTED = {
    (400, "invalid_json"): cc.InvalidRequestError,
    (400, "invalid_request"): cc.InvalidRequestError,
    (401, "unauthorized"): cc.AuthenticationError,
    (403, "subscription_inactive"): cc.SubscriptionInactiveError,
    (403, "plan_restriction"): cc.PlanRestrictionError,
    (404, "schema_not_found"): cc.SchemaNotFoundError,
    (405, "method_not_allowed"): cc.MethodNotAllowedError,
    (429, "rate_limit_exceeded"): cc.QuotaExceededError,
    (500, "server_error"): cc.ServerError,
}
BY_STATUS = {
    400: cc.InvalidRequestError,
    401: cc.AuthenticationError,
    402: cc.APIError,
    403: cc.APIError,
    404: cc.NotFoundError,
    405: cc.MethodNotAllowedError,
    409: cc.APIError,
    413: cc.InvalidRequestError,
    422: cc.InvalidRequestError,
    429: cc.QuotaExceededError,
    503: cc.ServerError,
}


@pytest.mark.parametrize(("status", "code"), DOCUMENTED)
def test_documented_codes(status: int, code: str) -> None:
    """API reference, Errors."""
    assert error_class(status, code) is DOCUMENTED[status, code]


@pytest.mark.parametrize("status", BY_STATUS)
@pytest.mark.parametrize("code", [None, "", "a_code_still_to_come"])
def test_unknown_codes_go_by_status(status: int, code: str | None) -> None:
    assert error_class(status, code) is BY_STATUS[status]


def test_bases() -> None:
    """The few relations that callers may rely on in an `except`."""
    assert issubclass(cc.SchemaNotFoundError, cc.NotFoundError)
    for kind in (cc.ConfigurationError, cc.InvalidRequestError):
        assert issubclass(kind, ValueError)
    for kind in (
        cc.NotSentError,
        cc.OutcomeUnknownError,
        cc.JobFailedError,
        cc.JobTimeoutError,
        cc.BudgetExceededError,
    ):
        assert issubclass(kind, cc.ClassifailyError)
        assert not issubclass(kind, cc.APIError)


def test_messages() -> None:
    assert str(cc.APIError("No.")) == "No."
    advice = "see the API reference, Errors"
    assert str(cc.APIError("No.", status=402)) == f"No. (HTTP 402); {advice}"
    assert str(cc.APIError("No.", status=402, code="payment")) == f"No. (HTTP 402, payment); {advice}"
    assert cc.APIError("No.", status=402).message == "No.", "the server's own words"


def test_outcomes_of_errors_nobody_told_otherwise() -> None:
    assert cc.NotSentError("").outcome == cc.BudgetExceededError("").outcome == "not_sent"
    assert cc.OutcomeUnknownError("").outcome == cc.JobTimeoutError("", job_id="84").outcome == "unknown"
    assert cc.JobFailedError("").outcome == "failed"
    assert cc.APIError("").outcome == "rejected"
    assert cc.SignatureError("").outcome is None
