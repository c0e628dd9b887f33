"""Handing deliveries out again: those that a filter finds, and dead letters that can be read by now.

The law of this file: a delivery is in the feed before its dead letter goes, so a crash in between loses nothing; and
what is chosen is what was there at the start, though everything that is redriven gets a new number.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from classifaily_connectors.webhooks.intake import read

if TYPE_CHECKING:
    from classifaily_connectors.store import Delivery, Inbox

_PAGE = 500
DEAD = "dead"


def chosen(
    inbox: Inbox,
    *,
    source: str | None = None,
    event: str | None = None,
    job_id: str | None = None,
    state: str | None = None,
    since: float | None = None,
) -> Iterator[Delivery]:
    """The deliveries that match, in the order of the feed, up to its present end; `since` is in seconds since the
    epoch, by the receiver's clock."""
    place, end = 0, inbox.head()
    while page := inbox.entries(after=place, source=source, event=event, job_id=job_id, state=state, limit=_PAGE):
        for each in page:
            if each.seq > end:
                return
            if since is None or each.received_at >= since:
                yield each
        place = page[-1].seq


def redrive(inbox: Inbox, seq: int) -> Delivery | None:
    """The delivery as it lies in the feed again, None if there is none; a dead letter is read, if it can be."""
    delivery = inbox.get(seq)
    if delivery is None:
        return None
    if delivery.state == DEAD and (found := reread(inbox, delivery)):
        return found
    again = inbox.redrive(seq)
    return None if again is None else inbox.get(again)


def reread(inbox: Inbox, letter: Delivery) -> Delivery | None:
    """The delivery that a dead letter turns out to be, now in the feed; None when it still cannot be read."""
    body = letter.body
    if body is None:
        whole = inbox.get(letter.seq)
        body = whole.body if whole else None
    if body is None:
        return None
    arrival = read(letter.source, body, letter.received_at)
    if not arrival.event:
        return None
    inbox.put([arrival])
    inbox.bury(letter.seq)
    same = inbox.entries(source=arrival.source, event=arrival.event, job_id=arrival.job_id)
    return next((each for each in same if each.digest == arrival.digest), None)
