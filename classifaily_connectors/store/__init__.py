"""The one durable place: a SQL database with what was paid for, and what was delivered.

`Ledger(url)` and `Inbox(url)` are the doors; `sqlite:///path` for one machine, `postgresql+psycopg://…` for many.
Importing this package needs no database library: the doors load SQLAlchemy when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from classifaily_connectors.store.delivery import Arrival, Delivery, Expectation, FeedEnd, InboxStats
from classifaily_connectors.store.entry import SUBMITTED, Entry, LedgerStats, RunInfo

if TYPE_CHECKING:
    from classifaily_connectors.store.inbox import Inbox
    from classifaily_connectors.store.ledger import Ledger

__all__ = [
    "SUBMITTED",
    "Arrival",
    "Delivery",
    "Entry",
    "Expectation",
    "FeedEnd",
    "Inbox",
    "InboxStats",
    "Ledger",
    "LedgerStats",
    "RunInfo",
]


def __getattr__(name: str) -> Any:
    if name not in ("Inbox", "Ledger"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module("classifaily_connectors.store.database")  # first: it names the extra that brings SQLAlchemy
    return getattr(import_module(f"classifaily_connectors.store.{name.lower()}"), name)
