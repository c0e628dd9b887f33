"""Whatever ends a table's run, the error says what was bought until then, and it is what the bill says."""

from __future__ import annotations

import asyncio
import pickle
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors import (
    AsyncClassifailyClient,
    AuthenticationError,
    ClassifailyClient,
    InvalidRequestError,
    Progress,
    aclassify_table,
    classify_table,
)
from classifaily_connectors.sandbox import Fault, Sandbox
from classifaily_connectors.tables.report import ending

TEAMS = ["billing", "technical"]


class StoppedError(Exception):
    """What a platform raises in the middle of a run."""


@pytest.fixture
def sandbox() -> Any:
    with Sandbox(plan="pro") as running:
        running.inject(Fault(kind="delay", path="/batch", seconds=0.2, times=None))
        yield running


@pytest.fixture
def table(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "in.csv").write_text("id,body\n" + "".join(f"{n},text {n}\n" for n in range(12)))
    ledger = f"sqlite:///{tmp_path}/ledger.db"
    return {
        "source": tmp_path / "in.csv", "output": tmp_path / "out.csv", "text": "body", "categories": TEAMS,
        "ledger": ledger, "batch_size": 2, "concurrency": 2,
    }  # fmt: skip


def stop(moment: Progress) -> None:
    if moment.billed:
        raise StoppedError


def test_an_interruption_tells_of_what_was_under_way_too(sandbox: Sandbox, table: dict[str, Any]) -> None:
    with ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client, pytest.raises(StoppedError) as ended:
        classify_table(client, **table, progress=stop)
    spent = sandbox.bill().charged
    assert 0 < spent < 12
    stats: Any = vars(ended.value)["stats"]
    assert stats.billed == spent
    assert ending(stats)["rerun_at_most"] == 12 - spent
    sentence = (
        f"{spent} requests were billed. Their answers are kept in {table['ledger']}: running the same again pays for "
        f"{12 - spent} more at most"
    )
    assert vars(ended.value)["__notes__"] == [sentence]
    with ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        assert classify_table(client, **table).stats.billed == 12 - spent


async def test_the_asynchronous_twin_tells_it_when_it_is_cancelled(sandbox: Sandbox, table: dict[str, Any]) -> None:
    begun = asyncio.Event()
    async with AsyncClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        task = asyncio.ensure_future(
            aclassify_table(client, **table, progress=lambda moment: begun.set() if moment.billed else None)
        )
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as ended:
            await task
    assert vars(ended.value)["stats"].billed == sandbox.bill().charged


def test_an_error_of_ours_tells_it_and_travels(sandbox: Sandbox, table: dict[str, Any]) -> None:
    sandbox.clear_faults()
    sandbox.inject(Fault(kind="answer", path="/batch", nth=3, status=401, times=None))
    with ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        with pytest.raises(AuthenticationError) as ended:
            classify_table(client, **table)
        assert pickle.loads(pickle.dumps(ended.value)).stats.billed == sandbox.bill().charged == 4
        with pytest.raises(InvalidRequestError) as refused:
            classify_table(client, **{**table, "text": "nobody"})
    assert refused.value.stats is None
    assert ending(None)["billed"] == 0
