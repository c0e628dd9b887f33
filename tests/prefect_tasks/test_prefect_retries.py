"""What is tried again, counted at the server: by the client, by Prefect, or by nobody because it could pay twice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from prefect import flow
from prefect.cache_policies import INPUTS, RUN_ID
from prefect.client.orchestration import get_client
from prefect.states import Failed

from classifaily_connectors import (
    AuthenticationError,
    ConfigurationError,
    InvalidRequestError,
    JobFailedError,
    JobTimeoutError,
    NotSentError,
    OutcomeUnknownError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
)
from classifaily_connectors.sandbox import Fault, Sandbox
from prefect_classifaily import (
    ClassifailyCredentials,
    aclassify,
    aclassify_batch,
    classify,
    classify_batch,
    ensure_schema,
    get_usage,
    retry_idempotent,
    retry_transient,
)

if TYPE_CHECKING:
    from prefect import State, Task

MONEY = "I was charged twice for my subscription."


def attempts(sandbox: Sandbox, path: str = "/classify") -> list[int | None]:
    return [each.status for each in sandbox.requests if each.path.endswith(path)]


def run(task: Task[..., Any], *args: Any, **options: Any) -> State[Any]:
    """The final state of the task, run in a flow of its own without pauses between Prefect's attempts."""
    quick = task.with_options(retry_delay_seconds=0)
    states: list[State[Any]] = []

    @flow
    def sync_flow() -> None:
        states.append(quick(*args, return_state=True, **options))

    @flow
    async def async_flow() -> None:
        states.append(await quick(*args, return_state=True, **options))

    if task.isasync:
        asyncio.run(async_flow())
    else:
        sync_flow()
    return states[0]


@pytest.mark.parametrize("task", [classify, aclassify])
def test_a_short_trouble_is_ridden_out_within_one_attempt(
    server: Any, environment: Sandbox, task: Task[..., Any]
) -> None:
    environment.inject(Fault(kind="500", path="/classify", times=2))
    assert run(task.with_options(retries=0), MONEY).is_completed()
    assert attempts(environment) == [500, 500, 200]
    assert environment.bill().charged == 1


@pytest.mark.parametrize("task", [classify, aclassify])
def test_a_longer_trouble_is_ridden_out_by_prefect(server: Any, environment: Sandbox, task: Task[..., Any]) -> None:
    environment.inject(Fault(kind="500", path="/classify", times=3))
    assert run(task, MONEY).is_completed()
    assert attempts(environment) == [500, 500, 500, 200]
    assert environment.bill().charged == 1


@pytest.mark.parametrize(("task", "input"), [(classify, MONEY), (aclassify_batch, [MONEY])])
def test_a_used_up_quota_is_met_once(server: Any, environment: Sandbox, task: Task[..., Any], input: Any) -> None:
    environment.add_key(environment.key, plan="pro", used=100_000)
    with pytest.raises(QuotaExceededError) as met:
        run(task, input).result()
    assert (met.value.limit, met.value.used) == (100_000, 100_000)
    assert [each.status for each in environment.requests] == [429]


@pytest.mark.parametrize(("task", "input"), [(classify, MONEY), (aclassify, MONEY), (classify_batch, [MONEY])])
def test_what_may_be_billed_is_never_sent_again(
    server: Any, environment: Sandbox, task: Task[..., Any], input: Any
) -> None:
    environment.inject(Fault(kind="reset", after_work=True, times=None))
    with pytest.raises(OutcomeUnknownError):
        run(task, input).result()
    assert len(environment.requests) == 1
    assert environment.bill().charged == 1


def test_a_refused_key_is_tried_once(server: Any, environment: Sandbox) -> None:
    environment.revoke(environment.key)
    with pytest.raises(AuthenticationError, match="came from the environment variable CLASSIFAILY_KEY: check it there"):
        run(classify, MONEY).result()
    assert attempts(environment) == [401]
    ClassifailyCredentials.from_env().save("refused", overwrite=True)
    saved = ClassifailyCredentials.load("refused")
    unsaved = ClassifailyCredentials(api_key=environment.key)
    for block, source in ((saved, "the Prefect block 'refused'"), (unsaved, "a ClassifailyCredentials block that is")):
        with block.get_client() as client, pytest.raises(AuthenticationError, match=f"came from {source}") as caught:
            client.usage()
        assert environment.key[-4:] not in str(caught.value)


def test_a_task_that_prefect_times_out_is_not_sent_again(server: Any, environment: Sandbox) -> None:
    environment.inject(Fault(kind="delay", path="/classify", seconds=2, times=None))
    state = run(aclassify.with_options(timeout_seconds=0.5), MONEY)
    assert state.name == "TimedOut"
    assert len(environment.requests) == 1
    assert environment.bill().charged == 1


def test_no_connection_is_tried_to_the_end(server: Any, until: Callable[..., Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    credentials = ClassifailyCredentials(api_key="cai_live_1234", base_url=url)

    state = run(classify, MONEY, credentials=credentials)
    with pytest.raises(NotSentError):
        state.result()

    async def run_count() -> int:
        async with get_client() as client:
            return (await client.read_task_run(state.state_details.task_run_id)).run_count

    # The server hears of attempts a little later.
    until(lambda: asyncio.run(run_count()) == 4)


def test_reads_are_tried_again_after_any_failure(server: Any, environment: Sandbox) -> None:
    environment.inject(Fault(kind="html_502", path="/usage", times=3))
    assert run(get_usage).is_completed()
    assert attempts(environment, "/usage") == [502, 502, 502, 200]
    environment.inject(Fault(kind="html_502", path="/schemas", method="GET", times=3))
    assert run(ensure_schema, "teams", ["billing", "technical"]).is_completed()


def test_a_flow_that_is_tried_again_may_keep_what_it_paid_for(server: Any, environment: Sandbox) -> None:
    """The recipe of the README: results stored, found again by inputs, within one flow run."""
    kept = classify.with_options(persist_result=True, cache_policy=INPUTS + RUN_ID)
    tries = []

    @flow(retries=1)
    def fails_after_paying() -> str | None:
        answer = kept(MONEY, categories=["billing", "technical"])
        tries.append(answer.label)
        if len(tries) == 1:
            raise RuntimeError("something later")
        return answer.label

    assert fails_after_paying() == "billing"
    assert tries == ["billing", "billing"]
    assert environment.bill().charged == 1


@pytest.mark.parametrize(
    ("error", "paid", "free"),
    [
        (NotSentError("no connection"), True, True),
        (RateLimitedError("slow down", status=429, retry_after=2.0), True, True),
        (ServerError("failed", status=500, code="server_error", outcome="failed"), True, True),
        (ServerError("failed", status=500, code="database_error", outcome="failed"), False, True),
        (ServerError("away", status=503, outcome="failed"), False, True),
        (ServerError("away", status=503, outcome="failed", retry_after=5.0), True, True),
        (ServerError("lost", status=502, outcome="unknown"), False, True),
        (OutcomeUnknownError("lost"), False, False),
        (QuotaExceededError("used up", status=429), False, False),
        (InvalidRequestError("empty", outcome="not_sent"), False, False),
        (ConfigurationError("no key"), False, False),
        (AuthenticationError("who", status=401), False, False),
        (JobFailedError("failed", job_id="1"), False, False),
        (JobTimeoutError("still running", job_id="1"), False, False),
        (TimeoutError("task timeout"), False, False),
        (KeyError("a bug"), False, False),
        (None, False, False),
    ],
)
def test_who_may_try_again(error: Exception | None, paid: bool, free: bool) -> None:
    state: Any = Failed(data=error)
    task_run: Any = None
    assert retry_transient(classify, task_run, state) is paid
    assert retry_idempotent(get_usage, task_run, state) is free
