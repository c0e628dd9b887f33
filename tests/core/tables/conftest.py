"""A sandbox that everybody may use, a ledger of one's own, and a table in every form."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifaily_connectors import ClassifailyClient, RetryPolicy, TableResult, classify_table
from classifaily_connectors.sandbox import Sandbox

CATEGORIES = ["billing", "technical", "account", "general"]
QUICK = RetryPolicy(base=0.01, cap=0.05, poll_interval=0.02, max_elapsed=2.0)
ROWS = [
    {"id": "a", "subject": "Invoice", "body": "I was charged twice for one invoice"},
    {"id": "b", "subject": "Broken", "body": "The app crashes with an error, ünïcode \U0001f600"},
    {"id": "c", "subject": "Again", "body": "I was charged twice for one invoice"},
    {"id": "d", "subject": "Empty", "body": ""},
    {"id": "e", "subject": "Login", "body": 'My "password"\nno longer works'},
]


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(plan="enterprise") as sandbox:
        yield sandbox


@pytest.fixture
def own_sandbox() -> Iterator[Sandbox]:
    """One whose faults and bill nobody else sees."""
    with Sandbox(plan="pro") as sandbox:
        yield sandbox


@pytest.fixture
def connect() -> Iterator[Callable[[Sandbox], ClassifailyClient]]:
    clients: list[ClassifailyClient] = []

    def connect(sandbox: Sandbox) -> ClassifailyClient:
        clients.append(ClassifailyClient(sandbox.key, base_url=sandbox.base_url, retry=QUICK))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


@pytest.fixture
def client(sandbox: Sandbox, connect: Callable[[Sandbox], ClassifailyClient]) -> ClassifailyClient:
    return connect(sandbox)


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/ledger.db"


Label = Callable[..., TableResult]


@pytest.fixture
def label(client: ClassifailyClient, ledger: str) -> Label:
    """`classify_table` with what every test needs."""

    def label(source: Any, **options: Any) -> TableResult:
        if "template" not in options:
            options.setdefault("text", "body")
        return classify_table(client, source, **{"categories": CATEGORIES, "ledger": ledger, **options})

    return label


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    pd.DataFrame(rows).to_csv(path, index=False)


def write_jsonl(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path: Path, rows: list[dict[str, str]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)


WRITERS = {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}
FRAMES: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "pandas": pd.DataFrame,
    "polars": pl.DataFrame,
    "pyarrow": pa.Table.from_pylist,
    "records": list,
}


@pytest.fixture
def rows() -> list[dict[str, str]]:
    return [dict(row) for row in ROWS]


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Path]:
    """Writes rows as `csv`, `jsonl` or `parquet`."""

    def make(kind: str, rows: list[dict[str, Any]] = ROWS, name: str = "in") -> Path:
        path = tmp_path / f"{name}.{kind}"
        WRITERS[kind](path, rows)
        return path

    return make


@pytest.fixture(params=FRAMES)
def framed(request: pytest.FixtureRequest) -> Callable[[list[dict[str, Any]]], Any]:
    """Makes a frame of one library after the other."""
    return FRAMES[request.param]


def _records(frame: Any) -> list[dict[str, Any]]:
    if isinstance(frame, list):
        return frame
    if isinstance(frame, pd.DataFrame):
        frame = pa.Table.from_pandas(frame, preserve_index=False)
    return pa.Table.to_pylist(frame) if isinstance(frame, pa.Table) else frame.to_dicts()


@pytest.fixture
def records() -> Callable[[Any], list[dict[str, Any]]]:
    """A frame's rows as plain dicts, nulls as None."""
    return _records
