"""A reader's place in a feed, which means something in one store only.

The law of this file: a place that belongs to another store, or lies beyond the end of this one (restored from a
backup, moved to another database), is noticed; the reader begins anew and is told so. Telling twice costs little,
telling never is a loss.
"""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from classifaily_connectors.errors import InvalidRequestError

if TYPE_CHECKING:
    from classifaily_connectors.store.delivery import Delivery, FeedEnd
    from classifaily_connectors.webhooks.feed import Feed

logger = logging.getLogger("classifaily_connectors")

_FORM = re.compile(r"([0-9]{1,18})(?:@([0-9a-zA-Z_-]{0,64}))?")
_CHECK = 10.0
"""Seconds between two looks at the end of a feed in which nothing comes."""


@dataclass(frozen=True, slots=True)
class Position:
    """Everything up to the number `seq` has been read, in the store of that identity.

    Written `SEQ@STORE`; a bare number, as earlier versions kept it, is believed as long as the feed is that long.
    """

    seq: int = 0
    store: str = ""

    def __str__(self) -> str:
        return f"{self.seq}@{self.store}" if self.store else str(self.seq)

    @classmethod
    def parse(cls, text: Any) -> Position:
        """What was kept: text, a number, or nothing. Raises InvalidRequestError when it is no position."""
        if text is None or text == "":
            return cls()
        found = _FORM.fullmatch(str(text))
        if found is None:
            raise InvalidRequestError(f"{str(text)[:80]!r} is no place in a feed: SEQ or SEQ@STORE", outcome="not_sent")
        return cls(int(found[1]), found[2] or "")

    def in_feed(self, end: FeedEnd) -> Position:
        """This place in the feed that ends there: the same, or its begin when it is none of this feed's."""
        if (self.store and end.store and self.store != end.store) or self.seq > end.head:
            return Position(0, end.store)
        return Position(self.seq, end.store)


class FeedReader:
    """Reads the deliveries of `source` (None: of all) page after page; safe to use in one thread at a time.

    `position` is where it has come to, to be kept until the next start. `restarted` says why it began anew, if it had
    to: that is logged, and for a platform to say in a log of its own.
    """

    def __init__(self, feed: Feed, position: Position, source: str | None = None) -> None:
        self.position = position
        self.restarted = ""
        self._feed, self._source = feed, source
        self._due = 0.0

    def page(self, limit: int = 500) -> list[Delivery]:
        """The next deliveries, at most `limit`; none when there are none yet. Raises what the feed raises."""
        if not self._due:
            self._check()
        found = self._feed.after(self.position.seq, source=self._source, limit=limit)
        if found:
            self.position = Position(found[-1].seq, self.position.store)
        elif time.monotonic() >= self._due:
            self._check()
            if self.restarted and self.position.seq == 0:
                return self.page(limit)
        return found

    def _check(self) -> None:
        place = self.position.in_feed(self._feed.end())
        self._due = time.monotonic() + _CHECK
        if place.seq < self.position.seq:
            self.restarted = (
                f"delivery {self.position.seq} is none of this store's (another one has taken its place, or an "
                "older state of it): its deliveries are read from the first one on"
            )
            logger.warning("%s", self.restarted)
        self.position = place
