"""From the receiver's store to Prefect: events for all who listen, and the runs that are suspended, resumed.

    python -m prefect_classifaily.sink --store postgresql+psycopg://… [--credentials BLOCK]

The law of this file: at least once. The place in the feed moves on only after Prefect took the events, and their ids
follow from the delivery, so telling them again changes nothing. Prefect refuses to resume a run that is not suspended
yet, and says so in the body of a 200: so a job that has just ended is tried again for a minute. What nothing of this
reaches (a lost webhook, a sink that was down) the sweep finds by asking the API.
"""

from __future__ import annotations

import argparse
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from prefect import flow, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.logging import get_logger
from prefect.settings import get_current_settings

from classifaily_connectors import ClassifailyError, ConfigurationError, NotFoundError
from classifaily_connectors.events import ends_job
from classifaily_connectors.store.source import checked_source
from classifaily_connectors.webhooks import check_job
from classifaily_connectors.webhooks.feed import REMOTE, open_inbox
from classifaily_connectors.webhooks.position import FeedReader, Position
from prefect_classifaily import events
from prefect_classifaily.credentials import ClassifailyCredentials, resolve
from prefect_classifaily.failures import reason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from uuid import UUID

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from classifaily_connectors import ClassifailyClient
    from classifaily_connectors.store.delivery import Delivery

logger = get_logger("classifaily.sink")

INTERVAL, SWEEP = 1.0, 300.0
"""Seconds between two looks into the feed, and between two sweeps."""
PATIENCE = 60.0
"""Seconds for which a run that waits for a job that has just ended is tried: it may be about to suspend."""
LONGEST_PAUSE = 60.0
"""Seconds at most between two tries while the store or Prefect is down."""
_PAGE = 100
_FEW, _MANY = 50, 200


@dataclass
class Sink:
    """One source's deliveries on their way into Prefect.

    `store` is the store URL of the receiver, where the place in the feed is kept too, under the name `consumer`.

    Raises ConfigurationError when it cannot be opened, or is the address of a receiver, and for a source that is none.
    """

    store: str = field(repr=False)  # it may hold a password
    credentials: ClassifailyCredentials
    source: str = "default"
    consumer: str = "prefect"
    patience: float = PATIENCE
    _fresh: dict[str, float] = field(default_factory=dict[str, float])
    _crashed: set[UUID] = field(default_factory=set)  # pyright: ignore[reportUnknownVariableType]  # UUID is no import here

    def __post_init__(self) -> None:
        if self.store.startswith(REMOTE):
            raise ConfigurationError("the sink keeps its place in the store: give it the store's URL, not a receiver's")
        self.source = checked_source(self.source)
        self._inbox = open_inbox(self.store)

    def close(self) -> None:
        """Close the store."""
        self._inbox.close()

    # --- what was delivered -------------------------------------------------------------------

    def forward(self, prefect: SyncPrefectClient) -> int:
        """Tell Prefect of the next deliveries, and resume who waits for their jobs; how many there were."""
        reader = FeedReader(self._inbox, Position(self._inbox.mark(self.consumer)), self.source)
        deliveries = reader.page(_PAGE)
        if reader.restarted:
            logger.warning("%s", reader.restarted)
            self._inbox.set_mark(self.consumer, 0)
        told = [each for each in deliveries if each.job_id and each.state in ("ok", "conflict")]
        emit(prefect, map(_event, told))
        ended = {each.job_id for each in told if ends_job(each.event)}
        self._inbox.settle(self.source, ended, by="webhook")
        self._fresh.update((job_id, time.monotonic() + self.patience) for job_id in ended)
        self.resume(prefect)
        if deliveries:
            self._inbox.set_mark(self.consumer, reader.position.seq)
        return len(deliveries)

    def resume(self, prefect: SyncPrefectClient) -> None:
        """Resume the runs that are suspended for jobs that have just ended."""
        if self._fresh:
            for run, job_id in suspended(prefect, self._fresh):
                _resume(prefect, run.id, job_id)
        now = time.monotonic()
        self._fresh = {job_id: until for job_id, until in self._fresh.items() if until > now}

    # --- what was not -------------------------------------------------------------------------

    def sweep(self, prefect: SyncPrefectClient) -> int:
        """Ask the API for every job that is waited for, and go on with those that have ended; how many those were."""
        waiting = list(suspended(prefect))
        expected = {each.job_id for each in self._inbox.expected(self.source)}
        ended: set[str] = set()
        with self.credentials.get_client() as client:
            for job_id in sorted({job_id for _run, job_id in waiting} | expected):
                if self._settle(prefect, client, job_id):
                    ended.add(job_id)
        for run, job_id in waiting:
            if job_id in ended:
                _resume(prefect, run.id, job_id)
        self._name_crashed(prefect)
        return len(ended)

    def _name_crashed(self, prefect: SyncPrefectClient) -> None:
        """Warn, once each, of runs that were marked Crashed while they were suspended: nothing resumes them."""
        for run in _tagged(prefect, [events.WAITING], StateType.CRASHED):
            if run.id not in self._crashed:
                self._crashed.add(run.id)
                logger.warning(
                    "flow run %s (%s) waits for job %s and is Crashed, so nothing resumes it: retry it, and let the "
                    "automation that marks runs as crashed expect prefect.flow-run.Suspended too",
                    run.name, run.id, ", ".join(sorted(events.jobs_of(run.tags))),
                )  # fmt: skip

    def _settle(self, prefect: SyncPrefectClient, client: ClassifailyClient, job_id: str) -> bool:
        if self._inbox.find(self.source, [job_id]):
            return True  # its event is the feed's to tell
        try:
            found = check_job(client, job_id)
        except NotFoundError:
            logger.warning("the API knows no job %s", job_id)  # a run that waits for it is told the same, and fails
        except ClassifailyError as error:
            logger.warning("job %s cannot be asked for: %s", job_id, error)
            return False
        else:
            if found is None:
                return False
            name = events.event_of(found.job)
            emit(prefect, [events.event_body(self.source, name, job_id, settled_by="poll")])
        self._inbox.settle(self.source, [job_id], by="poll")
        return True


def emit(prefect: SyncPrefectClient, bodies: Iterable[dict[str, Any]]) -> None:
    """Hand events over; returns once Prefect has taken them. Raises what Prefect's client raises."""
    told = list(bodies)
    if told:
        path: Any = "/events"
        prefect.request("POST", path, json=told)


def suspended(prefect: SyncPrefectClient, job_ids: Collection[str] | None = None) -> Iterable[tuple[FlowRun, str]]:
    """The runs that are suspended until a job ends (one of these, or any), and the job's id."""
    few = job_ids is not None and len(job_ids) <= _FEW
    tags = [events.tag(each) for each in job_ids or ()] if few else [events.WAITING]
    for run in _tagged(prefect, tags, StateType.PAUSED):
        job_id = events.job_of(run.state.state_details.pause_key) if run.state else None
        if (
            job_id is not None
        ):  # suspended for a job of ours; with several waits at once, for each that it is tagged with
            for each in sorted({job_id, *events.jobs_of(run.tags)}):
                if job_ids is None or each in job_ids:
                    yield run, each


def _tagged(prefect: SyncPrefectClient, tags: list[str], state: StateType) -> list[FlowRun]:
    of_type = FlowRunFilterState(type=FlowRunFilterStateType(any_=[state]))
    wanted = FlowRunFilter(tags=FlowRunFilterTags(any_=tags), state=of_type)
    runs: list[FlowRun] = []
    while True:
        page = prefect.read_flow_runs(flow_run_filter=wanted, limit=_MANY, offset=len(runs))
        runs += page
        if len(page) < _MANY:
            return runs


def _resume(prefect: SyncPrefectClient, run_id: UUID, job_id: str) -> None:
    answer = prefect.resume_flow_run(run_id)
    if answer.status == SetStateStatus.ACCEPT:
        logger.info("job %s has ended: flow run %s is resumed", job_id, run_id)
    else:  # a 200 all the same; it is looked at again
        logger.info("flow run %s was not resumed: %s", run_id, getattr(answer.details, "reason", answer.status))


def _event(delivery: Delivery) -> dict[str, Any]:
    return events.event_body(
        delivery.source, delivery.event, delivery.job_id, settled_by="webhook", redriven=delivery.redriven
    )


@flow(name="classifaily-sweep")
def sweep_jobs(credentials: str | None = None, source: str = "default", consumer: str = "prefect") -> dict[str, int]:
    """Forward what was delivered, then go on with every job that ended without a webhook; to be run on a schedule.

    `credentials` is the name of a saved block, which also says where the receiver's store is: Prefect shows a flow's
    parameters, and a store URL may hold a password.
    """
    block = resolve(credentials)
    sink = Sink(block.get_store_url(), block, source, consumer)
    forwarded = 0
    try:
        with get_client(sync_client=True) as prefect:
            while number := sink.forward(prefect):
                forwarded += number
            return {"forwarded": forwarded, "settled": sink.sweep(prefect)}
    finally:
        sink.close()


def run(sink: Sink, stop: threading.Event, *, interval: float = INTERVAL, sweep: float = SWEEP) -> None:
    """Forward and sweep until `stop` is set; what is down is waited for.

    Raises ConfigurationError without PREFECT_API_URL: Prefect would start a temporary server, which nobody else hears.
    """
    if not get_current_settings().api.url:
        raise ConfigurationError("PREFECT_API_URL is not set: the sink would tell a temporary server of its own")
    failures, swept = 0, float("-inf")
    while not stop.is_set():
        number = 0
        try:
            with get_client(sync_client=True) as prefect:
                while not stop.is_set():
                    number = sink.forward(prefect)
                    if time.monotonic() - swept >= sweep:
                        sink.sweep(prefect)
                        swept = time.monotonic()
                    failures = 0
                    if number < _PAGE:
                        stop.wait(interval)
        except Exception as error:  # noqa: BLE001  # whatever the store or Prefect's client raises: nothing is lost
            failures += 1
            logger.warning("the sink could not go on and tries again: %s", reason(error))
            stop.wait(min(2.0 ** min(failures, 10), LONGEST_PAUSE))


def main(arguments: list[str] | None = None) -> None:
    """The command: forward deliveries until told to stop (SIGTERM, Ctrl-C)."""
    parser = argparse.ArgumentParser(prog="python -m prefect_classifaily.sink", description=__doc__)
    parser.add_argument("--store", help="the receiver's store URL; default: where the credentials say")
    parser.add_argument("--source", default="default", help="the account or environment, as in the webhook's path")
    parser.add_argument("--consumer", default="prefect", help="the name under which the place in the feed is kept")
    parser.add_argument("--credentials", help="a saved ClassifailyCredentials block; default: CLASSIFAILY_KEY")
    parser.add_argument("--interval", type=float, default=INTERVAL, help="seconds between two looks into the feed")
    parser.add_argument("--sweep", type=float, default=SWEEP, help="seconds between two sweeps")
    given = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    try:
        block = resolve(given.credentials)
        sink = Sink(given.store or block.get_store_url(), block, given.source, given.consumer)
        try:
            logger.info("ready: deliveries of source %s go to Prefect", given.source)
            run(sink, stop, interval=given.interval, sweep=given.sweep)
        finally:
            sink.close()
    except ConfigurationError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
