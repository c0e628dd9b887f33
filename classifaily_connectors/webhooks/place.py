"""Where deliveries are looked for: a store, or the receiver in front of one.

The law of this file: what can never work (a wrong address, a missing driver or secret) is refused at once; what is
merely down is said in the log, and the API is asked instead.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifaily_connectors.store.address import store_url
from classifaily_connectors.store.source import checked_source
from classifaily_connectors.webhooks.feed import REMOTE, RemoteFeed, feed_settings, open_inbox
from classifaily_connectors.webhooks.readers import ReceiverReader, StoreReader
from classifaily_connectors.webhooks.watching import report

if TYPE_CHECKING:
    from pydantic import SecretStr

    from classifaily_connectors.settings import Settings
    from classifaily_connectors.store.delivery import Delivery, SettledBy
    from classifaily_connectors.webhooks.watching import Reader


@dataclass(frozen=True, slots=True)
class Place:
    """One source in a store; `receiver` is the way to it where the store is out of reach."""

    store: str
    source: str
    receiver: Settings | None

    @classmethod
    def of(cls, store: str | os.PathLike[str] | None, source: str, secret: str | SecretStr | None) -> Place | None:
        """The place that a user names; None without a store.

        Raises ConfigurationError for what can never work.
        """
        if store is None:
            return None
        name = checked_source(source)
        if isinstance(store, str) and store.startswith(REMOTE):
            return cls(store, name, feed_settings(store, name, secret))
        store = store_url(store)
        _check(store)
        return cls(store, name, None)

    def reader(self, poll: float) -> Reader:
        """What a watch reads it with; the store is polled every `poll` seconds."""
        if self.receiver is not None:
            return ReceiverReader(self.receiver)
        return StoreReader(self.store, self.source, poll=poll, owner=_owner())

    def look(self, job_id: str) -> Delivery | None:
        """The job's delivery, if it has come; in a store, the job is from now on expected."""
        with _tolerant():
            if self.receiver is not None:
                with contextlib.closing(RemoteFeed(self.receiver, self.source)) as feed:
                    return feed.find(self.source, [job_id]).get(job_id)
            with contextlib.closing(open_inbox(self.store)) as inbox:
                inbox.expect(self.source, [job_id], owner=_owner())
                return inbox.find(self.source, [job_id]).get(job_id)
        return None

    def note(self, job_id: str, by: SettledBy) -> None:
        """Remember, in a store, by what the job was settled."""
        if self.receiver is None:
            with _tolerant(), contextlib.closing(open_inbox(self.store)) as inbox:
                inbox.settle(self.source, [job_id], by=by)


@contextlib.contextmanager
def _tolerant() -> Generator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  # whatever a store raises
        report(error)


@functools.lru_cache(maxsize=8)
def _check(store: str) -> None:
    from classifaily_connectors.store.database import open_engine

    open_engine(store).dispose()


def _owner() -> str:
    return f"{socket.gethostname()}/{os.getpid()}"
