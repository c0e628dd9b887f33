"""A sandbox whose clock stands until the test moves it, a store on each database, and a real receiver on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient, RetryPolicy
from classifaily_connectors.sandbox import Sandbox, SandboxClock, Switches
from classifaily_connectors.store import Arrival, Inbox
from classifaily_connectors.webhooks import Receiver, room
from classifaily_connectors.webhooks.asking import Asker
from classifaily_connectors.webhooks.serving import Serving

SECRET = "whsec-for-the-tests-of-waiting"
QUICK = RetryPolicy(base=0.0, cap=0.0)
NEVER = (3600.0, 3600.0)
"""A pace at which the API is asked once, at the start, and then not again while a test lasts."""
SOON = (0.1, 0.4)


def until(true: Callable[[], Any], *, seconds: float = 120) -> None:
    """Wait for a condition; the bound is for a hang, not for a speed."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.01)


def all_asked(count: int) -> bool:
    """Whether so many wait here, and the API was asked for each at least once: from now on only a webhook is news."""
    there = room._room
    askers = [entry[0] for entry in list(there._fixtures.values())] if there else []
    questions = [each for asker in askers if isinstance(asker, Asker) for each in list(asker._all())]
    return len(questions) == count and all(each.asked for each in questions)


def idle() -> bool:
    """Whether nobody waits in this process: no thread is left."""
    return not any(
        thread.name.startswith(("classifaily-waiting", "classifaily-store")) for thread in threading.enumerate()
    )


class Yard:
    """A sandbox, a store, and what is done with them."""

    def __init__(self, sandbox: Sandbox, store: str, stack: ExitStack) -> None:
        self.sandbox, self.store = sandbox, store
        self.client = stack.enter_context(ClassifailyClient(sandbox.key, base_url=sandbox.base_url, retry=QUICK))
        self.inbox = Inbox(store)
        stack.callback(self.inbox.close)

    def aclient(self) -> AsyncClassifailyClient:
        return AsyncClassifailyClient(self.sandbox.key, base_url=self.sandbox.base_url, retry=QUICK)

    def submit(self, count: int = 1) -> list[str]:
        jobs = [self.client.submit(f"invoice {number}", categories=["billing", "other"]) for number in range(count)]
        return [str(job.id) for job in jobs]

    def finish(self) -> None:
        """Every job ends now."""
        self.sandbox.clock.advance(hours=1)

    def deliver(
        self, *job_ids: str, event: str = "job.completed", source: str = "default", body: bytes = b"{}"
    ) -> None:
        """Put deliveries into the store by hand, without a receiver."""
        self.inbox.put([Arrival(source, event, each, body[:8], time.time(), None, body) for each in job_ids])

    def arrived(self, *job_ids: str) -> bool:
        return len(self.inbox.find("default", job_ids)) == len(job_ids)

    def asked(self) -> int:
        """How often the API was asked about jobs."""
        return sum(each.method == "GET" and each.path.startswith("/jobs") for each in self.sandbox.requests)

    @contextmanager
    def receiving(self, *, register: bool = True, port: int = 0) -> Iterator[Serving]:
        """A receiver in front of the store, known to the API."""
        with Serving(Receiver(self.store, SECRET), port=port) as serving:
            if register:
                self.client.webhooks.create(serving.url, secret=SECRET)
            yield serving


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    return str(request.getfixturevalue("postgres")())


@pytest.fixture
def yard(store: str) -> Iterator[Yard]:
    switches = Switches(job_delay=60.0, delivery_backoff=0.01)
    with ExitStack() as stack:
        sandbox = stack.enter_context(Sandbox(plan="pro", clock=SandboxClock(frozen=True), switches=switches))
        yield Yard(sandbox, store, stack)
    until(idle)
