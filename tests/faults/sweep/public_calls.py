"""An example of every public call of the core, for both clients; the sweep finds out which calls there are.

An example returns what the call returns; `finish` then awaits it, goes through it, or both.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import classifaily_connectors as cc
from classifaily_connectors import submit_once, webhooks
from classifaily_connectors.webhooks import Receiver, open_feed

CATEGORIES = ["billing", "technical"]
TEXTS = ["I was charged twice", "the app crashes"]


@dataclass
class Setting:
    """Where the calls of one trial lead to."""

    folder: Path
    ledger: Any = None
    """A store URL, None for the memory of the run."""
    source: Any = field(default_factory=lambda: [{"body": text} for text in TEXTS])
    output: Any = None

    @property
    def store(self) -> str:
        return self.ledger or f"sqlite:///{self.folder}/store.db"

    def tables(self) -> dict[str, Any]:
        """The options of a labelled table."""
        return {"text": "body", "categories": CATEGORIES, "ledger": self.ledger, "output": self.output}


Example = Callable[[Any, Setting], Any]

CLIENT: dict[str, Example] = {
    "classify": lambda client, _: client.classify(TEXTS[0], categories=CATEGORIES),
    "submit": lambda client, _: client.submit(TEXTS[0], categories=CATEGORIES),
    "batch": lambda client, _: client.batch(TEXTS, categories=CATEGORIES),
    "classify_many": lambda client, at: client.classify_many(TEXTS, categories=CATEGORIES, ledger=at.ledger),
    "plan": lambda client, at: client.plan(TEXTS, categories=CATEGORIES, ledger=at.ledger),
    "classify_axes": lambda client, at: client.classify_axes(TEXTS, {"team": CATEGORIES}, ledger=at.ledger),
    "plan_axes": lambda client, at: client.plan_axes(TEXTS, {"team": CATEGORIES}, ledger=at.ledger),
    "usage": lambda client, _: client.usage(),
    "schemas.create": lambda client, _: client.schemas.create("teams", CATEGORIES),
    "schemas.get": lambda client, _: client.schemas.get(1),
    "schemas.list": lambda client, _: client.schemas.list(),
    "schemas.update": lambda client, _: client.schemas.update(1, name="teams"),
    "schemas.delete": lambda client, _: client.schemas.delete(1),
    "schemas.ensure": lambda client, _: client.schemas.ensure("teams", CATEGORIES),
    "jobs.get": lambda client, _: client.jobs.get("84"),
    "jobs.list": lambda client, _: client.jobs.list(),
    "jobs.iterate": lambda client, _: client.jobs.iterate(),
    "jobs.history": lambda client, _: client.jobs.history(60.0),
    "jobs.wait": lambda client, _: client.jobs.wait("84", timeout=0.2),
    "webhooks.create": lambda client, _: client.webhooks.create("https://example.com/hook"),
    "webhooks.list": lambda client, _: client.webhooks.list(),
    "webhooks.delete": lambda client, _: client.webhooks.delete(1),
}
"""The methods of a client, by their dotted names."""

FUNCTIONS: dict[str, tuple[Example, Example]] = {
    "classify_table": (
        lambda client, at: cc.classify_table(client, at.source, **at.tables()),
        lambda client, at: cc.aclassify_table(client, at.source, **at.tables()),
    ),
    "plan_table": (
        lambda client, at: cc.plan_table(client, at.source, text="body", categories=CATEGORIES, ledger=at.ledger),
        lambda client, at: cc.aplan_table(client, at.source, text="body", categories=CATEGORIES, ledger=at.ledger),
    ),
    "submit_once": (
        lambda client, at: submit_once(client, TEXTS[0], categories=CATEGORIES, ledger=at.store),
        lambda client, at: cc.asubmit_once(client, TEXTS[0], categories=CATEGORIES, ledger=at.store),
    ),
    "check_job": (
        lambda client, at: webhooks.check_job(client, "84", store=at.store),
        lambda client, at: webhooks.acheck_job(client, "84", store=at.store),
    ),
    "wait_for_job": (
        lambda client, at: webhooks.wait_for_job(client, "84", store=at.store, deadline=time.time() + 0.3),
        lambda client, at: webhooks.await_for_job(client, "84", store=at.store, deadline=time.time() + 0.3),
    ),
}
"""The functions that take a client: for the synchronous one, and for the asynchronous one."""

STORES: dict[str, Callable[[Setting], Any]] = {
    "Ledger": lambda at: _closed(cc.Ledger(at.store)),
    "open_feed": lambda at: _closed(open_feed(at.store)),
    "Receiver": lambda at: _closed(Receiver(at.store, "whsec-0123456789abcdef0123456789abcdef")),
}
"""What opens a store without a client. Its single methods have a sweep of their own, in `store/test_trouble`."""

OFFLINE = {"sign", "verify", "parse_event", "Feed", "Settled"}
"""What touches neither network nor store: pure functions and types, tested with mutated input where they are."""


def public_calls() -> Iterator[tuple[str, Example, Example]]:
    """The name of each call with a client, its example for the synchronous client and for the asynchronous one."""
    for name, example in CLIENT.items():
        yield name, example, example
    for name, (sync, twin) in FUNCTIONS.items():
        yield name, sync, twin


def finish(found: Any) -> Any:
    """The result of a synchronous call, gone through where it is a run or an iterator."""
    return list(found) if isinstance(found, cc.BulkRun | cc.AxesRun | Iterator) else found


async def afinish(found: Any) -> Any:
    """The same for an asynchronous call."""
    if inspect.isawaitable(found):
        return await found
    return [each async for each in found] if isinstance(found, AsyncIterable) else found


def _closed(opened: Any) -> None:
    if (close := getattr(opened, "close", None)) is not None:
        close()
