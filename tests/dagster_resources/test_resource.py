"""The resource in every place Dagster has for one, against the sandbox over real HTTP."""

import asyncio
import gc
import inspect
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from classifaily_connectors import AuthenticationError, ClassifailyClient, ConfigurationError, classify_table
from classifaily_connectors.options import BatchOptions, ClassifyOptions, ClassifyTableOptions, SchemaOptions
from classifaily_connectors.sandbox import Sandbox
from classifaily_connectors.tables.job import TableOptions
from dagster_classifaily import ClassifailyResource

Materialize = Callable[..., dg.ExecuteInProcessResult]
TEAMS = ["billing", "technical", "account"]
TEXT = "I was charged twice for my subscription."
KEY = "cai_live_5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2"


def every_operation(resource: ClassifailyResource) -> list[Any]:
    schema = resource.ensure_schema("teams", TEAMS)
    job = resource.submit(TEXT, schema=schema)
    return [
        resource.classify(TEXT, categories=TEAMS).label,
        [answer.label for answer in resource.batch([TEXT, "error 500"], schema=schema).results],
        resource.get_job(str(job.id)).id == job.id,
        resource.wait_for_job(str(job.id), timeout=30).label,
        resource.ensure_schema("teams", TEAMS).id == schema.id,
        resource.usage().usage.requests,
    ]


async def every_operation_async(resource: ClassifailyResource) -> list[Any]:
    schema = await resource.aensure_schema("teams", TEAMS)
    job = await resource.asubmit(TEXT, schema=schema)
    return [
        (await resource.aclassify(TEXT, categories=TEAMS)).label,
        [answer.label for answer in (await resource.abatch([TEXT, "error 500"], schema=schema)).results],
        (await resource.aget_job(str(job.id))).id == job.id,
        (await resource.await_for_job(str(job.id), timeout=30)).label,
        (await resource.aensure_schema("teams", TEAMS)).id == schema.id,
        (await resource.ausage()).usage.requests,
    ]


EXPECTED = ["billing", ["billing", "technical"], True, "billing", True, 4]


@pytest.fixture(autouse=True)
def no_connection_left_open() -> Any:
    yield
    gc.collect()  # an open socket warns when collected, and a warning is an error


def test_a_sync_asset(sandbox: Sandbox, materialize: Materialize) -> None:
    @dg.asset
    def labels(classifaily: ClassifailyResource) -> list[Any]:
        return every_operation(classifaily)

    assert materialize(labels).output_for_node("labels") == EXPECTED


def test_an_async_asset_works_on_the_loop_of_the_run(sandbox: Sandbox, materialize: Materialize) -> None:
    @dg.asset
    async def labels(classifaily: ClassifailyResource) -> list[Any]:
        return await every_operation_async(classifaily)

    @dg.asset(deps=[labels])
    async def many(classifaily: ClassifailyResource) -> set[Any]:
        answers = await asyncio.gather(*(classifaily.aclassify(f"{TEXT} {n}", categories=TEAMS) for n in range(40)))
        return {answer.label for answer in answers}

    result = materialize(labels, many)
    assert result.output_for_node("labels") == EXPECTED
    assert result.output_for_node("many") == {"billing"}


def test_asyncio_run_inside_a_sync_asset_may_be_called_again_and_leaves_nothing_open(
    sandbox: Sandbox, materialize: Materialize
) -> None:
    @dg.asset
    def twice(classifaily: ClassifailyResource) -> list[Any]:
        first = asyncio.run(every_operation_async(classifaily))
        return [first, asyncio.run(every_operation_async(classifaily))[:-1]]

    assert materialize(twice).output_for_node("twice") == [EXPECTED, EXPECTED[:-1]]


def test_threads_of_an_asset_share_one_client(sandbox: Sandbox, materialize: Materialize) -> None:
    @dg.asset
    def threaded(classifaily: ClassifailyResource) -> list[Any]:
        with ThreadPoolExecutor(8) as pool:
            clients = set(pool.map(lambda _: id(classifaily.client), range(64)))
            labels = set(pool.map(lambda n: classifaily.classify(f"{TEXT} {n}", categories=TEAMS).label, range(64)))
        return [len(clients), labels]

    assert materialize(threaded).output_for_node("threaded") == [1, {"billing"}]


def test_a_sensor_evaluation(sandbox: Sandbox) -> None:
    @dg.sensor(job_name="anything")
    def quota(context: dg.SensorEvaluationContext, classifaily: ClassifailyResource) -> Any:
        return dg.SkipReason(f"{classifaily.usage().remaining} left")

    with dg.build_sensor_context(resources={"classifaily": ClassifailyResource()}) as context:
        assert quota(context) == dg.SkipReason("100000 left")


def test_an_asset_called_directly_and_a_resource_without_dagster(sandbox: Sandbox) -> None:
    @dg.asset
    def label(classifaily: ClassifailyResource) -> Any:
        return classifaily.classify(TEXT, categories=TEAMS).label

    assert label(ClassifailyResource()) == "billing"
    with ClassifailyResource().process_config_and_initialize_cm() as resource:
        assert resource.usage().plan == "pro"
    bare = ClassifailyResource()
    assert bare.usage().plan == "pro"
    bare.client.close()


def test_connections_are_closed_when_the_resource_is_torn_down(sandbox: Sandbox, materialize: Materialize) -> None:
    kept: list[Any] = []

    @dg.asset
    async def label(classifaily: ClassifailyResource) -> None:
        kept.extend([classifaily.client, classifaily.async_client])
        kept[0].usage()
        await kept[1].usage()

    assert materialize(label).success
    with pytest.raises(ConfigurationError, match="closed"):
        kept[0].usage()
    with pytest.raises(ConfigurationError, match="closed"):
        asyncio.run(kept[1].usage())


def test_on_a_loop_of_the_callers_it_is_closed_at_teardown(sandbox: Sandbox) -> None:
    loop = asyncio.new_event_loop()

    async def use(resource: ClassifailyResource) -> Any:
        await resource.ausage()
        return resource.async_client

    with dg.build_resources({"classifaily": ClassifailyResource()}, event_loop=loop) as resources:
        client = loop.run_until_complete(use(resources.classifaily))
    with pytest.raises(ConfigurationError, match="closed"):
        loop.run_until_complete(client.usage())
    loop.close()


@pytest.mark.parametrize(
    ("options", "method"),
    [
        (ClassifyOptions, ClassifailyClient.classify),
        (ClassifyOptions, ClassifailyClient.submit),
        (BatchOptions, ClassifailyClient.batch),
    ],
)
def test_options_are_those_of_the_core(options: Any, method: Any) -> None:
    keywords = [each.name for each in inspect.signature(method).parameters.values() if each.kind == each.KEYWORD_ONLY]
    assert set(options.__annotations__) == set(keywords)


def test_options_of_a_table_are_those_of_the_core() -> None:
    own = [
        each.name for each in inspect.signature(classify_table).parameters.values() if each.kind == each.KEYWORD_ONLY
    ]
    assert set(ClassifyTableOptions.__annotations__) == {*own, *TableOptions.__annotations__}


def test_the_other_signatures_are_those_of_the_core(sandbox: Sandbox) -> None:
    with ClassifailyClient() as client:
        cores: dict[str, Callable[..., Any]] = {
            "usage": client.usage,
            "get_job": client.jobs.get,
        }
        for name, core in cores.items():
            for twin in (name, f"a{name}"):
                ours = inspect.signature(getattr(ClassifailyResource(), twin))
                assert ours.parameters == inspect.signature(core).parameters
        ensure = inspect.signature(client.schemas.ensure).parameters.values()
        assert list(SchemaOptions.__annotations__) == [p.name for p in ensure if p.kind == p.KEYWORD_ONLY]


def test_every_operation_has_an_async_twin_with_the_same_signature() -> None:
    for name in (
        "classify",
        "submit",
        "submit_once",
        "batch",
        "classify_table",
        "usage",
        "ensure_schema",
        "get_job",
        "wait_for_job",
    ):
        one, twin = getattr(ClassifailyResource, name), getattr(ClassifailyResource, f"a{name}")
        assert inspect.signature(one) == inspect.signature(twin)
        assert inspect.iscoroutinefunction(twin)


def test_the_requests_say_which_dagster_sent_them(sandbox: Sandbox) -> None:
    assert ClassifailyResource().client_settings()["application"] == f"dagster/{dg.__version__}"


def test_a_misspelled_setting_is_refused() -> None:
    with pytest.raises(ValidationError, match="api_kye"):
        ClassifailyResource(api_kye=dg.EnvVar("CLASSIFAILY_KEY"))  # type: ignore[call-arg]


def test_a_missing_variable_is_named_before_any_asset_runs(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, materialize: Materialize
) -> None:
    monkeypatch.delenv("CLASSIFAILY_KEY")

    @dg.asset
    def label(classifaily: ClassifailyResource) -> None:
        raise AssertionError("it ran")

    with pytest.raises(dg.DagsterInvalidConfigError, match="CLASSIFAILY_KEY"):
        materialize(label)
    with pytest.raises(ConfigurationError, match="CLASSIFAILY_KEY"):
        ClassifailyResource().usage()


def test_a_key_from_a_vault(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, materialize: Materialize) -> None:
    monkeypatch.delenv("CLASSIFAILY_KEY")

    class FromVault(ClassifailyResource):
        api_key: str = ""

        def get_api_key(self) -> str:
            return sandbox.key

    @dg.asset
    def plan(classifaily: ClassifailyResource) -> Any:
        return classifaily.usage().plan

    assert materialize(plan, resource=FromVault()).output_for_node("plan") == "pro"


def test_settings_for_another_process_hold_no_key(sandbox: Sandbox) -> None:
    with pytest.raises(TypeError, match="client_settings"):
        pickle.dumps(ClassifailyResource())
    sent = pickle.dumps(ClassifailyResource(timeout=7).client_settings())
    assert sandbox.key.encode() not in sent
    program = (
        "import pickle, sys; from classifaily_connectors import ClassifailyClient\n"
        "with ClassifailyClient(**pickle.load(sys.stdin.buffer)) as client: print(client.usage().plan)"
    )
    other = subprocess.run([sys.executable, "-c", program], input=sent, capture_output=True, check=True, timeout=60)
    assert other.stdout.split() == [b"pro"]


def test_a_refused_key_is_told_where_it_came_from(sandbox: Sandbox) -> None:
    sandbox.revoke(KEY)
    with ClassifailyResource(api_key=KEY).process_config_and_initialize_cm() as resource:
        for ask in (resource.usage, lambda: asyncio.run(resource.ausage())):
            with pytest.raises(
                AuthenticationError, match="the key came from api_key of the Dagster resource"
            ) as caught:
                ask()
            assert KEY[-4:] not in str(caught.value)
