"""A sandbox with a key of its own in the environment, and ways to run real Dagster against it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from classifaily_connectors.sandbox import Sandbox
from dagster_classifaily import ClassifailyResource

KEY = "cai_live_5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2"


@pytest.fixture(scope="session")
def _running() -> Iterator[Sandbox]:
    with Sandbox(plan="pro", key=KEY) as running:
        yield running


@pytest.fixture
def sandbox(_running: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sandbox:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # where the user's own ledger would be
    _running.clear_faults()
    _running.reset_bill()
    _running.add_key(KEY, plan="pro", used=0)
    monkeypatch.setenv("CLASSIFAILY_KEY", KEY)
    monkeypatch.setenv("CLASSIFAILY_BASE_URL", _running.base_url)
    return _running


@pytest.fixture
def materialize(sandbox: Sandbox) -> Callable[..., dg.ExecuteInProcessResult]:
    """Run assets; a failure is in the result, not raised."""

    def run(*assets: Any, resource: ClassifailyResource | None = None) -> dg.ExecuteInProcessResult:
        resources = {"classifaily": resource or ClassifailyResource()}
        return dg.materialize(assets, resources=resources, raise_on_error=False)

    return run


@pytest.fixture
def failure() -> Callable[[dg.ExecuteInProcessResult], Any]:
    """What Dagster recorded of the one step that failed."""

    def read(result: dg.ExecuteInProcessResult) -> Any:
        (failed,) = (event for event in result.all_events if event.is_step_failure)
        return failed.step_failure_data

    return read


@pytest.fixture
def dagster_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "dagster_home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    return home


@pytest.fixture
def run_dagster(dagster_home: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`dagster ...` as a user would call it, in its own process."""

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dagster", *command],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
            cwd=tmp_path,
            env={**os.environ, "PYTHONWARNINGS": ""},
        )

    return run


@pytest.fixture
def places_of() -> Callable[[str, Path], list[str]]:
    """Every file below a folder, and every cell of its databases, that holds a secret; packed cells are unpacked."""

    def search(secret: str, folder: Path) -> list[str]:
        found: list[str] = []
        for file in filter(Path.is_file, folder.rglob("*")):
            if secret.encode() in file.read_bytes():
                found.append(str(file))
            if file.suffix == ".db":
                found += [f"{file} {table}" for table, cell in _cells(file) if secret.encode() in _unpacked(cell)]
        return found

    return search


def _cells(file: Path) -> Iterator[tuple[str, Any]]:
    with closing(sqlite3.connect(file)) as database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in database.execute(f'SELECT * FROM "{table}"'):
                yield from ((table, cell) for cell in row)


def _unpacked(cell: Any) -> bytes:
    if isinstance(cell, bytes):
        try:
            return zlib.decompress(cell)
        except zlib.error:
            return cell
    return str(cell).encode()
