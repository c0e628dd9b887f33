"""A sandbox on a real socket, a ledger on a real disk, and bulk runs between the two."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient, RetryPolicy, Row
from classifaily_connectors.bulk import engine, prepare
from classifaily_connectors.bulk.progress import BulkStats
from classifaily_connectors.bulk.reconcile import SETTLE_AFTER
from classifaily_connectors.sandbox import Fault, Sandbox, Switches
from classifaily_connectors.store import Ledger

CATEGORIES = ["billing", "technical", "account"]
QUICK = RetryPolicy(base=0.0, cap=0.0, poll_interval=0.01, max_wait=10.0, max_elapsed=2.0)


class Shop:
    """One sandbox, one ledger, and a client for the two; `buy` is a whole run."""

    def __init__(self, sandbox: Sandbox, ledger_url: str, **settings: Any) -> None:
        self.sandbox, self.ledger_url = sandbox, ledger_url
        self.settings: dict[str, Any] = {"retry": QUICK, "timeout": 10.0, **settings}
        self.stats = BulkStats()

    def client(self) -> ClassifailyClient:
        return ClassifailyClient(self.sandbox.key, base_url=self.sandbox.base_url, **self.settings)

    def async_client(self) -> AsyncClassifailyClient:
        return AsyncClassifailyClient(self.sandbox.key, base_url=self.sandbox.base_url, **self.settings)

    def buy(self, rows: Any, **options: Any) -> list[Row]:
        with self.client() as client:
            run = client.classify_many(rows, **self.options(options))
            try:
                return list(run)
            finally:
                self.stats = run.stats

    def plan(self, rows: Any, **options: Any) -> Any:
        with self.client() as client:
            return client.plan(rows, **self.options(options))

    def options(self, options: dict[str, Any]) -> dict[str, Any]:
        if "schema" not in options:
            options.setdefault("categories", CATEGORIES)
        return {"ledger": self.ledger_url, **options}

    def paid(self) -> int:
        return self.sandbox.bill().charged

    def paid_twice(self) -> int:
        return sum(times > 1 for times in self.sandbox.bill().by_input.values())

    def posts(self, path: str = "/batch") -> int:
        return sum(each.method == "POST" and each.path.endswith(path) for each in self.sandbox.requests)

    def inject(self, kind: Any, **fault: Any) -> None:
        self.sandbox.inject(Fault(kind=kind, method="POST", **fault))

    def ledger(self, **options: Any) -> Ledger:
        return Ledger(self.ledger_url, **options)

    def unsettled(self) -> int:
        ledger = self.ledger()
        try:
            return len(ledger.unsettled())
        finally:
            ledger.close()


@pytest.fixture
def open_shop(tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    with ExitStack() as stack:

        def open_shop(*, ledger: str | None = None, settings: dict[str, Any] | None = None, **options: Any) -> Shop:
            switches = {field.name for field in dataclasses.fields(Switches)}
            chosen = {name: options.pop(name) for name in list(options) if name in switches}
            sandbox = stack.enter_context(Sandbox(**{"plan": "pro", "switches": Switches(**chosen), **options}))
            return Shop(sandbox, ledger or f"sqlite:///{tmp_path}/ledger.db", **(settings or {}))

        yield open_shop


@pytest.fixture
def shop(open_shop: Callable[..., Shop]) -> Shop:
    return open_shop()


@pytest.fixture
def settle_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost request is looked for at once: the sandbox does its work before it loses an answer."""

    def options(**given: Any) -> engine.Options:
        if given["settle_after"] == SETTLE_AFTER:  # where a test says nothing
            given["settle_after"] = 0.0
        return engine.Options(**given)

    monkeypatch.setattr(prepare, "Options", options)


@pytest.fixture(params=["sync", "async"])
def buy(request: pytest.FixtureRequest) -> Callable[..., list[Row]]:
    """A whole run on the sync or on the async client: `buy(shop, rows, **options)`."""

    def sync(shop: Shop, rows: Any, **options: Any) -> list[Row]:
        return shop.buy(rows, **options)

    async def collect(shop: Shop, rows: Any, options: dict[str, Any]) -> list[Row]:
        async with shop.async_client() as client:
            run = client.classify_many(rows, **shop.options(options))
            try:
                return [row async for row in run]
            finally:
                shop.stats = run.stats

    def asynchronous(shop: Shop, rows: Any, **options: Any) -> list[Row]:
        return asyncio.run(collect(shop, rows, options))

    return sync if request.param == "sync" else asynchronous
