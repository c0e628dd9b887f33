"""The webhook sensor: one run for each delivery, whatever happens to the daemon."""

import importlib.util
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from classifaily_connectors import ClassifailyClient, ConfigurationError
from classifaily_connectors.sandbox import Sandbox
from classifaily_connectors.store import Inbox
from classifaily_connectors.store.delivery import Arrival
from classifaily_connectors.webhooks import Receiver
from classifaily_connectors.webhooks.serving import Serving
from dagster_classifaily import JOBS, ClassifailyResource, FinishedJob, build_webhook_sensor

SECRET = "whsec-dagster-test-secret"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "dagster"


@dg.op
def deal_with(config: FinishedJob) -> str:
    return config.job_id


@dg.job
def dealing() -> None:
    deal_with()


Tick = Callable[..., dg.SensorResult]


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    opened = Inbox(f"sqlite:///{tmp_path / 'deliveries.db'}")
    yield opened
    opened.close()


@pytest.fixture
def tick(inbox: Inbox, tmp_path: Path) -> Iterator[Tick]:
    """One look of a sensor, with the cursor of the look before."""
    url = f"sqlite:///{tmp_path / 'deliveries.db'}"
    resource = ClassifailyResource(api_key=dg.EnvVar("CLASSIFAILY_KEY"), webhook_store=url)
    cursor: str | None = None

    with dg.DagsterInstance.ephemeral() as instance:

        def look(sensor: dg.SensorDefinition) -> dg.SensorResult:
            nonlocal cursor
            with dg.build_sensor_context(instance, cursor, resources={"classifaily": resource}) as context:
                result = sensor(context)
            assert isinstance(result, dg.SensorResult)
            cursor = result.cursor
            return result

        yield look


def arrive(inbox: Inbox, *names: str, event: str = "job.completed", source: str = "default") -> None:
    inbox.put([Arrival(source, event, name, name.encode(), time.time(), None, b"{}") for name in names])


def sensor(**options: Any) -> dg.SensorDefinition:
    return build_webhook_sensor(target=dealing, **options)


def keys(result: dg.SensorResult) -> list[str | None]:
    return [request.run_key for request in result.run_requests or ()]


def test_each_delivery_is_one_run_in_the_order_of_the_feed(tick: Tick, inbox: Inbox, sandbox: Sandbox) -> None:
    arrive(inbox, "7", "8")
    arrive(inbox, "7")  # a repeat
    arrive(inbox, "9", event="job.failed")
    first = tick(sensor())
    assert keys(first) == ["default:7:job.completed", "default:8:job.completed", "default:9:job.failed"]
    again = tick(sensor())
    assert (keys(again), again.cursor) == ([], first.cursor)
    assert again.skip_reason
    arrive(inbox, "10")
    assert keys(tick(sensor())) == ["default:10:job.completed"]


@pytest.mark.parametrize("cursor", ["500", "500@another-store", "1@another-store"])
def test_a_cursor_of_another_store_is_noticed(
    cursor: str, inbox: Inbox, sandbox: Sandbox, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The store was restored or replaced: what lies in it has its runs, and the log says why."""
    arrive(inbox, "7")
    resource = ClassifailyResource(
        api_key=dg.EnvVar("CLASSIFAILY_KEY"), webhook_store=f"sqlite:///{tmp_path / 'deliveries.db'}"
    )
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance, cursor, resources={"classifaily": resource}) as context,
    ):
        result = sensor()(context)
    assert isinstance(result, dg.SensorResult)
    assert keys(result) == ["default:7:job.completed"]
    assert result.cursor == f"1@{inbox.identity}"
    assert "read from the first one on" in caplog.text


def test_the_cursor_of_an_earlier_version_is_read_on(
    tick: Tick, inbox: Inbox, sandbox: Sandbox, tmp_path: Path
) -> None:
    arrive(inbox, "7", "8")
    resource = ClassifailyResource(
        api_key=dg.EnvVar("CLASSIFAILY_KEY"), webhook_store=f"sqlite:///{tmp_path / 'deliveries.db'}"
    )
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance, "1", resources={"classifaily": resource}) as context,
    ):
        result = sensor(source="Default")(context)
    assert isinstance(result, dg.SensorResult)
    assert keys(result) == ["default:8:job.completed"]


DAYS = dg.StaticPartitionsDefinition(["mon", "tue"])
JOB_IDS = dg.DynamicPartitionsDefinition(name="job_ids")


@dg.asset(partitions_def=JOB_IDS)
def per_job() -> None: ...


@dg.asset(partitions_def=dg.MultiPartitionsDefinition({"day": DAYS, "job": JOB_IDS}))
def per_day_and_job() -> None: ...


def test_a_run_of_a_partitioned_target_has_its_partition(tick: Tick, inbox: Inbox, sandbox: Sandbox) -> None:
    arrive(inbox, "7", "8")
    result = tick(build_webhook_sensor(target=[per_job], partition_key=lambda job: None if job.job_id == "8" else "j7"))
    assert [each.partition_key for each in result.run_requests or ()] == ["j7"]
    assert result.dynamic_partitions_requests == [JOB_IDS.build_add_request(["j7"])]
    assert len(result.asset_events) == 2


def test_a_new_dynamic_dimension_is_added(tick: Tick, inbox: Inbox, sandbox: Sandbox) -> None:
    arrive(inbox, "7")

    def key(job: FinishedJob) -> str:
        return dg.MultiPartitionKey({"day": "mon", "job": job.job_id})

    result = tick(build_webhook_sensor(target=per_day_and_job, partition_key=key))
    assert result.dynamic_partitions_requests == [JOB_IDS.build_add_request(["7"])]


def test_a_run_without_its_partition_is_not_launched(inbox: Inbox, sandbox: Sandbox, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="partition_key"):
        build_webhook_sensor(target=[per_job])
    arrive(inbox, "7")
    by_name = build_webhook_sensor(target=dg.AssetSelection.assets(per_job))
    resource = ClassifailyResource(webhook_store=f"sqlite:///{tmp_path / 'deliveries.db'}")
    whole = dg.Definitions(assets=[per_job], sensors=[by_name], resources={"classifaily": resource})
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(
            instance, resources={"classifaily": resource}, repository_def=whole.get_repository_def()
        ) as context,
        pytest.raises(ConfigurationError, match="partition_key"),
    ):
        by_name(context)


@pytest.mark.parametrize("wrong", ["job.complete", ["job.started"], []])
def test_an_event_that_is_never_sent_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="events"):
        sensor(events=wrong)


def test_only_what_ends_a_job_launches_a_run(tick: Tick, inbox: Inbox, sandbox: Sandbox) -> None:
    arrive(inbox, "7", event="batch.progress")
    arrive(inbox, "8", event="batch.failed")
    assert keys(tick(sensor(events="*"))) == ["default:8:batch.failed"]


def test_a_redrive_is_a_run_of_its_own(tick: Tick, inbox: Inbox, sandbox: Sandbox) -> None:
    arrive(inbox, "7")
    tick(sensor())
    inbox.redrive(inbox.find("default", ["7"])["7"].seq)
    assert keys(tick(sensor())) == ["default:7:job.completed:r1"]


def test_a_run_gets_the_ids_and_nothing_else(tick: Tick, inbox: Inbox, sandbox: Sandbox) -> None:
    arrive(inbox, "7", source="staging")
    arrive(inbox, "8")
    configured = sensor(source="staging", run_config=lambda job: dg.RunConfig(ops={"deal_with": job}))
    result = tick(configured)
    (request,) = result.run_requests or ()
    told = {"job_id": "7", "event": "job.completed", "source": "staging"}
    assert request.run_config["ops"] == {"deal_with": {"config": told}}
    assert {name: request.tags[f"classifaily/{name}"] for name in told} == told
    (seen,) = result.asset_events
    assert isinstance(seen, dg.AssetObservation)
    assert seen.asset_key == JOBS
    assert seen.metadata["job_id"] == dg.TextMetadataValue("7")
    assert dealing.execute_in_process(run_config=request.run_config).output_for_node("deal_with") == "7"


def test_what_is_not_wanted_is_passed_over_for_good(tick: Tick, inbox: Inbox, sandbox: Sandbox) -> None:
    arrive(inbox, "7", event="job.paused")
    arrive(inbox, "8", event="job.failed")
    arrive(inbox, "", event="")  # signed, but unreadable
    wanted = sensor(events=["job.completed"])
    assert keys(tick(wanted)) == []
    arrive(inbox, "9")
    assert keys(tick(wanted)) == ["default:9:job.completed"]


def test_a_tick_has_its_limit_and_the_next_goes_on(tick: Tick, inbox: Inbox, sandbox: Sandbox) -> None:
    names = [str(number) for number in range(250)]
    arrive(inbox, *names)
    looks = [keys(tick(sensor(max_runs=120))) for _ in range(3)]
    assert [len(look) for look in looks] == [120, 120, 10]
    assert [key for look in looks for key in look] == [f"default:{name}:job.completed" for name in names]


def test_a_tick_that_has_no_time_left_keeps_what_it_has(
    tick: Tick, inbox: Inbox, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", "0.000001")
    arrive(inbox, *(str(number) for number in range(150)))
    assert [len(keys(tick(sensor(max_runs=1000)))) for _ in range(3)] == [100, 50, 0]


def test_without_a_target_it_observes(tick: Tick, inbox: Inbox, sandbox: Sandbox) -> None:
    arrive(inbox, "7")
    result = tick(build_webhook_sensor())
    assert (keys(result), len(result.asset_events)) == ([], 1)


def test_the_receiver_may_be_asked_instead_of_its_store(
    inbox: Inbox, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLASSIFAILY_WEBHOOK_SECRET", SECRET)
    arrive(inbox, "7")
    with Serving(Receiver(f"sqlite:///{tmp_path / 'deliveries.db'}", SECRET)) as receiver:
        resource = ClassifailyResource(webhook_store=receiver.url)
        with dg.build_sensor_context(resources={"classifaily": resource}) as context:
            result: Any = sensor()(context)
    assert keys(result) == ["default:7:job.completed"]


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_runs"):
        sensor(max_runs=0)
    with pytest.raises(ConfigurationError, match="nothing to run"):
        build_webhook_sensor(run_config=lambda job: dg.RunConfig(ops={"x": job}))


# --- a real daemon ----------------------------------------------------------------------------


@pytest.fixture
def local_dagster(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Dagster with the example's sensor, reading the store that the receiver of this test writes."""
    spec = importlib.util.spec_from_file_location("local_dagster", EXAMPLES / "local_dagster.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("CLASSIFAILY_STORE_URL", f"sqlite:///{tmp_path / 'shared.db'}")
    (tmp_path / "work").mkdir()
    with module.LocalDagster(tmp_path / "work", [EXAMPLES / "finished_jobs.py"], daemon=True) as dagster:
        yield dagster


def until(reached: Callable[[], Any], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def test_every_signed_delivery_is_one_run_though_the_daemon_is_killed(
    local_dagster: Any, sandbox: Sandbox, tmp_path: Path
) -> None:
    def runs() -> list[dg.DagsterRun]:
        with dg.DagsterInstance.from_config(str(tmp_path / "work" / "home")) as instance:
            return instance.get_runs()

    def keys() -> list[str]:
        return sorted(run.tags["dagster/run_key"] for run in runs())

    def submitted(client: ClassifailyClient, count: int) -> list[str]:
        texts = (f"I was charged {number} times." for number in range(count))
        return [str(client.submit(text, categories=["billing", "technical"]).id) for text in texts]

    store = f"sqlite:///{tmp_path / 'shared.db'}"
    with Serving(Receiver(store, SECRET)) as receiver, ClassifailyClient() as client, closing(Inbox(store)) as inbox:
        endpoint = client.webhooks.create(receiver.url, secret=SECRET)
        jobs = submitted(client, 3)
        until(runs)
        daemon = local_dagster._started.pop()
        daemon.send_signal(signal.SIGKILL)  # perhaps in the middle of launching the others
        daemon.wait(60)
        jobs += submitted(client, 1)
        until(lambda: inbox.stats().ok == len(jobs))

        workspace = str(tmp_path / "work" / "workspace.yaml")
        local_dagster._run("daemon", "dagster._daemon", "run", "-w", workspace)
        until(lambda: len(runs()) >= len(jobs))
        assert inbox.redrive(inbox.find("default", jobs[:1])[jobs[0]].seq)
        expected = sorted([*(f"default:{job}:job.completed" for job in jobs), f"default:{jobs[0]}:job.completed:r1"])
        until(lambda: len(found := runs()) >= len(expected) and all(run.is_finished for run in found))
        client.webhooks.delete(endpoint.id)

    assert keys() == expected
    assert Counter(run.status.value for run in runs()) == {"SUCCESS": len(expected)}
    with dg.DagsterInstance.from_config(str(tmp_path / "work" / "home")) as instance:
        records = instance.fetch_materializations(dg.AssetKey("newest_label"), limit=100).records
        labels = Counter(str(each.asset_materialization.metadata["label"].value) for each in records)  # type: ignore[union-attr]
        seen = instance.fetch_observations(JOBS, limit=100).records
    assert labels == {"billing": len(expected)}
    assert len(seen) >= len(expected)
