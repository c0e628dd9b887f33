"""The feed: which deliveries have come, asked of the store itself or of the receiver in front of it.

The law of this file: reading consumes nothing, and whoever reads keeps its own place. A worker without the database's
password reads from the receiver, with a token that is derived from the webhook secret and opens nothing else; the
receiver tells ids only, never a body.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.fields import as_list, as_map
from classifaily_connectors.operations.call import call
from classifaily_connectors.operations.context import Context
from classifaily_connectors.operations.effects import Send
from classifaily_connectors.settings import ApiKey, Settings, as_secret, checked_address
from classifaily_connectors.store.delivery import Delivery, FeedEnd
from classifaily_connectors.store.source import checked_source
from classifaily_connectors.transport import SyncTransport

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import SecretStr

    from classifaily_connectors.operations.effects import Operation
    from classifaily_connectors.store import Inbox

REMOTE = ("https://", "http://")
LONG_POLL = 20.0
"""Seconds the receiver may hold a question that has no answer yet."""
_IDS = 100
"""Job ids in one question: what fits into any server's request line."""
_LIMIT = 500


class Feed(Protocol):
    """Deliveries in the order in which they came to lie in the store; safe to share between threads.

    Every call blocks for one query; on an event loop, call it by `asyncio.to_thread`.
    """

    def find(self, source: str, job_ids: Collection[str]) -> dict[str, Delivery]:
        """The newest delivery that says of each of those jobs that it has ended, for those that have one."""
        ...

    def after(self, seq: int, *, source: str | None = None, limit: int = _LIMIT) -> list[Delivery]:
        """What came after `seq`, in order, at most `limit`; without bodies."""
        ...

    def head(self) -> int:
        """The number of the newest delivery; 0 when there is none."""
        ...

    def end(self) -> FeedEnd:
        """Which store it is, and the number of its newest delivery."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


def open_feed(store: str | os.PathLike[str], *, source: str = "default", secret: str | SecretStr | None = None) -> Feed:
    """The feed at `store`: a store URL, or the address of a receiver's webhook (`https://…/classifaily/webhooks`).

    A store's feed tells of every source. A receiver's tells of `source` alone, and needs its webhook `secret`
    (default: from CLASSIFAILY_WEBHOOK_SECRET); http is for loopback only.

    Raises ConfigurationError when the store cannot be opened, the address cannot work or the secret is missing.
    """
    if isinstance(store, str) and store.startswith(REMOTE):
        return RemoteFeed(feed_settings(store, source, secret), source)
    return open_inbox(store)


def open_inbox(store: str | os.PathLike[str]) -> Inbox:
    """The store itself. Raises ConfigurationError when it cannot be opened."""
    from classifaily_connectors.store import Inbox

    return Inbox(store)


class RemoteFeed:
    """One source's feed, as its receiver tells it. Raises what any call of the API's client raises."""

    def __init__(self, settings: Settings, source: str) -> None:
        self._transport = SyncTransport(settings, max_connections=2, application="feed")
        self._source = checked_source(source)
        self._context = Context()

    def __repr__(self) -> str:
        return f"RemoteFeed({self._transport.settings.base_url!r}, source={self._source!r})"

    def find(self, source: str, job_ids: Collection[str]) -> dict[str, Delivery]:
        """The newest delivery that says of each of those jobs that it has ended, for those that have one."""
        if checked_source(source) != self._source:
            return {}
        return self._transport.run(find(self._context, job_ids))

    def after(self, seq: int, *, source: str | None = None, limit: int = _LIMIT) -> list[Delivery]:
        """What came after `seq`, in order, at most `limit`."""
        if source is not None and checked_source(source) != self._source:
            return []
        return self._transport.run(after(self._context, seq, limit=limit))

    def head(self) -> int:
        """The number of the newest delivery; 0 when there is none."""
        return self.end().head

    def end(self) -> FeedEnd:
        """Which store it is, and the number of its newest delivery; a receiver of an earlier version does not tell
        which store."""
        return self._transport.run(end(self._context))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()


def feed_settings(store: str, source: str, secret: str | SecretStr | None) -> Settings:
    """The address of a receiver's feed, and the token that opens it."""
    from classifaily_connectors.webhooks.secrets import Secrets, feed_token

    address, source = checked_address(store), checked_source(source)
    found = as_secret(secret) or next(iter(Secrets().of(source)), None)
    if found is None:
        raise ConfigurationError(f"the feed of source {source!r} needs its webhook secret: CLASSIFAILY_WEBHOOK_SECRET")
    path = "" if source == "default" else f"/{source}"
    key_source = f"the webhook secret of source {source!r}"
    return Settings(ApiKey(feed_token(found)), f"{address}{path}", key_source=key_source)


def after(context: Context, seq: int, *, limit: int = _LIMIT, wait: float = 0.0) -> Operation[list[Delivery]]:
    """Deliveries after `seq`; the receiver waits up to `wait` seconds for the first."""
    params = {"after": str(seq), "limit": str(limit), "wait": f"{wait:g}"}
    _end, deliveries = yield from call(context, Send("GET", "/feed", params, timeout=wait + 30.0), _read)
    return deliveries


def head(context: Context) -> Operation[int]:
    """The newest delivery's number."""
    return (yield from end(context)).head


def end(context: Context) -> Operation[FeedEnd]:
    """Which store it is, and the newest delivery's number."""
    place, _deliveries = yield from call(context, Send("GET", "/feed", {"after": "0", "limit": "1"}), _read)
    return place


def find(context: Context, job_ids: Collection[str]) -> Operation[dict[str, Delivery]]:
    """The newest delivery that says of each of those jobs that it has ended, for those that have one."""
    found: dict[str, Delivery] = {}
    for part in _parts(sorted(job_ids)):
        path = f"/feed?{urlencode([('job_id', each) for each in part])}"
        _end, deliveries = yield from call(context, Send("GET", path), _read)
        found.update((each.job_id, each) for each in deliveries)
    return found


def _parts(ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), _IDS):
        yield ids[start : start + _IDS]


def _read(wire: object) -> tuple[FeedEnd, list[Delivery]]:
    envelope = as_map(wire)
    try:
        place = FeedEnd(str(envelope.get("store") or ""), int(envelope["head"]))
        return place, [_delivery(as_map(each)) for each in as_list(envelope["deliveries"])]
    except (KeyError, TypeError) as error:
        raise ValueError("not a feed") from error


def _delivery(wire: dict[str, Any]) -> Delivery:
    return Delivery(
        seq=int(wire["seq"]),
        source=str(wire["source"]),
        event=str(wire["event"]),
        job_id=str(wire["job_id"]),
        state=str(wire["state"]),
        received_at=float(wire["received_at"]),
        sent_at=None,
        repeats=0,
        redriven=int(wire.get("redriven") or 0),
        digest=b"",
    )
