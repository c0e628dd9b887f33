"""Who retries what: the core inside a try, Airflow around it, nobody where it would be in vain or paid twice."""

from __future__ import annotations

import inspect
import pickle
from datetime import UTC, datetime
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout
from airflow_kit import KEY, RunDag

import classifaily_connectors
from airflow_provider_classifaily.errors import fail_fast
from classifaily_connectors import (
    AuthenticationError,
    ClassifailyError,
    JobTimeoutError,
    NotSentError,
    OutcomeUnknownError,
    OutputBusyError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    StorageError,
)
from classifaily_connectors.sandbox import Fault, Sandbox


def executed(sandbox: Sandbox) -> int:
    return sum(request[:2] == ("POST", "/classify") for request in sandbox.requests)


def test_a_used_up_quota_fails_at_the_first_try(run_dag: RunDag, connected: Sandbox) -> None:
    connected.add_key(KEY, plan="starter", used=10_000)
    assert run_dag("classify").tries("classify") == ("failed", 1)
    assert executed(connected) == 1


def test_a_revoked_key_fails_at_the_first_try(run_dag: RunDag, connected: Sandbox) -> None:
    connected.revoke(KEY)
    assert run_dag("classify").tries("classify") == ("failed", 1)
    assert executed(connected) == 1


def test_a_server_error_that_outlasts_the_core_is_retried_by_airflow(run_dag: RunDag, connected: Sandbox) -> None:
    """API reference, Errors: 500 server_error, "retry with exponential backoff"; three attempts are one try."""
    connected.inject(Fault(kind="500", path="/classify", times=3))
    run = run_dag("classify")
    assert run.tries("classify") == ("success", 2)
    assert executed(connected) == 4
    assert connected.bill().charged == 1


def test_a_lost_answer_is_never_bought_again(
    run_dag: RunDag, connected: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    connected.inject(Fault(kind="reset", path="/classify", times=None))
    assert run_dag("classify").tries("classify") == ("failed", 1)
    assert connected.bill().charged == 1
    assert "OutcomeUnknownError" in (logged := capfd.readouterr().out)
    assert KEY not in logged


def test_a_failing_pre_flight_is_retried_although_the_batch_is_paid(run_dag: RunDag, connected: Sandbox) -> None:
    """GET /usage costs nothing, so a lost answer of it may be asked for again."""
    connected.inject(Fault(kind="html_502", path="/usage", times=3))
    run = run_dag("batch", items=["Refund me"])
    assert run.tries("batch") == ("success", 2)
    assert connected.bill().charged == 1


def test_an_execution_timeout_in_the_middle_of_a_call_is_not_retried(
    run_dag: RunDag, connected: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    connected.inject(Fault(kind="delay", path="/classify", seconds=20, times=None))
    assert run_dag("impatient").tries("classify") == ("failed", 1)
    assert connected.bill().charged == 1
    assert "it may have been executed and billed" in capfd.readouterr().out


RETRIED = {NotSentError, ServerError, RateLimitedError}
NEITHER = {"APIError", "ClassifailyError", "SignatureError"}  # bases, and the receiver's


def example(error: type[ClassifailyError]) -> ClassifailyError:
    given: dict[str, Any] = {"job_id": "84"} if error is JobTimeoutError else {}
    if error is ServerError:
        given = {"status": 500, "code": "server_error", "outcome": "failed"}
    if error is RateLimitedError:
        given = {"status": 429, "retry_after": 2.0}
    if error is QuotaExceededError:
        given = {"status": 429, "limit": 100, "used": 100, "resets_at": datetime(2026, 12, 1, tzinfo=UTC)}
    return error("what happened", **given)


ERRORS = [
    found
    for name in classifaily_connectors.__all__
    if inspect.isclass(found := getattr(classifaily_connectors, name))
    and issubclass(found, ClassifailyError)
    and name not in NEITHER
]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_final_or_left_to_airflow(error: type[ClassifailyError]) -> None:
    given = example(error)
    with pytest.raises((AirflowFailException, ClassifailyError)) as caught, fail_fast():
        raise given
    if error in RETRIED:
        assert caught.value is given
        return
    assert type(caught.value) is AirflowFailException
    assert str(caught.value) == f"{error.__name__}: {given}"
    assert caught.value.__cause__ is given
    # Airflow carries errors from process to process.
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_server_error_that_may_be_billed_is_final_for_a_paid_call_alone() -> None:
    given = ServerError("a fault of its own", status=500, code="out_of_cheese", outcome="failed")
    with pytest.raises(AirflowFailException), fail_fast():
        raise given
    with pytest.raises(ServerError), fail_fast(paid=False):
        raise given


KEPT = {
    NotSentError, ServerError, RateLimitedError, OutcomeUnknownError, JobTimeoutError, StorageError, OutputBusyError
}  # fmt: skip


@pytest.mark.parametrize("error", ERRORS)
def test_with_a_ledger_whatever_may_mend_is_left_to_airflow(error: type[ClassifailyError]) -> None:
    """What was paid is replayed and what may have been paid is parked, so only a retry in vain is refused."""
    given = example(error)
    with pytest.raises(ClassifailyError if error in KEPT else AirflowFailException), fail_fast(kept=True):
        raise given
    with pytest.raises(AirflowTaskTimeout), fail_fast(kept=True):
        raise AirflowTaskTimeout("after 1 s")


def test_the_data_of_an_error_is_there_for_a_callback() -> None:
    with pytest.raises(AirflowFailException) as caught, fail_fast():
        raise example(QuotaExceededError)
    cause = caught.value.__cause__
    assert isinstance(cause, QuotaExceededError)
    assert cause.resets_at == datetime(2026, 12, 1, tzinfo=UTC)


def test_what_is_not_ours_passes() -> None:
    with pytest.raises(KeyError), fail_fast():
        raise KeyError("mine")
    with pytest.raises(AirflowFailException, match="execution_timeout"), fail_fast():
        raise AirflowTaskTimeout("after 1 s")
    with pytest.raises(AirflowTaskTimeout), fail_fast(paid=False):
        raise AirflowTaskTimeout("after 1 s")


def test_both_kinds_are_covered() -> None:
    assert RETRIED | {AuthenticationError, OutcomeUnknownError, JobTimeoutError} <= set(ERRORS)
