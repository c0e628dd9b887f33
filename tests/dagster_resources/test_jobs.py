"""Long jobs: submitted once, and waited for by webhook or by asking."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from classifaily_connectors import JobFailedError, JobTimeoutError, NotFoundError
from classifaily_connectors.sandbox import Sandbox
from classifaily_connectors.webhooks import Receiver
from classifaily_connectors.webhooks.serving import Serving
from dagster_classifaily import ClassifailyResource

SECRET = "whsec-dagster-test-secret"
TEAMS = ["billing", "technical"]
TEXT = "I was charged twice."


@pytest.fixture
def resource(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ClassifailyResource]:
    """A resource whose webhooks are received, in the store that it reads."""
    store = f"sqlite:///{tmp_path / 'store.db'}"
    with Serving(Receiver(store, SECRET)) as receiver:
        one = ClassifailyResource(api_key=dg.EnvVar("CLASSIFAILY_KEY"), store_url=store)
        endpoint = one.client.webhooks.create(receiver.url, secret=SECRET)
        yield one
        one.client.webhooks.delete(endpoint.id)
        one.client.close()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., dg.ExecuteInProcessResult]]:
    with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:

        def materialize(*assets: Any, **resources: Any) -> dg.ExecuteInProcessResult:
            return dg.materialize(assets, instance=instance, resources=resources, raise_on_error=False)

        materialize.instance = instance  # type: ignore[attr-defined]
        yield materialize


def ends(result: dg.ExecuteInProcessResult, instance: dg.DagsterInstance) -> list[str]:
    return [log.user_message for log in instance.all_logs(result.run_id) if "has ended" in log.user_message]


@pytest.mark.parametrize("source", [None, "default"])
def test_a_job_is_waited_for(run: Any, resource: ClassifailyResource, source: str | None) -> None:
    @dg.asset
    def label(classifaily: ClassifailyResource) -> Any:
        job = classifaily.submit(TEXT, categories=TEAMS)
        return classifaily.wait_for_job(job.id or "", source=source).label

    @dg.asset
    async def alabel(classifaily: ClassifailyResource) -> Any:
        job = await classifaily.asubmit(TEXT, categories=TEAMS)
        return (await classifaily.await_for_job(job.id or "", source=source)).label

    result = run(label, alabel, classifaily=resource)
    assert [result.output_for_node(name) for name in ("label", "alabel")] == ["billing", "billing"]
    assert len(ends(result, run.instance)) == 2


def test_a_delivery_that_came_before_anybody_waited_is_found(resource: ClassifailyResource) -> None:
    from classifaily_connectors.webhooks import open_feed

    job = resource.submit(TEXT, categories=TEAMS)
    feed = open_feed(resource.deliveries)
    end = time.monotonic() + 60
    while not feed.find("default", [str(job.id)]):
        assert time.monotonic() < end
        time.sleep(0.02)
    feed.close()
    assert resource.wait_for_job(str(job.id), source="default", timeout=60).label == "billing"


def test_a_wait_ends_at_its_deadline_and_is_not_repeated(sandbox: Sandbox, resource: ClassifailyResource) -> None:
    sandbox.script("slow", "billing", delay=3600)
    job = resource.submit("slow", categories=TEAMS)
    for patience in ({"timeout": 0.0}, {"deadline": time.time() - 5}, {"timeout": 0.0, "source": "default"}):
        with pytest.raises(JobTimeoutError) as raised:
            resource.wait_for_job(str(job.id), **patience)  # type: ignore[arg-type]
        assert raised.value.job_id == str(job.id)
        assert isinstance(raised.value, dg.Failure)
        assert not raised.value.allow_retries
    sandbox.script("slow")


def test_what_a_wait_raises(sandbox: Sandbox, resource: ClassifailyResource) -> None:
    sandbox.script("bad", error="no")
    job = resource.submit("bad", categories=TEAMS)
    with pytest.raises(JobFailedError):
        resource.wait_for_job(str(job.id), timeout=60)
    sandbox.script("bad")
    with pytest.raises(NotFoundError):
        resource.wait_for_job("999999", timeout=60)


def test_a_step_that_runs_again_finds_its_job(run: Any, sandbox: Sandbox, resource: ClassifailyResource) -> None:
    found: list[Any] = []

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
    def queued(classifaily: ClassifailyResource) -> str:
        found.append(classifaily.submit_once(TEXT, categories=TEAMS).id)
        if len(found) == 1:
            raise OSError("the step is killed here")
        return str(found[0])

    @dg.asset
    async def aqueued(classifaily: ClassifailyResource) -> str:
        found.append((await classifaily.asubmit_once(TEXT, categories=TEAMS)).id)
        return str(found[-1])

    assert run(queued, classifaily=resource).success
    assert run(aqueued, classifaily=resource).success
    assert len(found) == 3
    assert len(set(found)) == 1
    assert sandbox.bill().charged == 1
