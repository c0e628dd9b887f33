"""`build_webhook_sensor`: one run for each job that has ended, as the receiver of its webhook tells.

The law of this file: reading the feed consumes nothing, and the cursor is the number of the last delivery that was
dealt with, and the store it lies in. So a daemon that was killed looks again at what it may not have finished, and the
run keys keep it from launching anything twice. A delivery is a hint: a run gets ids, and asks for the job itself.
"""

import logging
import os
import time
from collections.abc import Callable, Collection, Generator
from contextlib import closing
from typing import Any

from dagster import (
    AssetKey,
    AssetObservation,
    Config,
    DefaultSensorStatus,
    MetadataValue,
    RunConfig,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
)

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.store.delivery import Delivery
from classifaily_connectors.webhooks.position import FeedReader, Position

JOBS = AssetKey(["classifaily", "jobs"])
"""The external asset that stands for the jobs of the API; each delivery is an observation of it."""
EVENTS = ("job.completed", "job.failed", "batch.completed")
_PAGE = 100
_SPARE = 20.0
"""Seconds of a tick that are left to Dagster itself."""


class FinishedJob(Config):
    """A job that has ended: config for the op or asset that is to deal with it.

    `event` is job.completed, job.failed or batch.completed; `source` is the last part of the webhook's path
    ("default" without one).
    """

    job_id: str
    event: str = "job.completed"
    source: str = "default"


Configure = Callable[[FinishedJob], RunConfig | dict[str, Any]]


def build_webhook_sensor(
    name: str = "classifaily_webhook",
    *,
    target: Any = None,
    run_config: Configure | None = None,
    source: str = "default",
    events: Collection[str] = EVENTS,
    resource_key: str = "classifaily",
    max_runs: int = _PAGE,
    minimum_interval_seconds: int = 10,
    default_status: DefaultSensorStatus = DefaultSensorStatus.STOPPED,
    description: str | None = None,
) -> SensorDefinition:
    """A sensor that launches `target` (a job, or assets) once for every delivery of `source` whose event is wanted.

    It reads the deliveries where the resource says (`ClassifailyResource.deliveries`), in the order in which they
    came, from the first one on: what came while nobody looked is not lost. `run_config` makes the run's config of a
    `FinishedJob`; every run also has the tags classifaily/job_id, classifaily/event and classifaily/source. A
    delivery has one run, however often it is repeated or the daemon restarted; redriven by hand
    (`classifaily webhooks redrive`) it has one more. Each is also an observation of the asset `classifaily/jobs`;
    without a `target` it is only that.

    One tick launches at most `max_runs`, and ends well within Dagster's limit for a tick. Raises ConfigurationError
    for a `max_runs` below 1, and for a `run_config` with nothing to run.
    """
    if max_runs < 1:
        raise ConfigurationError(f"max_runs is {max_runs}; it must be at least 1")
    if run_config is not None and target is None:
        raise ConfigurationError("run_config is given and no target: there is nothing to run")

    # Called by hand, as tests do, it is given the resource a second time, by name.
    def look(context: SensorEvaluationContext, **_resources: Any) -> SensorResult:
        begun = place = Position.parse(context.cursor)
        runs: list[RunRequest] = []
        seen: list[AssetObservation] = []
        store = getattr(context.resources, resource_key).deliveries
        with closing(_deliveries(store, source, begun, context.log)) as deliveries:
            for delivery, place in deliveries:  # noqa: B007  # where the tick has come to
                if delivery is None:
                    continue
                if delivery.event in events and delivery.job_id and delivery.state != "refuted":
                    seen.append(_observation(delivery))
                    if target is not None:
                        runs.append(_request(delivery, run_config))
                if len(seen) >= max_runs:
                    break
        skipped = None if runs else f"no wanted delivery after number {begun.seq}" if not seen else "nothing to launch"
        return SensorResult(run_requests=runs, asset_events=seen, cursor=str(place), skip_reason=skipped)

    return SensorDefinition(
        name=name,
        evaluation_fn=look,
        target=target,
        required_resource_keys={resource_key},
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        description=description or "Launches a run for every ClassifAIly job that has ended.",
    )


def _deliveries(
    store: str, source: str, begun: Position, log: logging.Logger
) -> Generator[tuple[Delivery | None, Position]]:
    """What came after `begun`, page by page, as long as the tick has time, and the place in the feed after each; at
    the end of a page the place alone."""
    from classifaily_connectors.webhooks import open_feed

    until = time.monotonic() + _budget()
    feed = open_feed(store, source=source)
    try:
        reader = FeedReader(feed, begun, source)
        while True:
            page = reader.page(_PAGE)
            if reader.restarted:
                log.warning(reader.restarted)
                reader.restarted = ""
            for each in page:
                yield each, Position(each.seq, reader.position.store)
            yield None, reader.position
            if not page or time.monotonic() >= until:
                return
    finally:
        feed.close()


def _budget() -> float:
    names = ("DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS", "DAGSTER_GRPC_TIMEOUT_SECONDS")
    allowed = float(next(filter(None, map(os.environ.get, names)), 60))
    return max(allowed - _SPARE, allowed / 2)


def _run_key(delivery: Delivery) -> str:
    again = f":r{delivery.redriven}" if delivery.redriven else ""
    return f"{delivery.source}:{delivery.job_id}:{delivery.event}{again}"


def _request(delivery: Delivery, configure: Configure | None) -> RunRequest:
    told = {"job_id": delivery.job_id, "event": delivery.event, "source": delivery.source}
    return RunRequest(
        run_key=_run_key(delivery),
        run_config=configure(FinishedJob(**told)) if configure else {},
        tags={f"classifaily/{name}": value for name, value in told.items()},
    )


def _observation(delivery: Delivery) -> AssetObservation:
    return AssetObservation(
        JOBS,
        metadata={
            "job_id": delivery.job_id,
            "event": delivery.event,
            "source": delivery.source,
            "received_at": MetadataValue.timestamp(delivery.received_at),
            "redriven": delivery.redriven,
        },
    )
