"""What the triggerer does for us: wait for a job, and watch for finished ones.

The law of this file: only the asynchronous client, so that nothing blocks the triggerer's loop; arguments and events
are ids and times, never a secret or a result (Airflow stores and logs both); times are absolute, so they mean the same
after a restart; and nothing outside this process is touched when a trigger is cleaned up. The arguments are frozen: a
trigger of the last version is still in Airflow's database when the next one starts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from airflow_provider_classifaily.hooks import ClassifailyHook

if TYPE_CHECKING:
    from classifaily_connectors.store.delivery import Delivery
    from classifaily_connectors.webhooks import Feed
    from classifaily_connectors.webhooks.position import FeedReader, Position

WATERMARK = "classifaily_deliveries_seen"
EVENTS = ("job.completed", "job.failed", "batch.completed")


class ClassifailyJobTrigger(BaseTrigger):
    """Fires once, when the job has ended or the deadline has come; all waiting triggers share one poller.

    `source` names whose webhooks tell of the end; None asks the API alone. `deadline` and `not_before` are seconds
    since the epoch. The event is `{job_id, outcome, settled_by, error}`, `outcome` being settled, timeout or error.
    """

    def __init__(
        self, *, job_id: str, classifaily_conn_id: str, source: str | None, deadline: float, not_before: float = 0.0
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.job_id = job_id
        self.classifaily_conn_id = classifaily_conn_id
        self.source = source
        self.deadline = deadline
        self.not_before = not_before

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class path and the arguments, exactly as they were given."""
        arguments = {
            "job_id": self.job_id,
            "classifaily_conn_id": self.classifaily_conn_id,
            "source": self.source,
            "deadline": self.deadline,
            "not_before": self.not_before,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the one event."""
        event = {"job_id": self.job_id, **await self._outcome()}
        await asyncio.sleep(self.not_before - time.time())
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _outcome(self) -> dict[str, Any]:
        from classifaily_connectors import ClassifailyError, JobTimeoutError
        from classifaily_connectors.webhooks import await_for_job

        try:
            async with ClassifailyHook(self.classifaily_conn_id) as hook:
                client = await hook.aget_conn()
                if self.source is None:
                    settled = await await_for_job(client, self.job_id, deadline=self.deadline)
                else:
                    where = await hook.adeliveries(self.source)
                    settled = await await_for_job(client, self.job_id, deadline=self.deadline, **where)
        except JobTimeoutError:
            return {"outcome": "timeout"}
        except ClassifailyError as error:
            return {"outcome": "error", "error": f"{type(error).__name__}: {error}"}
        return {"outcome": "settled", "settled_by": settled.settled_by}


class ClassifailyEventTrigger(BaseEventTrigger):
    """Fires for the webhooks that arrive: for an `AssetWatcher`, so that finished jobs schedule a DAG.

    `events` names those that count, or the one that does; None or "*" is all, our own pings and events yet unknown too.
    What arrived within `poll_seconds` is one event, `{job_ids, source}`. On Airflow 3.3 or newer a watermark is kept in
    the state store of each watched asset, and what arrived while the triggerer was down is told afterwards (a delivery
    may be told twice, never not at all); before, it begins with what arrives next. A watermark that is none of the
    store's, because another one has taken its place, is noticed and logged: its deliveries are told from the first on.

    Raises ValueError for a name that no event has.
    """

    def __init__(
        self,
        *,
        classifaily_conn_id: str = ClassifailyHook.default_conn_name,
        source: str = "default",
        events: Iterable[str] | str | None = EVENTS,
        poll_seconds: float = 1.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.classifaily_conn_id = classifaily_conn_id
        self.source = source
        self.events = checked_events(events)
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class path and the arguments."""
        arguments = {
            "classifaily_conn_id": self.classifaily_conn_id,
            "source": self.source,
            "events": self.events,
            "poll_seconds": self.poll_seconds,
        }
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch, for ever."""
        from classifaily_connectors.webhooks import open_feed
        from classifaily_connectors.webhooks.position import FeedReader

        async with ClassifailyHook(self.classifaily_conn_id) as hook:
            feed = await asyncio.to_thread(open_feed, **await hook.adeliveries(self.source))
        try:
            reader = FeedReader(feed, await self._watermark(feed), self.source)
            self.log.info("Watching the webhooks of %s after delivery %d", self.source, reader.position.seq)
            while True:
                arrived = await self._arrived(reader)
                wanted = [each for each in arrived if self.events is None or each.event in self.events]
                if wanted:  # in one event: of two at once Airflow may schedule only the first (apache/airflow#63507)
                    told = {"job_ids": [each.job_id for each in wanted], "source": self.source}
                    yield TriggerEvent(told)  # type: ignore[no-untyped-call]
                await asyncio.sleep(self.poll_seconds)
                if arrived:  # after a while, in which Airflow has written them down
                    await self._remember(reader.position)
        finally:
            feed.close()

    async def _arrived(self, reader: FeedReader) -> list[Delivery]:
        try:
            arrived = await asyncio.to_thread(reader.page)
            if reader.restarted:
                self.log.warning("%s", reader.restarted)
                reader.restarted = ""
        except Exception as error:  # noqa: BLE001  # whatever a store that is down raises: it is asked again
            self.log.warning("the feed could not be read, and is read again: %s", type(error).__name__)
            return []
        return arrived

    async def _watermark(self, feed: Feed) -> Position:
        """Where to go on: after what every asset has been told of; a new asset begins with what arrives next."""
        from classifaily_connectors.webhooks.position import Position

        kept = [await state.aget(WATERMARK) for state in self._states]
        known = [Position.parse(each) for each in kept if each is not None]
        end = await asyncio.to_thread(feed.end)
        if known:
            return min(known, key=lambda each: each.in_feed(end).seq)
        newest = Position(end.head, end.store)
        await self._remember(newest)
        return newest

    async def _remember(self, seen: Position) -> None:
        for state in self._states:
            await state.aset(WATERMARK, str(seen))

    @property
    def _states(self) -> list[Any]:
        """The state store of each asset that is watched (Airflow 3.3 or newer): equal triggers of several are one."""
        states = getattr(self, "asset_state_store", None)
        if states is None:
            return []
        # Airflow looks one up by its asset, and tells a trigger of no asset.
        named: list[Any] = [each for by in ("_by_name", "_by_uri") for each in getattr(states, by, {}).values()]
        return named or [states]


def checked_events(events: Iterable[str] | str | None) -> list[str] | None:
    """The names of events in one order, whatever they came in: Airflow tells triggers apart by their arguments.

    None is all of them. Raises ConfigurationError, a ValueError, for a name that no event has, and when there is none.
    """
    from classifaily_connectors.events import ALL_EVENTS, checked_event_names

    if events is None:
        return None
    names = list(checked_event_names(events))
    return None if ALL_EVENTS in names else names
