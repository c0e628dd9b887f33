"""A sandbox whose jobs end when the test says so, and the real receiver of its signed deliveries."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from classifaily_connectors import ClassifailyClient
from classifaily_connectors.sandbox import Sandbox, SandboxClock, Switches
from classifaily_connectors.store.inbox import Inbox
from classifaily_connectors.webhooks import Receiver
from classifaily_connectors.webhooks.serving import Serving
from prefect_classifaily import ClassifailyCredentials

SECRET = "whsec-0123456789abcdef"
SEEDS = itertools.count(1)
"""One Prefect server hears of all jobs, so no two may have one id."""
MONEY, BUG = "I was charged twice for my subscription.", "The API keeps returning a 500 error."
TEAMS = ["billing", "technical"]


class Stage:
    """The sandbox, the receiver's address, and the store that the receiver keeps deliveries in."""

    def __init__(self, sandbox: Sandbox, url: str, store: str) -> None:
        self.sandbox, self.url, self.store = sandbox, url, store
        self.credentials = ClassifailyCredentials(
            api_key=sandbox.key,
            base_url=sandbox.base_url,
            store_url=store,  # type: ignore[arg-type]  # pydantic wraps it
        )
        self.inbox = Inbox(store)

    def end_jobs(self) -> None:
        """Every job that was submitted ends now."""
        self.sandbox.clock.advance(hours=1)

    def delivered(self, job_id: str) -> bool:
        """Whether the job's delivery is in the store."""
        return bool(self.inbox.find("default", [job_id]))

    def environment(self) -> dict[str, str]:
        """What tells another process of all this."""
        return {
            "CLASSIFAILY_KEY": self.sandbox.key,
            "CLASSIFAILY_BASE_URL": self.sandbox.base_url,
            "CLASSIFAILY_STORE_URL": self.store,
        }


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    switches = Switches(job_delay=3600.0, delivery_backoff=0.05)
    store = f"sqlite:///{folder / 'store.db'}"
    with (
        Sandbox(plan="pro", seed=next(SEEDS), clock=SandboxClock(frozen=True), switches=switches) as sandbox,
        Serving(Receiver(store, SECRET)) as serving,
        ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client,
    ):
        client.webhooks.create(serving.url, secret=SECRET)
        stage = Stage(sandbox, serving.url, store)
        try:
            yield stage
        finally:
            stage.inbox.close()


def wait_until(condition: Callable[[], Any], seconds: float = 120, pause: float = 0.1) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(pause)
    return value
