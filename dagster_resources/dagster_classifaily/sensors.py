"""`build_webhook_sensor`: one run for each job that has ended, as the receiver of its webhook tells.

The law of this file: reading the feed consumes nothing, and the cursor is the number of the last delivery that was
dealt with, and the store it lies in. So a daemon that was killed looks again at what it may not have finished, and the
run keys keep it from launching anything twice. A delivery is a hint: a run gets ids, and asks for the job itself.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self, cast

from dagster import (
    AddDynamicPartitionsRequest,
    AssetKey,
    AssetObservation,
    Config,
    DefaultSensorStatus,
    DynamicPartitionsDefinition,
    MetadataValue,
    MultiPartitionKey,
    MultiPartitionsDefinition,
    PartitionsDefinition,
    RunConfig,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
)

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.events import ALL_EVENTS, JOB_EVENTS, checked_event_names, ends_job

if TYPE_CHECKING:
    from classifaily_connectors.store.delivery import Delivery
    from classifaily_connectors.webhooks.position import Position

JOBS = AssetKey(["classifaily", "jobs"])
"""The external asset that stands for the jobs of the API; each delivery is an observation of it."""
_PAGE = 100
_SPARE = 20.0
"""Seconds of a tick that are left to Dagster itself."""


class FinishedJob(Config):
    """A job that has ended: config for the op or asset that is to deal with it.

    `event` is job.completed, job.failed, batch.completed or batch.failed; `source` is the last part of the webhook's
    path ("default" without one).
    """

    job_id: str
    event: str = "job.completed"
    source: str = "default"


Configure = Callable[[FinishedJob], RunConfig | dict[str, Any]]
Choose = Callable[[FinishedJob], str | None]


@dataclass(frozen=True)
class Partitioning:
    """Which partition a job's run is for: `choose` says it of a `target` with partitions."""

    choose: Choose | None
    target: Any
    partitions: PartitionsDefinition[Any] | None = None

    def now(self, context: SensorEvaluationContext, sensor: SensorDefinition) -> Self:
        """As it is at this tick: what the target is, and what post-processing has given it, is known only now.

        Raises ConfigurationError for a target with partitions and no word about which.
        """
        found = _partitions_of(self.target)
        name = sensor.job_name if self.target is not None else None
        if name is not None and context.repository_def is not None:
            found = context.repository_def.get_job(name).partitions_def or found
        known = replace(self, partitions=found)
        known.check()
        return known

    def check(self) -> None:
        """Raise ConfigurationError for a target with partitions and no word about which."""
        if self.choose is None and (self.partitions or _partitions_of(self.target)) is not None:
            raise ConfigurationError(
                "the target has partitions, and a run without one would fail: say which, e.g."
                " partition_key=lambda job: job.job_id"
            )

    def key(self, job: FinishedJob) -> str | None:
        """The partition of this job's run."""
        return None if self.choose is None else self.choose(job)

    def added(self, runs: Iterable[RunRequest]) -> list[AddDynamicPartitionsRequest]:
        """What Dagster is to add, so that the runs have their partitions: those of dynamic partitions."""
        keys = list(dict.fromkeys(each.partition_key for each in runs if each.partition_key is not None))
        if not keys:
            return []
        if isinstance(self.partitions, MultiPartitionsDefinition):
            multi = [each.keys_by_dimension for each in keys if isinstance(each, MultiPartitionKey)]
            dimensions = self.partitions.partitions_defs
            return [
                each.partitions_def.build_add_request(list(dict.fromkeys(key[each.name] for key in multi)))
                for each in dimensions
                if multi and isinstance(each.partitions_def, DynamicPartitionsDefinition)
            ]
        if isinstance(self.partitions, DynamicPartitionsDefinition) and self.partitions.name is not None:
            return [self.partitions.build_add_request(keys)]
        return []


def _partitions_of(target: Any) -> PartitionsDefinition[Any] | None:
    """Those of a job, an asset or the first of several that has some; None where that is not known yet."""
    # Dagster's own selections are tuples, of a kind that refuses to be gone through.
    several = isinstance(target, list | set | frozenset) or type(target) is tuple
    each: list[Any] = list(cast("Iterable[Any]", target)) if several else [target]
    return next((found for one in each if (found := getattr(one, "partitions_def", None)) is not None), None)


def build_webhook_sensor(
    name: str = "classifaily_webhook",
    *,
    target: Any = None,
    run_config: Configure | None = None,
    partition_key: Choose | None = None,
    source: str = "default",
    events: str | Iterable[str] = JOB_EVENTS,
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
    `target` with partitions needs `partition_key`, which makes the key (or None: no run) of a `FinishedJob`; dynamic
    partitions that are new are added. A delivery has one run, however often it is repeated or the daemon restarted;
    redriven by hand (`classifaily webhooks redrive`) it has one more. Each is also an observation of the asset
    `classifaily/jobs`; without a `target` it is only that.

    One tick launches at most `max_runs`, and ends well within Dagster's limit for a tick. Raises ConfigurationError
    for a `max_runs` below 1, for an event that the API does not send, for a `run_config` or `partition_key` with
    nothing to run, and for a target with partitions without a `partition_key`; where the partitions are known only
    when it ticks, the tick fails, and the delivery waits.
    """
    if max_runs < 1:
        raise ConfigurationError(f"max_runs is {max_runs}; it must be at least 1")
    for given, what in ((run_config, "run_config"), (partition_key, "partition_key")):
        if given is not None and target is None:
            raise ConfigurationError(f"{what} is given and no target: there is nothing to run")
    wanted = checked_event_names(events)
    told = Partitioning(partition_key, target)
    told.check()

    # Called by hand, as tests do, it is given the resource a second time, by name.
    def look(context: SensorEvaluationContext, **_resources: Any) -> SensorResult:
        from classifaily_connectors.webhooks.position import Position

        begun = place = Position.parse(context.cursor)
        partitioning = told.now(context, sensor)
        runs: list[RunRequest] = []
        seen: list[AssetObservation] = []
        store = getattr(context.resources, resource_key).deliveries
        with closing(_deliveries(store, source, begun, context.log)) as deliveries:
            for delivery, place in deliveries:  # noqa: B007  # where the tick has come to
                if delivery is None:
                    continue
                if _is_wanted(delivery, wanted):
                    seen.append(_observation(delivery))
                    if target is not None:
                        runs += _requests(delivery, run_config, partitioning)
                if len(seen) >= max_runs:
                    break
        skipped = None if runs else f"no wanted delivery after number {begun.seq}" if not seen else "nothing to launch"
        added = partitioning.added(runs)
        return SensorResult(
            run_requests=runs,
            asset_events=seen,
            cursor=str(place),
            skip_reason=skipped,
            dynamic_partitions_requests=added or None,
        )

    sensor = SensorDefinition(
        name=name,
        evaluation_fn=look,
        target=target,
        required_resource_keys={resource_key},
        minimum_interval_seconds=minimum_interval_seconds,
        default_status=default_status,
        description=description or "Launches a run for every ClassifAIly job that has ended.",
    )
    return sensor


def _deliveries(
    store: str, source: str, begun: Position, log: logging.Logger
) -> Generator[tuple[Delivery | None, Position]]:
    """What came after `begun`, page by page, as long as the tick has time, and the place in the feed after each; at
    the end of a page the place alone."""
    from classifaily_connectors.webhooks import open_feed
    from classifaily_connectors.webhooks.position import FeedReader, Position

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


def _is_wanted(delivery: Delivery, events: Collection[str]) -> bool:
    named = delivery.event in events or ALL_EVENTS in events
    return named and ends_job(delivery.event) and bool(delivery.job_id) and delivery.state != "refuted"


def _requests(delivery: Delivery, configure: Configure | None, partitioning: Partitioning) -> Iterator[RunRequest]:
    told = {"job_id": delivery.job_id, "event": delivery.event, "source": delivery.source}
    job = FinishedJob(**told)
    key = partitioning.key(job)
    if key is None and partitioning.choose is not None:
        return
    yield RunRequest(
        run_key=_run_key(delivery),
        run_config=configure(job) if configure else {},
        tags={f"classifaily/{name}": value for name, value in told.items()},
        partition_key=key,
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
