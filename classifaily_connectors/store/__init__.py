"""The one durable place: a SQL database with what was paid for, and (later) what was delivered.

`Ledger(url)` is the door; `sqlite:///path` for one machine, `postgresql+psycopg://…` for many. Importing this package
needs no database library: the ledger loads SQLAlchemy when it is first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from classifaily_connectors.store.entry import Entry, LedgerStats, RunInfo

if TYPE_CHECKING:
    from classifaily_connectors.store.ledger import Ledger

__all__ = ["Entry", "Ledger", "LedgerStats", "RunInfo"]


def __getattr__(name: str) -> Any:
    if name != "Ledger":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import_module("classifaily_connectors.store.database")  # first: it names the extra that brings SQLAlchemy
    return import_module("classifaily_connectors.store.ledger").Ledger
