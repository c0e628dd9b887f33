"""Every task, sync and async, called, submitted and mapped in real flows against the sandbox."""

from __future__ import annotations

import asyncio
import inspect
import json
from enum import Enum
from typing import Any

import pytest
from prefect import Task, flow, unmapped
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MappingLengthMismatch
from prefect.task_runners import ProcessPoolTaskRunner
from prefect.utilities.annotations import quote

import prefect_classifaily
from classifaily_connectors import BatchResult, Category, ClassifailyClient, ConfigurationError, InvalidRequestError
from classifaily_connectors.sandbox import Sandbox, Switches
from prefect_classifaily import (
    ClassifailyCredentials,
    aclassify,
    aclassify_batch,
    aclassify_table,
    aensure_schema,
    aget_usage,
    classify,
    classify_batch,
    classify_table,
    ensure_schema,
    get_usage,
)

TWINS = [
    (classify, aclassify),
    (classify_batch, aclassify_batch),
    (classify_table, aclassify_table),
    (ensure_schema, aensure_schema),
    (get_usage, aget_usage),
]
TEAMS = ["billing", "technical"]
MONEY, BUG = "I was charged twice for my subscription.", "The API keeps returning a 500 error."


@pytest.mark.parametrize(("sync", "twin"), TWINS)
def test_twins_are_two_tasks_with_one_signature(sync: Task[..., Any], twin: Task[..., Any]) -> None:
    for each in (sync, twin):
        assert type(each) is Task
        assert each.name in prefect_classifaily.__all__
        assert (each.retries, each.retry_delay_seconds) == (3, [5, 10, 20])
        assert each.retry_jitter_factor
        assert inspect.isfunction(each.retry_condition_fn)  # Prefect ignores any other callable
        assert each.cache_policy == NO_CACHE
        assert each.description
    assert twin.name == f"a{sync.name}"
    assert (sync.isasync, twin.isasync) == (False, True)
    assert inspect.signature(sync.fn) == inspect.signature(twin.fn)


@pytest.mark.parametrize(
    ("task", "method"),
    [
        (classify, ClassifailyClient.classify),
        (classify_batch, ClassifailyClient.batch),
        (get_usage, ClassifailyClient.usage),
    ],
)
def test_a_task_takes_what_the_client_takes(task: Task[..., Any], method: Any) -> None:
    ours, theirs = dict(inspect.signature(task.fn).parameters), dict(inspect.signature(method).parameters)
    assert ours.pop("credentials").default is None
    theirs.pop("self")
    assert {name: each.default for name, each in ours.items()} == {name: each.default for name, each in theirs.items()}


def test_without_a_run_and_without_a_server(credentials: ClassifailyCredentials, sandbox: Sandbox) -> None:
    answer = classify.fn(MONEY, credentials=credentials, categories=TEAMS, mode="top_n", top_n=2, explain=True)
    assert [each.label for each in answer.labels] == TEAMS
    assert answer.explanation
    assert asyncio.run(aclassify.fn(MONEY, credentials=credentials, categories=TEAMS)).label == "billing"
    batch = classify_batch.fn([MONEY, {"id": "b", "input": BUG}], credentials=credentials, categories=TEAMS)
    assert [(each.id, each.label) for each in batch.results] == [("0", "billing"), ("b", "technical")]
    assert (
        asyncio.run(aclassify_batch.fn([BUG], credentials=credentials, categories=TEAMS)).results[0].label
        == "technical"
    )
    schema = ensure_schema.fn("teams", TEAMS, credentials=credentials, mode="multi", description="Who answers")
    assert asyncio.run(aensure_schema.fn("teams", TEAMS, credentials=credentials, mode="multi")).id == schema.id
    assert schema.mode == "multi"
    usage = get_usage.fn(credentials=credentials)
    assert usage.usage.requests == 5 == sandbox.bill().charged
    assert asyncio.run(aget_usage.fn("2026-01", credentials=credentials)).usage.requests == 0


def test_a_flow_calls_submits_and_maps(server: Any, credentials: ClassifailyCredentials, sandbox: Sandbox) -> None:
    @flow
    def triage() -> list[str | None]:
        schema = ensure_schema.submit("teams", TEAMS, credentials=credentials)
        one = classify(MONEY, schema=schema, credentials=credentials)
        batch = classify_batch.submit(quote([MONEY, BUG]), categories=TEAMS, credentials=credentials).result()
        many = classify.map([BUG, MONEY, BUG], schema=unmapped(schema), credentials=unmapped(credentials)).result()
        named = classify.with_options(name="route", retries=0)(BUG, categories=TEAMS, credentials=credentials)
        return [each.label for each in (one, *batch.results, *many, named)]

    assert triage() == ["billing", "billing", "technical", "technical", "billing", "technical", "technical"]
    assert sandbox.bill().charged == 7


def test_an_async_flow_calls_and_maps_both_twins(server: Any, environment: Sandbox) -> None:
    @flow
    async def triage() -> list[str | None]:
        schema = await aensure_schema("teams", TEAMS)
        sync = classify(MONEY, schema=schema)  # a sync task beside the running loop
        together = await asyncio.gather(*(aclassify(text, schema=schema) for text in (MONEY, BUG)))
        futures = aclassify.map([BUG, MONEY], schema=unmapped(schema))
        batch = await aclassify_batch.with_options(retries=0)([BUG], schema=schema)
        assert (await aget_usage()).plan == "pro"
        return [each.label for each in (sync, *together, *(future.result() for future in futures), *batch.results)]

    assert asyncio.run(triage()) == ["billing", "billing", "technical", "technical", "billing", "technical"]
    assert environment.bill().charged == 6


def test_in_other_processes(server: Any, credentials: ClassifailyCredentials, sandbox: Sandbox) -> None:
    """Tasks, blocks, results and errors go to another process and come back."""

    @flow(task_runner=ProcessPoolTaskRunner(max_workers=1))
    def triage() -> list[Any]:
        good = classify.submit(MONEY, categories=TEAMS, credentials=credentials)
        bad = classify.submit(MONEY, categories=[], credentials=credentials)
        return [good.result().label, bad.result(raise_on_failure=False)]

    label, error = triage()
    assert label == "billing"
    assert isinstance(error, InvalidRequestError)
    assert "categories is empty" in str(error)


@pytest.mark.parametrize("shared", [TEAMS, [{"name": each} for each in TEAMS], [Category(name=each) for each in TEAMS]])
def test_a_map_that_forgets_unmapped_costs_nothing(server: Any, environment: Sandbox, shared: list[Any]) -> None:
    """Prefect would give each input one category of its own."""

    @flow
    def careless() -> None:
        classify.map([MONEY, BUG], categories=shared).result()

    with pytest.raises(InvalidRequestError, match="categories"):
        careless()
    assert environment.bill().charged == 0


def test_a_map_over_a_block_costs_nothing(
    server: Any, environment: Sandbox, credentials: ClassifailyCredentials
) -> None:
    @flow
    def careless(count: int) -> None:
        classify.map([MONEY] * count, credentials=credentials).result()

    with pytest.raises(MappingLengthMismatch):
        careless(2)
    with pytest.raises(ConfigurationError, match=r"credentials must be .* not tuple"):
        careless(len(type(credentials).model_fields))
    assert environment.bill().charged == 0


@pytest.mark.parametrize("serializer", ["json", "pickle", "compressed/json"])
def test_results_persist_and_come_back_whole(server: Any, credentials: ClassifailyCredentials, serializer: str) -> None:
    kept: dict[str, Any] = {"persist_result": True, "result_serializer": serializer, "cache_result_in_memory": False}

    @flow
    def triage() -> list[tuple[Any, Any]]:
        once = [
            (classify, (MONEY,), {"categories": TEAMS, "explain": True}),
            (classify_batch, ([MONEY, BUG],), {"categories": TEAMS}),
            (ensure_schema, ("teams", TEAMS), {}),
            (get_usage, (), {}),
        ]
        found = []
        for task, args, options in once:
            state = task.with_options(**kept)(*args, credentials=credentials, return_state=True, **options)
            made = task.fn(*args, credentials=credentials, **options)
            found.append((state.result(), made))
        return found

    for stored, made in triage():
        assert type(stored) is type(made)
        assert _shape(stored) == _shape(made)


def _shape(model: Any) -> Any:
    """All of it but what differs between two calls."""
    return json.loads(model.model_dump_json(exclude={"id": True, "created_at": True, "usage": True, "meta": True}))


def test_failed_items_fail_no_task(server: Any, environment: Sandbox) -> None:
    environment.script(BUG, error="the model gave up")

    @flow
    def triage() -> BatchResult:
        return classify_batch([MONEY, BUG], categories=TEAMS)

    answer = triage()
    assert [each.status for each in answer.results] == ["completed", "failed"]
    assert (answer.results[1].label, str(answer.results[1].error)) == (None, "the model gave up")


def test_a_queued_input_brings_no_excerpt_of_itself() -> None:
    """`Job.input_preview` would be written to Prefect's result storage."""
    image = "https://example.org/zebra-invoice.png"
    with Sandbox(plan="pro", switches=Switches(unasked_async="media")) as sandbox:
        credentials = ClassifailyCredentials(api_key=sandbox.key, base_url=sandbox.base_url)
        with credentials.get_client() as client:
            assert "zebra" in client.classify(image, type="image").model_dump_json()
        for answer in (
            classify.fn(image, type="image", credentials=credentials),
            asyncio.run(aclassify.fn(image, type="image", credentials=credentials)),
        ):
            assert answer.label
            assert "zebra" not in answer.model_dump_json()


class Team(Enum):
    billing = "Payments, refunds, invoices"
    technical = "Bugs and errors"


def test_an_enum_label_kept_as_json_stays_a_member(credentials: ClassifailyCredentials, sandbox: Sandbox) -> None:
    options: dict[str, Any] = {"persist_result": True, "result_serializer": "json", "cache_key_fn": lambda *_: "labels"}
    kept, batch = classify.with_options(**options), classify_batch.with_options(**options)

    @flow
    def twice() -> list[Any]:
        answers = [kept(MONEY, credentials=credentials, categories=Team, return_state=True) for _ in range(2)]
        return [(state.name, state.result().label) for state in answers]

    @flow
    def batches() -> list[Any]:
        several = batch.with_options(cache_key_fn=lambda *_: "batches")
        answers = [several([MONEY], credentials=credentials, categories=Team, return_state=True) for _ in range(2)]
        return [(state.name, state.result().results[0].label) for state in answers]

    assert twice() == [("Completed", Team.billing), ("Cached", Team.billing)]
    assert batches() == [("Completed", Team.billing), ("Cached", Team.billing)]
