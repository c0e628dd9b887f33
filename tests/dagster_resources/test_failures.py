"""What a RetryPolicy may repeat, and what it must not, counted at the sandbox."""

import asyncio
import pickle
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from classifaily_connectors import errors
from classifaily_connectors.sandbox import Fault, Sandbox
from dagster_classifaily import ClassifailyResource
from dagster_classifaily.failures import araising, as_raised, never, raising

Materialize = Callable[..., dg.ExecuteInProcessResult]
Attempts = Callable[..., tuple[int, dg.ExecuteInProcessResult]]
Failed = Callable[[dg.ExecuteInProcessResult], Any]
TEAMS = ["billing", "technical"]
TEXT = "I was charged twice for my subscription."
RESETS = datetime(2026, 12, 1, tzinfo=UTC)

NO_RETRY = [
    errors.ConfigurationError("no key"),
    errors.InvalidRequestError("input is empty", outcome="not_sent"),
    errors.AuthenticationError("revoked", status=401, code="unauthorized", docs="https://classifaily.com/docs.php"),
    errors.SubscriptionInactiveError("lapsed", status=403),
    errors.PlanRestrictionError("needs Pro", status=403, code="plan_restriction"),
    errors.NotFoundError("gone", status=404),
    errors.SchemaNotFoundError("no schema", status=404, code="schema_not_found"),
    errors.MethodNotAllowedError("no such call", status=405),
    errors.QuotaExceededError("used up", status=429, limit=100, used=100, resets_at=RESETS),
    errors.APIError("a teapot", status=418),
    errors.OutcomeUnknownError("lost", status=502),
    errors.JobTimeoutError("still running", job_id="84", status="processing"),
    errors.BudgetExceededError("enough", needed=9, available=3, resets_at=RESETS),
    errors.ErrorRatioExceededError("too many", errors=9, rows=10),
    errors.JobFailedError("failed", job_id="84"),
    errors.StoreError("the disk is full", unwritten=3, rescue="here"),
    errors.StoreUnavailableError("out of reach"),
    errors.StorageError("the disk is full", place="out.csv"),
    errors.OutputBusyError("another run writes it", place="out.csv"),
    errors.ServerError("a fault of its own", status=500, code="out_of_cheese", outcome="failed"),
    errors.StoppedError("told to stop"),
    errors.UnsettledRowsError("perhaps paid", unknown=2, rows=10, mends=True),
    errors.MissingPackageError("install it"),
]
RETRY = [
    errors.NotSentError("refused"),
    errors.RateLimitedError("slow down", status=429, retry_after=3.0),
    errors.ServerError("500", status=500, code="server_error", outcome="failed"),
]


def named(error: Exception) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", NO_RETRY, ids=named)
def test_what_no_retry_can_help_is_a_failure_and_still_itself(error: errors.ClassifailyError) -> None:
    told: Any = as_raised(error)
    assert isinstance(told, type(error))
    assert isinstance(told, dg.Failure)
    assert not told.allow_retries
    assert str(told) == told.description == str(error)
    assert vars(error).items() <= vars(told).items()
    assert as_raised(told) is told

    again: Any = pickle.loads(pickle.dumps(told))
    assert isinstance(again, type(error))
    assert isinstance(again, dg.Failure)
    assert (str(again), again.metadata, again.allow_retries) == (str(told), told.metadata, False)
    assert vars(error).items() <= vars(again).items()


@pytest.mark.parametrize("error", RETRY, ids=named)
def test_what_a_retry_may_help_is_raised_as_it_is(error: errors.ClassifailyError) -> None:
    assert as_raised(error) is error


@pytest.mark.parametrize("error", [*RETRY, OSError("disk"), KeyError("x")], ids=named)
def test_without_a_ledger_nothing_of_a_table_is_repeated(error: Exception) -> None:
    def fail() -> None:
        raise error

    async def afail() -> None:
        raise error

    for call in (raising(fail, never), lambda: asyncio.run(araising(afail, never)())):  # type: ignore[arg-type]
        with pytest.raises(dg.Failure) as raised:
            call()
        assert not raised.value.allow_retries
        assert isinstance(raised.value, type(error)) or raised.value.__cause__ is error


def test_every_error_of_an_operation_is_on_one_of_the_two_lists() -> None:
    def tree(kind: type[errors.ClassifailyError]) -> set[type[errors.ClassifailyError]]:
        return {kind}.union(*(tree(each) for each in kind.__subclasses__() if each.__module__ == errors.__name__))

    listed = {type(error) for error in NO_RETRY + RETRY}
    plain = {kind for kind in tree(errors.ClassifailyError) if not issubclass(kind, dg.Failure)}
    assert plain - listed == {errors.ClassifailyError, errors.SignatureError}


def test_metadata_say_what_the_error_knows() -> None:
    quota: Any = as_raised(NO_RETRY[8])
    assert quota.metadata == {
        "status": dg.IntMetadataValue(429),
        "outcome": dg.TextMetadataValue("rejected"),
        "limit": dg.IntMetadataValue(100),
        "used": dg.IntMetadataValue(100),
        "resets_at": dg.TimestampMetadataValue(RESETS.timestamp()),
    }
    assert as_raised(NO_RETRY[2]).metadata["docs"] == dg.UrlMetadataValue("https://classifaily.com/docs.php")  # type: ignore[attr-defined]


@pytest.fixture(params=["classify", "aclassify"])
def attempts(request: pytest.FixtureRequest, materialize: Materialize) -> Attempts:
    """Runs an asset that may be retried three times; gives the attempts it took and the result."""

    def run(resource: ClassifailyResource | None = None) -> tuple[int, dg.ExecuteInProcessResult]:
        taken: list[int] = []
        policy = dg.RetryPolicy(max_retries=3)

        @dg.asset(retry_policy=policy, name="label")
        def sync(classifaily: ClassifailyResource) -> Any:
            taken.append(1)
            return classifaily.classify(TEXT, categories=TEAMS).label

        @dg.asset(retry_policy=policy, name="label")
        async def asynchronous(classifaily: ClassifailyResource) -> Any:
            taken.append(1)
            return (await classifaily.aclassify(TEXT, categories=TEAMS)).label

        result = materialize(sync if request.param == "classify" else asynchronous, resource=resource)
        return len(taken), result

    return run


def posts(sandbox: Sandbox, since: int) -> int:
    return sum(request.method == "POST" for request in sandbox.requests[since:])


def test_a_500_is_retried_by_the_core(sandbox: Sandbox, attempts: Attempts) -> None:
    sandbox.inject(Fault(kind="500", path="/classify"))
    before = len(sandbox.requests)
    taken, result = attempts()
    assert (taken, result.success, posts(sandbox, before), sandbox.bill().charged) == (1, True, 2, 1)


def test_a_used_up_quota_is_asked_once(sandbox: Sandbox, attempts: Attempts, failure: Failed) -> None:
    sandbox.add_key(sandbox.key, plan="pro", used=100_000)
    before = len(sandbox.requests)
    taken, result = attempts()
    assert (taken, result.success, posts(sandbox, before), sandbox.bill().charged) == (1, False, 1, 0)
    told = failure(result)
    assert told.error.cls_name == "QuotaExceededError"
    assert told.user_failure_data.metadata["limit"] == dg.IntMetadataValue(100_000)
    assert told.user_failure_data.metadata["code"] == dg.TextMetadataValue("rate_limit_exceeded")
    assert "resets_at" in told.user_failure_data.metadata


def test_an_answer_lost_after_the_work_is_paid_once(sandbox: Sandbox, attempts: Attempts, failure: Failed) -> None:
    """`RetryPolicy` alone would resend, and pay again."""
    sandbox.inject(Fault(kind="reset", path="/classify"))
    taken, result = attempts()
    assert (taken, result.success, sandbox.bill().charged) == (1, False, 1)
    assert failure(result).error.cls_name == "OutcomeUnknownError"


def test_a_server_that_cannot_be_reached_is_tried_again(sandbox: Sandbox, attempts: Attempts) -> None:
    taken, result = attempts(ClassifailyResource(base_url="http://127.0.0.1:9/v1"))
    assert (taken, result.success) == (4, False)


def test_an_asset_may_catch_the_errors_of_the_core(sandbox: Sandbox, materialize: Materialize) -> None:
    sandbox.add_key(sandbox.key, plan="pro", used=100_000)

    @dg.asset
    def label(classifaily: ClassifailyResource) -> Any:
        try:
            return classifaily.classify(TEXT, categories=TEAMS).label
        except errors.QuotaExceededError as error:
            return error.limit

    assert materialize(label).output_for_node("label") == 100_000


@pytest.mark.parametrize(
    ("base_url", "error"), [(None, errors.QuotaExceededError), ("http://127.0.0.1:9/v1", errors.NotSentError)]
)
def test_a_traceback_with_its_locals_shows_neither_input_nor_key(
    sandbox: Sandbox, base_url: str | None, error: type[Exception]
) -> None:
    sandbox.add_key(sandbox.key, plan="pro", used=100_000)
    text = ["a private", " text"]  # whole nowhere but in the call
    with ClassifailyResource(base_url=base_url).process_config_and_initialize_cm() as resource:
        for call in (
            lambda: resource.classify("".join(text), categories=TEAMS),
            lambda: asyncio.run(acall()),
        ):

            async def acall() -> Any:
                return await resource.aclassify("".join(text), categories=TEAMS)

            with pytest.raises(error) as raised:
                call()
            printed = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
            assert "in call" in printed
            assert "a private text" not in printed
            assert sandbox.key not in printed


def test_a_traceback_of_a_table_shows_no_row(sandbox: Sandbox) -> None:
    sandbox.revoke(sandbox.key)
    text = ["a private", " text"]
    with ClassifailyResource().process_config_and_initialize_cm() as resource:

        async def acall() -> Any:
            return await resource.aclassify_table([{"body": "".join(text)}], text="body", ledger=False)

        for call in (
            lambda: resource.classify_table([{"body": "".join(text)}], text="body", ledger=False),
            lambda: asyncio.run(acall()),
        ):
            with pytest.raises(errors.AuthenticationError) as raised:
                call()
            assert isinstance(raised.value, dg.Failure)
            printed = "".join(traceback.TracebackException.from_exception(raised.value, capture_locals=True).format())
            assert "a private text" not in printed
            assert sandbox.key not in printed
