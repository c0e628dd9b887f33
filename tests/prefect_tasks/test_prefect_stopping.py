"""Cancelled, terminated, timed out: buying ends within seconds, what was under way is kept, a rerun pays for the rest.

The table that these tests print counts, for each way to stop a run, what was bought after the stop, what was paid
twice, and what the rerun could not tell.
"""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterState
from prefect.client.schemas.filters import FlowRunFilterStateName as StateName
from prefect.states import Cancelling

from classifaily_connectors import ClassifailyClient
from classifaily_connectors import classify_table as label
from classifaily_connectors.sandbox import Fault, Sandbox

ROWS, AT_ONCE = 200, 4 * 5
FLOWS = Path(__file__).with_name("stopping_flows.py")


def cancel(process: subprocess.Popen[bytes], flow: str) -> None:
    """As the button in the UI does; nobody kills the process."""
    of_flow = FlowFilter(name=FlowFilterName(any_=[flow]))
    running = FlowRunFilter(state=FlowRunFilterState(name=StateName(any_=["Running"])))
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(flow_filter=of_flow, flow_run_filter=running)
        client.set_flow_run_state(run.id, Cancelling())


def terminate(process: subprocess.Popen[bytes], flow: str) -> None:
    """As a worker, Kubernetes or systemd does."""
    process.send_signal(signal.SIGTERM)


def wait(process: subprocess.Popen[bytes], flow: str) -> None:
    """Prefect's own timeout ends it."""


@pytest.mark.parametrize(
    ("how", "stop"),
    [
        ("direct", cancel),
        ("submitted", cancel),
        ("awaited", cancel),
        ("direct", terminate),
        ("submitted", terminate),
        ("awaited", terminate),
        ("timed", wait),
        ("timed_async", wait),
    ],
)
def test_stop_means_stop(
    server: Any,
    environment: Sandbox,
    tmp_path: Path,
    until: Callable[..., Any],
    how: str,
    stop: Callable[[subprocess.Popen[bytes], str], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, output, store = tmp_path / "t.csv", tmp_path / "o.csv", f"sqlite:///{tmp_path / 'store.db'}"
    monkeypatch.setenv("CLASSIFAILY_STORE_URL", store)
    source.write_text("id,body\n" + "".join(f"{n},I was charged twice case {n}\n" for n in range(ROWS)))
    environment.inject(Fault(kind="delay", path="/batch", seconds=1.0, times=None))
    command = [sys.executable, FLOWS, how, source, output]
    with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        until(lambda: environment.bill().charged >= AT_ONCE or process.poll() is not None, 120)
        at_stop = environment.bill().charged
        stop(process, how.replace("_", "-"))
        process.wait(60)
    said = (tmp_path / "log").read_text()
    assert process.returncode != 0, said
    bought_after = environment.bill().charged - at_stop
    assert not output.exists()

    environment.clear_faults()
    with ClassifailyClient(environment.key, base_url=environment.base_url) as client:
        label(client, source, text="body", categories=["billing", "technical"], output=output, ledger=store)
    with output.open() as file:
        statuses = Counter(row["status"] for row in csv.DictReader(file))
    bill = environment.bill()
    twice = sum(count - 1 for count in bill.by_input.values())
    with capsys.disabled():
        way = f"{stop.__name__}, {how}"
        print(f"\n{way:24} bought after {bought_after:3}  paid twice {twice}  unknown {statuses['unknown']}", end="")
    assert statuses == {"completed": ROWS}, said
    assert (bill.charged, twice) == (ROWS, 0)
    if stop is not wait:
        # What was under way, what was bought until the next look, and a batch more of each sender.
        assert bought_after <= 4 * AT_ONCE < ROWS - at_stop, said
