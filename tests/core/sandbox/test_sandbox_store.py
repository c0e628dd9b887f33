"""The sandbox's memory survives a kill -9 of its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from classifaily_connectors.sandbox import DEFAULT_KEY, Fault, SandboxClock, Switches

HEADERS = {"Authorization": f"Bearer {DEFAULT_KEY}"}


@contextmanager
def process(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`classifaily sandbox` in a process of its own, and its base URL."""
    command = [sys.executable, "-c", "from classifaily_connectors.cli import main; main()", "sandbox", "--port", "0"]
    child = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout
        lines: list[str] = []
        for line in child.stdout:
            lines.append(line.rstrip())
            if line.startswith("ready"):
                break
        assert lines, "the sandbox did not start"
        yield child, lines[-1].split()[1]
    finally:
        if child.poll() is None:
            child.kill()
        child.wait()
        if child.stdout:
            child.stdout.close()


def test_kill_9_keeps_everything_answered(tmp_path: Path) -> None:
    options = ("--plan", "pro", "--store", str(tmp_path / "sandbox.db"))
    with process(*options) as (child, base), httpx.Client(base_url=base, headers=HEADERS) as client:
        job = client.post("/classify", json={"input": "I was charged twice"}).json()
        batch = client.post("/batch", json={"items": [{"id": "a", "input": "x"}], "async": True}).json()
        schema = client.post("/schemas", json={"name": "s", "categories": ["a", {"name": "b"}]}).json()
        doomed = client.post("/schemas", json={"name": "t", "categories": ["a"]}).json()
        client.delete(f"/schemas/{doomed['id']}")
        hook = client.post("/webhooks", json={"url": "https://e.org"}).json()
        usage = client.get("/usage").json()
        bill = httpx.get(base.replace("/v1", "/__sandbox/bill")).json()
        os.kill(child.pid, signal.SIGKILL)
    assert bill["charged"] == 2
    with process(*options) as (_, base), httpx.Client(base_url=base, headers=HEADERS) as client:
        assert httpx.get(base.replace("/v1", "/__sandbox/bill")).json() == bill
        assert client.get("/usage").json() == usage
        assert client.get("/jobs", params={"id": job["id"]}).json()["result"] == job["result"]
        assert client.get("/jobs", params={"id": batch["id"]}).status_code == 200
        assert client.get("/schemas").json()["schemas"] == [schema]
        assert client.get("/webhooks").json()["webhooks"][0]["id"] == hook["id"]
        assert int(client.post("/classify", json={"input": "x"}).json()["id"]) == int(job["id"]) + 1
        assert client.post("/schemas", json={"name": "u", "categories": ["a"]}).json()["id"] > doomed["id"]


def test_what_was_answered_was_written_before(start: Callable[..., Any], tmp_path: Path) -> None:
    """Even where the answer itself was lost."""
    path = tmp_path / "sandbox.db"
    api = start(store=path)
    api.inject(Fault(kind="reset"))
    with pytest.raises(httpx.ReadError):
        api.classify("paid")
    # Read by another sandbox while the first still runs: nothing waits for its close.
    assert start(store=path).bill() == api.bill()
    assert api.bill().charged == 1


def test_a_bill_that_was_reset_stays_reset(start: Callable[..., Any], tmp_path: Path) -> None:
    first = start(store=tmp_path / "sandbox.db")
    first.classify("old")
    first.reset_bill()
    first.classify("new")
    second = start(store=tmp_path / "sandbox.db")
    assert second.bill() == first.bill()
    assert second.bill().charged == 1
    assert second.used() == 2


def test_an_event_owed_is_delivered_after_a_restart(start: Callable[..., Any], tmp_path: Path) -> None:
    path, clock = tmp_path / "sandbox.db", SandboxClock(frozen=True)
    first = start(plan="pro", store=path, clock=clock, switches=Switches(job_delay=60))
    first.post("/webhooks", {"url": "https://e.org/hook"})
    id = first.classify(**{"async": True}).json()["id"]
    first.close()
    clock.advance(minutes=2)
    second = start(plan="pro", store=path, clock=clock)
    for _ in range(500):
        if second.deliveries:
            break
        second.get("/usage")
    assert [(one.event, one.id) for one in second.deliveries] == [("job.completed", id)]


def test_memory_is_the_default(start: Callable[..., Any]) -> None:
    start().classify()
    assert start().bill().charged == 0
