"""What a public call of the sweep finds: an API behind a network, a store, a table; and the secrets planted in them."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from classifaily_connectors import AsyncClassifailyClient, AxesRun, BulkRun, ClassifailyClient, RetryPolicy
from classifaily_connectors.sandbox import Sandbox, SandboxClock, Switches
from classifaily_connectors.store import Inbox, Ledger
from classifaily_connectors.webhooks import Receiver, open_feed
from classifaily_connectors.webhooks.serving import Serving

if TYPE_CHECKING:
    from tests.faults.sweep.examples import Example

KEY = "cai_live_5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2"
SECRET = "whsec-hush-hush-webhook"
PASSWORD = "hush-hush-password"
SIGNATURE = "hush-hush-signature"
TEXT = "My test result is positive, please tell nobody."
PLANTED = (KEY, KEY[9:], SECRET, PASSWORD, SIGNATURE, TEXT)
"""What no error, log line or repr may show."""
QUICK = RetryPolicy(base=0.0, cap=0.0, poll_interval=0.01, max_wait=0.2, max_elapsed=0.3)
TABLE = [{"id": number, "body": f"{TEXT} {number}"} for number in range(60)]


class Theatre:
    """What all stages share, as nothing of it breaks: an API, a receiver, objects in the API, and an empty store."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        switches = Switches(job_delay=3600.0)
        clock = SandboxClock(frozen=True)
        self.sandbox = stack.enter_context(Sandbox(plan="enterprise", key=KEY, clock=clock, switches=switches))
        self.client = stack.enter_context(ClassifailyClient(KEY, base_url=self.sandbox.base_url))
        self.job_id = str(self.client.submit("A job that has ended.").id)
        clock.advance(hours=2)
        self.pending_id = str(self.client.submit("A job that has not.").id)
        self.schema_id = str(self.client.schemas.create("Saved", ["one", "two"]).id)
        receiver = Receiver(f"sqlite:///{folder}/received.db", SECRET)
        self.receiver = stack.enter_context(Serving(receiver))
        self._template = folder / "template.db"
        with Ledger(self._template) as ledger, Inbox(self._template):
            ledger.spend("name", 1)
        self._numbers = itertools.count()

    def billed(self) -> int:
        """Requests that the API has charged."""
        return self.sandbox.bill().charged

    def new_store(self, folder: Path) -> Path:
        """An empty store's file: made once and copied, because making one costs more than a call."""
        path = folder / f"store-{next(self._numbers)}.db"
        shutil.copy(self._template, path)
        return path


@dataclass
class Stage:
    """One call's own."""

    theatre: Theatre
    folder: Path
    url: str
    """The root of the API's address."""
    store: str = ""
    source: Any = None
    output: Any = None
    opened: bool = False
    """Whether bulk runs are given the ledger open, instead of its URL."""
    client_settings: dict[str, Any] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)

    def __post_init__(self) -> None:
        self.store = self.store or f"sqlite:///{self.theatre.new_store(self.folder)}"
        self.output = self.output or self.folder / "labelled.csv"
        if self.source is None:
            self.source = self.folder / "in.jsonl"
            self.source.write_text("".join(json.dumps(row) + "\n" for row in TABLE))
        self._ledger: Ledger | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    @property
    def base_url(self) -> str:
        return self.client_settings.get("base_url") or f"{self.url}/v1"

    @property
    def settings(self) -> dict[str, Any]:
        return {"api_key": KEY, "base_url": self.base_url, "retry": QUICK, "timeout": 2.0, **self.client_settings}

    @property
    def file(self) -> str:
        """The store's file, for what keeps no ledger in it."""
        return self.store.removeprefix("sqlite:///")

    @property
    def ledger_option(self) -> Any:
        return self.ledger() if self.opened else self.store

    def ledger(self) -> Ledger:
        self._ledger = self._ledger or self.stack.enter_context(Ledger(self.store))
        return self._ledger

    @property
    def job_id(self) -> str:
        return self.theatre.job_id

    @property
    def pending_id(self) -> str:
        return self.theatre.pending_id

    @property
    def schema_id(self) -> str:
        return self.theatre.schema_id

    def a_schema(self) -> str:
        """A schema to delete."""
        return str(self.theatre.client.schemas.create("Another", ["one", "two"]).id)

    def a_webhook(self) -> str:
        """A webhook to delete."""
        return str(self.theatre.client.webhooks.create("https://example.com/other").id)

    def prepare(self, subject: str) -> Any:
        """What the call is made on, made while nothing is broken yet."""
        if self.opened:
            self.ledger()
        made: dict[str, Callable[[], Any]] = {
            "": lambda: None,
            "client": lambda: self.stack.enter_context(ClassifailyClient(**self.settings)),
            "async client": lambda: None,
            "ledger": self.ledger,
            "inbox": lambda: self.stack.enter_context(Inbox(self.store)),
            "feed": self._feed,
            "receiver": self._receiver,
            "sandbox": self._sandbox,
        }
        return made[subject]()

    def _feed(self) -> Any:
        base = self.client_settings.get("base_url", self.url).removesuffix("/v1")
        feed = open_feed(f"{base}/classifaily/webhooks", secret=SECRET)
        self.stack.callback(feed.close)
        return feed

    def _receiver(self) -> Receiver:
        receiver = Receiver(self.store, SECRET, patience=0.2)
        self.stack.callback(receiver.close)
        return receiver

    def _sandbox(self) -> Sandbox:
        sandbox = Sandbox(store=self.file + ".sandbox")
        self.stack.callback(sandbox.close)
        return sandbox

    def call(self, example: Example, breaks: Callable[[], object] = lambda: None) -> Any:
        """What comes of the call, once `breaks` has been called."""
        subject = self.prepare(example.subject)
        breaks()
        if example.subject == "async client":
            return asyncio.run(self._call(example))
        found = example.call(subject, self)
        return list(found) if isinstance(found, BulkRun | AxesRun | Iterator) else found

    async def _call(self, example: Example) -> Any:
        async with AsyncClassifailyClient(**self.settings) as client:
            found = example.call(client, self)
            if inspect.isawaitable(found):
                return await found
            return [each async for each in found] if hasattr(found, "__aiter__") else found
