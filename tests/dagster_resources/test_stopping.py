"""How a run was stopped, and what was bought afterwards, paid twice, or left unknown: nothing, each time."""

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from classifaily_connectors.sandbox import Fault, Sandbox
from dagster_classifaily import ClassifailyResource, build_classify_op, classify_asset

TEAMS = ["billing", "technical"]
ROWS = [{"body": f"refund number {number}"} for number in range(200)]
UNDER_WAY = 20
"""What two calls of ten rows may still bring after the stop."""
AGAIN = dg.RetryPolicy(max_retries=2)
SIZES: Any = {"batch_size": 10, "concurrency": 2}

Stop = Callable[[dg.DagsterInstance], None]


@classify_asset(text="body", categories=TEAMS, retry_policy=AGAIN, **SIZES)
def table() -> Any:
    return ROWS


@classify_asset(text="body", categories=TEAMS, retry_policy=AGAIN, **SIZES)
async def async_table() -> Any:
    return ROWS


@dg.asset(retry_policy=AGAIN)
def plain(classifaily: ClassifailyResource) -> None:
    classifaily.classify_table(ROWS, text="body", categories=TEAMS, **SIZES)


@dg.asset(retry_policy=AGAIN)
async def async_plain(classifaily: ClassifailyResource) -> None:
    await asyncio.gather(
        classifaily.aclassify_table(ROWS[:40], text="body", categories=TEAMS, batch_size=10, concurrency=1),
        classifaily.aclassify_table(ROWS[40:], text="body", categories=TEAMS, batch_size=10, concurrency=1),
    )


def terminate(instance: dg.DagsterInstance) -> None:
    """What a run launcher does when somebody presses Terminate."""
    mark(instance)
    os.kill(os.getpid(), signal.SIGTERM)


def mark(instance: dg.DagsterInstance) -> None:
    """What is left of it where no signal reaches the step: one that runs in a thread."""
    (run,) = instance.get_runs(limit=1)
    instance.report_run_canceling(run)


def interrupt(instance: dg.DagsterInstance) -> None:
    """Ctrl-C."""
    os.kill(os.getpid(), signal.SIGINT)


class Stopper(threading.Thread):
    """Stops the run once so much was bought, and remembers how much it was."""

    def __init__(self, sandbox: Sandbox, instance: dg.DagsterInstance, stop: Stop, after: int) -> None:
        super().__init__(daemon=True)
        self.sandbox, self.instance, self.halt, self.after, self.billed = sandbox, instance, stop, after, 0

    def run(self) -> None:
        while self.sandbox.bill().charged < self.after:
            time.sleep(0.02)
        self.billed = self.sandbox.bill().charged
        self.halt(self.instance)


def run(instance: dg.DagsterInstance, *assets: Any) -> bool | str:
    resources = {"classifaily": ClassifailyResource()}
    try:
        return dg.materialize(assets, instance=instance, resources=resources, raise_on_error=False).success
    except (dg.DagsterExecutionInterruptedError, KeyboardInterrupt) as error:
        return type(error).__name__


@pytest.mark.parametrize(
    ("asset", "stop"),
    [(each, stop) for each in (table, async_table, plain, async_plain) for stop in (terminate, interrupt)]
    + [(table, mark), (async_table, mark)],
    ids=lambda each: each.op.name if isinstance(each, dg.AssetsDefinition) else each.__name__,
)
def test_a_table_stops_within_seconds_and_a_rerun_pays_for_the_rest(
    sandbox: Sandbox, dagster_home: Path, asset: dg.AssetsDefinition, stop: Stop
) -> None:
    sandbox.inject(Fault(kind="delay", method="POST", seconds=0.4, times=None))
    with dg.DagsterInstance.get() as instance:
        stopper = Stopper(sandbox, instance, stop, after=10)
        stopper.start()
        if stop is mark:
            with ThreadPoolExecutor(1) as pool:
                ended = pool.submit(run, instance, asset).result()
            late = UNDER_WAY * 4  # it looks once a second
        else:
            ended, late = run(instance, asset), UNDER_WAY
        assert ended is not True
        assert sandbox.bill().charged <= min(stopper.billed + late, len(ROWS) - 1)
        (first,) = instance.get_runs(limit=1)
        events = instance.all_logs(first.run_id)
        assert [each for each in events if each.dagster_event and each.dagster_event.is_step_restarted] == []
        if stop is not interrupt:
            assert first.status == dg.DagsterRunStatus.CANCELED
        said = [each.user_message for each in events if "were billed" in each.user_message]
        assert said
        assert "running the same again pays for" in said[-1]

        sandbox.clear_faults()
        assert run(instance, asset) is True
    assert set(sandbox.bill().by_input.values()) == {1}, "nothing was paid twice"
    assert sandbox.bill().charged == len(ROWS), "nothing was left unknown"


@dg.op(required_resource_keys={"classifaily"}, retry_policy=AGAIN)
def one_by_one(context: dg.OpExecutionContext) -> None:
    for row in ROWS:
        context.resources.classifaily.classify(row["body"], categories=TEAMS)


@dg.op(out=dg.DynamicOut())
def texts() -> Any:
    for number, row in enumerate(ROWS):
        yield dg.DynamicOutput(row["body"], mapping_key=str(number))


classify = build_classify_op(categories=TEAMS, retry_policy=AGAIN)


@dg.job(resource_defs={"classifaily": ClassifailyResource()}, executor_def=dg.in_process_executor)
def calls() -> None:
    one_by_one()


@dg.job(resource_defs={"classifaily": ClassifailyResource()}, executor_def=dg.in_process_executor)
def mapped() -> None:
    texts().map(classify)


@pytest.mark.parametrize("job", [calls, mapped], ids=lambda each: each.name)
def test_no_call_of_a_terminated_run_is_made_again(sandbox: Sandbox, dagster_home: Path, job: dg.JobDefinition) -> None:
    sandbox.inject(Fault(kind="delay", method="POST", seconds=0.3, times=None))
    with dg.DagsterInstance.get() as instance:
        stopper = Stopper(sandbox, instance, terminate, after=2)
        stopper.start()
        with contextlib.suppress(dg.DagsterExecutionInterruptedError):
            job.execute_in_process(instance=instance, raise_on_error=False)
        assert sandbox.bill().charged <= stopper.billed + 1
        assert set(sandbox.bill().by_input.values()) == {1}
