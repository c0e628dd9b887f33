"""One call, attempt by attempt: what is sent again, what is not, and what the caller is told.

No server and no clock: the operation is driven by hand.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import classifaily_connectors as cc
from classifaily_connectors.operations.call import call
from classifaily_connectors.operations.context import Context
from classifaily_connectors.operations.effects import Lost, Reply, Send
from classifaily_connectors.retry import RetryPolicy, repeatable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from conftest import Driven

    Drive = Callable[..., Driven]
    MakeReply = Callable[..., Reply]

PAID = Send("POST", "/classify", body=b"{}", once=True)
READ = Send("GET", "/usage")
PLENTY = RetryPolicy(attempts=3, max_elapsed=1e9)
REFUSED = Lost("not_sent", "connection refused")
LOST = Lost("unknown", "ReadTimeout")


def value_of(wire: Any) -> Any:
    """A reader that takes any object with a `value`."""
    if not isinstance(wire, dict) or "value" not in wire:
        raise ValueError("no value")
    return wire["value"]


def error(code: str | None, message: str = "No.", **more: Any) -> dict[str, Any]:
    return {"error": {"code": code, "message": message, **more}}


def body(content: Any) -> bytes:
    return content if isinstance(content, bytes) else json.dumps(content).encode()


def answer(status: int, content: Any = b"", **headers: str) -> Reply:
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, body(content))


HTML = b"<html><h1>502 Bad Gateway</h1></html>"
SERVER_ERROR = answer(500, error("server_error"))
# What came of an attempt -> (does a billable call go on?, does a read go on?, the error of each at the end).
# The retry table of the design; 3 attempts at most.
TABLE: dict[str, tuple[Reply | Lost, bool, bool, type[cc.ClassifailyError], type[cc.ClassifailyError]]] = {
    "no connection": (REFUSED, True, True, cc.NotSentError, cc.NotSentError),
    "answer lost": (LOST, False, True, cc.OutcomeUnknownError, cc.ServerError),
    "500 server_error": (SERVER_ERROR, True, True, cc.ServerError, cc.ServerError),
    "500 another code": (answer(500, error("boom")), False, True, cc.ServerError, cc.ServerError),
    "500 no code": (answer(500, {"error": "boom"}), False, True, cc.ServerError, cc.ServerError),
    "501 server_error": (answer(501, error("server_error")), False, True, cc.ServerError, cc.ServerError),
    "500 web page": (answer(500, HTML), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "500 empty": (answer(500), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "500 empty error": (answer(500, {"error": None}), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "502": (answer(502, HTML), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "502 with envelope": (answer(502, error("server_error")), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "504 with envelope": (answer(504, error("server_error")), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "504": (answer(504), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "520": (answer(520, b"error code: 520"), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "999": (answer(999), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "503": (answer(503, error("maintenance")), False, True, cc.ServerError, cc.ServerError),
    "503 web page": (answer(503, HTML), False, True, cc.ServerError, cc.ServerError),
    "503, back in 5 s": (answer(503, HTML, retry_after="5"), True, True, cc.ServerError, cc.ServerError),
    "503, back in an hour": (answer(503, HTML, retry_after="3600"), False, False, cc.ServerError, cc.ServerError),
    "200 unreadable": (answer(200, HTML), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "200 empty": (answer(200), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "200 another shape": (answer(200, {"error": "no"}), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "200 cut": (answer(200, b'{"value": 1'), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "200 not UTF-8": (answer(200, b'{"value": "\xff"}'), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "200 too deep": (answer(200, b"[" * 100_000), False, True, cc.OutcomeUnknownError, cc.ServerError),
    "301": (answer(301, HTML), False, False, cc.ConfigurationError, cc.ConfigurationError),
    "304": (answer(304), False, False, cc.ConfigurationError, cc.ConfigurationError),
    "308": (answer(308), False, False, cc.ConfigurationError, cc.ConfigurationError),
    "400": (answer(400, error("invalid_request")), False, False, cc.InvalidRequestError, cc.InvalidRequestError),
    "400 no reason": (answer(400), False, False, cc.InvalidRequestError, cc.InvalidRequestError),
    "401": (answer(401, error("unauthorized")), False, False, cc.AuthenticationError, cc.AuthenticationError),
    "402": (answer(402, error("payment")), False, False, cc.APIError, cc.APIError),
    "403 lapsed": (
        answer(403, error("subscription_inactive")),
        False,
        False,
        cc.SubscriptionInactiveError,
        cc.SubscriptionInactiveError,
    ),
    "403 plan": (
        answer(403, error("plan_restriction")),
        False,
        False,
        cc.PlanRestrictionError,
        cc.PlanRestrictionError,
    ),
    "404": (answer(404, error("job_not_found")), False, False, cc.NotFoundError, cc.NotFoundError),
    "404 schema": (
        answer(404, error("schema_not_found")),
        False,
        False,
        cc.SchemaNotFoundError,
        cc.SchemaNotFoundError,
    ),
    "405": (answer(405, error("method_not_allowed")), False, False, cc.MethodNotAllowedError, cc.MethodNotAllowedError),
    "408": (answer(408), False, False, cc.APIError, cc.APIError),
    "413": (answer(413), False, False, cc.InvalidRequestError, cc.InvalidRequestError),
    "429": (answer(429, error("rate_limit_exceeded")), False, False, cc.QuotaExceededError, cc.QuotaExceededError),
    "429 bare": (answer(429), False, False, cc.QuotaExceededError, cc.QuotaExceededError),
    "429, back in 5 s": (
        answer(429, error("rate_limit_exceeded"), retry_after="5"),
        True,
        True,
        cc.RateLimitedError,
        cc.RateLimitedError,
    ),
    "429, back in an hour": (
        answer(429, error("rate_limit_exceeded"), retry_after="3600"),
        False,
        False,
        cc.QuotaExceededError,
        cc.QuotaExceededError,
    ),
}


@pytest.mark.parametrize("case", TABLE)
@pytest.mark.parametrize("send", [PAID, READ], ids=["paid", "read"])
def test_the_retry_table(case: str, send: Send, drive: Drive) -> None:
    """A request that may have run and is billed is never repeated, unless the API's page asks for it."""
    came, paid_goes_on, read_goes_on, paid_error, read_error = TABLE[case]
    goes_on = paid_goes_on if send.once else read_goes_on
    driven = drive(call(Context(PLENTY), send, value_of), [came] * 3)
    assert len(driven.sends) == (3 if goes_on else 1)
    assert type(driven.error) is (paid_error if send.once else read_error)
    if goes_on:
        recovered = drive(call(Context(PLENTY), send, value_of), [came, answer(200, {"value": 7})])
        assert recovered.value == 7


@pytest.mark.parametrize("case", TABLE)
def test_one_attempt_means_one(case: str, drive: Drive) -> None:
    for send in (PAID, READ):
        driven = drive(call(Context(RetryPolicy(attempts=1)), send, value_of), [TABLE[case][0]])
        assert (len(driven.sends), driven.sleeps) == (1, [])


OUTCOMES = {
    "no connection": ("not_sent", "not_sent"),
    "answer lost": ("unknown", "unknown"),
    "500 server_error": ("failed", "failed"),
    "502": ("unknown", "unknown"),
    "503": ("failed", "failed"),
    "200 cut": ("unknown", "unknown"),
    "400": ("rejected", "rejected"),
    "429": ("rejected", "rejected"),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_every_error_tells_the_outcome(case: str, drive: Drive) -> None:
    for send, outcome in zip((PAID, READ), OUTCOMES[case], strict=True):
        driven = drive(call(Context(RetryPolicy(attempts=1)), send, value_of), [TABLE[case][0]])
        assert isinstance(driven.error, cc.ClassifailyError)
        assert driven.error.outcome == outcome


def told(drive: Drive, came: Reply | Lost, send: Send = PAID) -> Any:
    return drive(call(Context(RetryPolicy(attempts=1)), send, value_of), [came]).error


def test_errors_carry_the_envelope(drive: Drive) -> None:
    """A 429 adds limit, used and resets_at (API reference, Errors), in the error or beside it."""
    quota = {"limit": 100, "used": 100, "resets_at": "2026-12-01T00:00:00Z"}
    inside = error("rate_limit_exceeded", "Monthly quota used up.", docs="https://x.org/docs", **quota)
    beside = {**error("rate_limit_exceeded", "Monthly quota used up.", docs="https://x.org/docs"), **quota}
    for wire in (inside, beside):
        caught = told(drive, answer(429, wire))
        assert type(caught) is cc.QuotaExceededError
        assert (caught.limit, caught.used, caught.resets_at.isoformat()) == (100, 100, "2026-12-01T00:00:00+00:00")
        assert (caught.status, caught.code, caught.docs) == (429, "rate_limit_exceeded", "https://x.org/docs")
        advice = "wait until 2026-12-01 00:00 UTC, or upgrade the plan"
        assert str(caught) == f"Monthly quota used up. (HTTP 429, rate_limit_exceeded); {advice}"
    bare = told(drive, answer(429, {"error": "Monthly quota used up."}))
    assert (bare.message, bare.limit, bare.used, bare.resets_at, bare.code) == (
        "Monthly quota used up.",
        None,
        None,
        None,
        None,
    )


@pytest.mark.parametrize("odd", [[], {}, 7, "soon", True, 1e400, {"a": 1}])
def test_odd_details_never_hide_the_error(odd: Any, drive: Drive) -> None:
    wire = {"error": {"code": odd, "message": odd, "docs": odd, "limit": odd, "used": odd, "resets_at": odd}}
    assert type(told(drive, answer(429, wire))) is cc.QuotaExceededError


def test_a_web_page_instead_of_the_api_names_both_addresses(drive: Drive) -> None:
    for came in (answer(404, HTML), answer(403, b"Forbidden", content_type="text/HTML"), answer(302), REFUSED):
        assert "https://classifaily.com/api/v1" in str(told(drive, came))
        assert "https://api.classifaily.com/v1" in str(told(drive, came))
    assert "web page" not in str(told(drive, answer(404, error("job_not_found"))))


def test_an_error_holds_no_body_and_no_request(drive: Drive) -> None:
    caught = told(drive, answer(200, b'{"secret": "patient 4711"'))
    assert "4711" not in repr(vars(caught)) + str(caught)
    assert caught.__context__ is caught.__cause__ is None
    assert "{}" not in repr(PAID)


# --- waiting ------------------------------------------------------------------------------------------------------


def pauses(drive: Drive, policy: RetryPolicy, came: Iterable[Reply | Lost]) -> Driven:
    return drive(call(Context(policy), READ, value_of), came)


@given(
    attempt=st.integers(1, 10**6), base=st.floats(0, 1e6), cap=st.floats(0, 1e6), named=st.none() | st.floats(0, 1e9)
)
def test_delays_are_full_jitter_within_bounds(attempt: int, base: float, cap: float, named: float | None) -> None:
    pause = RetryPolicy(base=base, cap=cap).delay(attempt, named)
    if named is not None:
        assert pause == named
    else:
        assert 0 <= pause <= min(cap, base * 2.0 ** min(attempt - 1, 64))


def test_delays_spread_and_grow() -> None:
    policy = RetryPolicy(base=0.5, cap=8.0)
    drawn = {attempt: [policy.delay(attempt) for _ in range(400)] for attempt in (1, 3, 9)}
    for attempt, bound in ((1, 0.5), (3, 2.0), (9, 8.0)):
        assert min(drawn[attempt]) < bound / 4
        assert bound * 3 / 4 < max(drawn[attempt]) <= bound


DATE = "Sat, 21 Nov 2026 05:00:00 GMT"
RETRY_AFTER: dict[str, tuple[dict[str, str], float | None]] = {
    "seconds": ({"retry_after": "5"}, 5.0),
    "fraction": ({"retry_after": "0.5"}, 0.5),
    "at once": ({"retry_after": "0"}, 0.0),
    "in the past": ({"retry_after": "-5"}, 0.0),
    "longest": ({"retry_after": "60"}, 60.0),
    "date": ({"date": DATE, "retry_after": "Sat, 21 Nov 2026 05:00:09 GMT"}, 9.0),
    "date gone by": ({"date": DATE, "retry_after": "Sat, 21 Nov 2026 04:00:00 GMT"}, 0.0),
    "too long": ({"retry_after": "61"}, None),
    "date too far": ({"date": DATE, "retry_after": "Sun, 22 Nov 2026 05:00:00 GMT"}, None),
    "date without the server's clock": ({"retry_after": DATE}, None),
    "date without a zone": ({"date": DATE, "retry_after": "Sat, 21 Nov 2026 05:00:09"}, None),
    "49 days": ({"retry_after": "4294967"}, None),
    "for ever": ({"retry_after": "inf"}, None),
    "not a number": ({"retry_after": "nan"}, None),
    "a word": ({"retry_after": "soon"}, None),
    "empty": ({"retry_after": ""}, None),
    "a date of no calendar": ({"date": DATE, "retry_after": f"Sat, 21 Nov {'9' * 30} 05:00:09 GMT"}, None),
}


@pytest.mark.parametrize("case", RETRY_AFTER)
def test_retry_after(case: str, drive: Drive) -> None:
    """The server's wait is kept to the second when it is short; a long one ends the call instead of holding it."""
    headers, pause = RETRY_AFTER[case]
    came = answer(429, error("rate_limit_exceeded"), **headers)
    driven = pauses(drive, RetryPolicy(attempts=2, max_elapsed=1e9), [came, came])
    if pause is None:
        assert (driven.sleeps, type(driven.error)) == ([], cc.QuotaExceededError)
    else:
        assert (driven.sleeps, type(driven.error)) == ([pause], cc.RateLimitedError)
        assert isinstance(driven.error, cc.RateLimitedError)
        assert driven.error.retry_after == pause


def test_the_longest_retry_after_is_the_policys(drive: Drive) -> None:
    came = answer(503, HTML, retry_after="90")
    patient = RetryPolicy(attempts=2, max_elapsed=1e9, max_retry_after=90)
    assert pauses(drive, patient, [came, answer(200, {"value": 1})]).sleeps == [90]
    assert len(pauses(drive, RetryPolicy(max_retry_after=5), [answer(429, retry_after="6")]).sends) == 1


def test_no_retry_starts_after_max_elapsed(drive: Drive) -> None:
    policy = RetryPolicy(attempts=100, max_elapsed=10, base=0, cap=0)
    slow = Lost("not_sent", "connection refused", elapsed=3.0)
    assert len(pauses(drive, policy, [slow] * 100).sends) == 4
    waiting = answer(503, HTML, retry_after="4")
    assert pauses(drive, policy, [waiting] * 100).sleeps == [4, 4]
    assert len(pauses(drive, RetryPolicy(max_elapsed=0, base=1), [REFUSED]).sends) == 1


def test_the_error_is_that_of_the_last_attempt(drive: Drive) -> None:
    driven = drive(call(Context(PLENTY), PAID, value_of), [REFUSED, SERVER_ERROR, LOST])
    assert type(driven.error) is cc.OutcomeUnknownError


# --- laws ---------------------------------------------------------------------------------------------------------

CODES = ["server_error", "rate_limit_exceeded", "invalid_request", "schema_not_found", "plan_restriction", "odd", ""]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ENVELOPES = st.builds(lambda code, extra: {"error": {"code": code, **extra}}, st.sampled_from(CODES), st.just({})) | (
    st.fixed_dictionaries({"error": JUNK})
)
BODIES = st.binary(max_size=40) | (JUNK | ENVELOPES | st.just({"value": 1})).map(lambda wire: json.dumps(wire).encode())
STATUSES = st.integers(200, 999) | st.sampled_from([200, 202, 204, 429, 500, 502, 503, 504])
SECONDS = st.integers(-5, 200).map(str) | st.sampled_from(["60", "60.5", "inf", "nan", DATE, "1e400"])
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "retry-after": SECONDS | st.text(max_size=8),
        "date": st.just(DATE) | st.text(max_size=8),
        "content-type": st.sampled_from(["application/json", "text/html", ""]),
    },
)
ANSWERS = st.builds(Reply, STATUSES, HEADERS, BODIES) | st.sampled_from([REFUSED, LOST])


@given(came=st.lists(ANSWERS, min_size=3, max_size=3), once=st.booleans())
def test_everything_ends_in_a_value_or_one_of_our_errors(came: list[Reply | Lost], once: bool, drive: Drive) -> None:
    driven = drive(call(Context(PLENTY), PAID if once else READ, value_of), came)
    assert driven.error is None or isinstance(driven.error, cc.ClassifailyError)
    if not once:
        return
    for before in came[: len(driven.sends) - 1]:
        assert surely_safe(before), before


def surely_safe(came: Reply | Lost) -> bool:
    """Whether a billed request may be repeated after this, worked out from the contract and not by the package."""
    if isinstance(came, Lost):
        return came.outcome == "not_sent"
    if came.status == 500:
        return json.loads(came.body)["error"]["code"] == "server_error"
    short = came.headers.get("retry-after", "")
    try:
        return came.status in (429, 503) and float(short) <= 60
    except ValueError:
        return came.status in (429, 503) and short == came.headers.get("date") == DATE


@pytest.mark.parametrize("outcome", ["not_sent", "rejected", "failed", "unknown"])
def test_what_is_safe_for_a_billed_request_is_safe_for_a_read(outcome: Any) -> None:
    for status in (None, 400, 429, 500, 503, 520):
        for code in (None, "server_error"):
            for retry_after in (None, 5.0, 600.0):
                terms: dict[str, Any] = {"status": status, "code": code, "retry_after": retry_after}
                assert repeatable(outcome, once=False, **terms) >= repeatable(outcome, once=True, **terms)


@pytest.mark.parametrize(
    ("terms", "told"),
    [
        ({"attempts": 0}, "retry.attempts is 0"),
        ({"max_elapsed": -1}, "retry.max_elapsed is -1"),
        ({"max_wait": float("nan")}, "retry.max_wait is nan"),
        ({"base": -0.5}, "retry.base"),
        ({"cap": -1}, "retry.cap"),
        ({"max_retry_after": -1}, "retry.max_retry_after"),
        ({"poll_interval": -1}, "retry.poll_interval"),
    ],
)
def test_policies_that_cannot_work_are_refused(terms: dict[str, Any], told: str) -> None:
    with pytest.raises(cc.ConfigurationError, match=told):
        RetryPolicy(**terms)
