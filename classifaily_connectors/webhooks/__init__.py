"""Webhooks: deliveries that are verified before they are believed, and jobs that are cheap to wait for.

The law of this package: a webhook is a hint, `GET /jobs` is the truth. What only verifies needs no database and no
server; everything else is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from classifaily_connectors._lazy import lazy_names
from classifaily_connectors.webhooks.signature import parse_event, sign, verify

if TYPE_CHECKING:
    from classifaily_connectors.webhooks.feed import Feed, open_feed
    from classifaily_connectors.webhooks.receiver import Receiver
    from classifaily_connectors.webhooks.waiting import (
        Settled,
        acheck_job,
        await_for_job,
        check_job,
        wait_for_job,
    )

__all__ = [
    "Feed",
    "Receiver",
    "Settled",
    "acheck_job",
    "await_for_job",
    "check_job",
    "open_feed",
    "parse_event",
    "sign",
    "verify",
    "wait_for_job",
]

_WAITING = ("Settled", "acheck_job", "await_for_job", "check_job", "wait_for_job")
__getattr__ = lazy_names(
    __name__, {"Feed": "feed", "Receiver": "receiver", "open_feed": "feed", **dict.fromkeys(_WAITING, "waiting")}
)


def __dir__() -> list[str]:
    return sorted(__all__)
