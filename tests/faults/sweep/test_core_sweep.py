"""Whatever breaks, a public call of the core succeeds or raises an error of ours, which shows no secret."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from breakages import FILES, NETWORK, SECRET, STORE_URLS, locked, made, outputs, tables
from public_calls import CLIENT, FUNCTIONS, OFFLINE, STORES, Setting, afinish, finish, public_calls

import classifaily_connectors as cc
from classifaily_connectors import (
    AsyncClassifailyClient,
    ClassifailyClient,
    ClassifailyError,
    RetryPolicy,
    client,
    webhooks,
)
from classifaily_connectors.sandbox import Sandbox

if TYPE_CHECKING:
    from tests.faults.conftest import FaultServer

KEY = "cai_live_0123456789abcdef0123456789abcdef01234567"
QUICK = RetryPolicy(attempts=2, base=0.01, cap=0.05, max_elapsed=0.5, poll_interval=0.01, max_wait=0.3)
CALLS = {name: (sync, twin) for name, sync, twin in public_calls()}
OF_A_TABLE = ("classify_table", "plan_table")
OF_A_STORE = ("classify_many", "plan", "classify_axes", "plan_axes", *FUNCTIONS)
ASKS_THE_API_INSTEAD = ("check_job", "wait_for_job")
"""What says in the log that deliveries cannot be read, and goes on without them."""
WAITS = ("jobs.wait", "wait_for_job")
"""What says that the job may run on."""
PRICES_WITHOUT_USAGE = ("plan", "plan_axes", "plan_table")


def tried(kind: str, name: str, url: str, setting: Setting, key: str = KEY) -> ClassifailyError | None:
    """The error of ours that this call raised; any other fails the test."""
    sync, twin = CALLS[name]
    settings: dict[str, Any] = {"base_url": url, "retry": QUICK, "timeout": 0.2}

    async def call() -> None:
        async with AsyncClassifailyClient(key, **settings) as client:
            await afinish(twin(client, setting))

    try:
        if kind == "async":
            asyncio.run(call())
        else:
            with ClassifailyClient(key, **settings) as client:
                finish(sync(client, setting))
    except ClassifailyError as caught:
        error = caught
    else:
        return None
    shown = "".join(traceback.format_exception(error)) + repr(error) + str(error)
    assert SECRET not in shown
    assert key not in shown
    assert str(error)
    return error


def methods(kind_of_client: type) -> Iterator[str]:
    """The public methods of a client and of its parts, by their dotted names."""
    parts = {"schemas": client.Schemas, "jobs": client.Jobs, "webhooks": client.Webhooks}
    for prefix, kind in {"": kind_of_client, **{f"{name}.": part for name, part in parts.items()}}.items():
        for name, _member in inspect.getmembers(kind, inspect.isfunction):
            if not name.startswith("_"):
                yield f"{prefix}{name}"


def test_every_public_call_has_an_example() -> None:
    assert set(methods(ClassifailyClient)) - {"close"} == CLIENT.keys()
    functions = {name for name in cc.__all__ if inspect.isfunction(getattr(cc, name))}
    functions |= {name for name in webhooks.__all__ if inspect.isfunction(getattr(webhooks, name))}
    assert functions - OFFLINE - STORES.keys() <= {twin for name in FUNCTIONS for twin in (name, f"a{name}")}


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("breakage", NETWORK)
def test_a_broken_network(kind: str, breakage: str, server: FaultServer, tmp_path: Path) -> None:
    server.acts = [NETWORK[breakage]]
    for name in CALLS:
        tried(kind, name, server.url, Setting(tmp_path, output=tmp_path / f"{kind}.csv"))


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1"])
def test_no_connection(kind: str, url: str, tmp_path: Path) -> None:
    for name in CALLS:
        error = tried(kind, name, url, Setting(tmp_path, output=tmp_path / f"{kind}.csv"))
        if name not in PRICES_WITHOUT_USAGE:
            assert error is not None, name
            assert error.outcome in ("not_sent", None) or name in WAITS, name


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_tls_where_there_is_none(kind: str, server: FaultServer, tmp_path: Path) -> None:
    error = tried(kind, "classify", server.url.replace("http://", "https://"), Setting(tmp_path))
    assert error is not None
    assert error.outcome == "not_sent"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(plan="pro") as sandbox:
        yield sandbox


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("breakage", FILES, ids=lambda breakage: breakage.__name__)
def test_a_broken_file_as_store(kind: str, breakage: Callable[[Path], None], sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    breakage(path)
    charged = sandbox.bill().charged
    for name in OF_A_STORE:
        setting = Setting(tmp_path, ledger=f"sqlite:///{path}", output=tmp_path / "out.csv")
        error = tried(kind, name, sandbox.base_url, setting, sandbox.key)
        assert error is not None or name in ASKS_THE_API_INSTEAD, name
    assert sandbox.bill().charged == charged, "nothing is bought through a store that cannot remember it"


def test_a_locked_file_as_store(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    made(path)
    with locked(path):
        setting = Setting(tmp_path, ledger=f"sqlite:///{path}?timeout=1", output=tmp_path / "out.csv")
        for name in OF_A_STORE:
            tried("sync", name, sandbox.base_url, setting, sandbox.key)


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("url", STORE_URLS)
def test_a_store_that_is_not_there(kind: str, url: str, sandbox: Sandbox, tmp_path: Path) -> None:
    charged = sandbox.bill().charged
    for name in OF_A_STORE:
        setting = Setting(tmp_path, ledger=url or " ", output=tmp_path / "out.csv")
        error = tried(kind, name, sandbox.base_url, setting, sandbox.key)
        assert error is not None or name in ASKS_THE_API_INSTEAD, name
    for name, opened in STORES.items():
        setting = Setting(tmp_path, ledger=url or " ")
        if name == "Receiver":  # it opens its store with the first request
            opened(setting)
            continue
        with pytest.raises(ClassifailyError) as refused:
            opened(setting)
        assert SECRET not in f"{refused.value!r} {refused.value}"
    assert sandbox.bill().charged == charged


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_broken_tables(kind: str, sandbox: Sandbox, tmp_path: Path) -> None:
    for what, source in tables(tmp_path):
        for name in OF_A_TABLE:
            setting = Setting(tmp_path, source=source, output=tmp_path / "out.csv")
            error = tried(kind, name, sandbox.base_url, setting, sandbox.key)
            assert error is not None or what.startswith("empty."), (what, name)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_broken_targets(kind: str, sandbox: Sandbox, tmp_path: Path) -> None:
    charged = sandbox.bill().charged
    for what, output in outputs(tmp_path):
        error = tried(kind, "classify_table", sandbox.base_url, Setting(tmp_path, output=output), sandbox.key)
        assert error is not None, what
    assert sandbox.bill().charged == charged
