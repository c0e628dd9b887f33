"""A receiver with a fault built in, to show that a test of ours would see it: `python server.py FAULT STORE`.

`normal`: SQLite with synchronous=NORMAL. `ack-first`: 204 is said before the commit, on a disk that takes its time.
"""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import sys
import threading
import time
from typing import Any

import sqlalchemy as sa

from classifaily_connectors.store import Inbox
from classifaily_connectors.store.inbox_landing import Batch
from classifaily_connectors.webhooks import intake
from classifaily_connectors.webhooks.receiver import Receiver
from classifaily_connectors.webhooks.serving import Serving


def careless(inbox: Inbox) -> None:
    @sa.event.listens_for(inbox._engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _entry: Any) -> None:
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")  # its syncs would leave to luck how much is missing

    inbox._engine.dispose()  # those that are open already are careful ones


def hasty(_inbox: Inbox) -> None:
    keep, insertion = intake.Intake.keep, Batch.insertion
    under_way = set[asyncio.Future[Any]]()

    async def keep_later(self: intake.Intake, arrival: Any) -> str:
        under_way.add(keep(self, arrival))
        return "new"

    def insert_slowly(self: Batch, dialect: str) -> Any:
        time.sleep(0.02)
        return insertion(self, dialect)

    intake.Intake.keep = keep_later  # type: ignore[method-assign,assignment]
    Batch.insertion = insert_slowly  # type: ignore[method-assign]


if __name__ == "__main__":
    inbox = Inbox(sys.argv[2])
    {"normal": careless, "ack-first": hasty}[sys.argv[1]](inbox)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())
    with Serving(Receiver(inbox)) as serving:
        print(f"ready     {serving.url}", flush=True)
        stop.wait()
