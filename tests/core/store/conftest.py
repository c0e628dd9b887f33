"""A ledger on each of the two databases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors.store import Ledger


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/ledger.db"
    return str(request.getfixturevalue("postgres")())


@pytest.fixture
def open_ledger(url: str) -> Iterator[Callable[..., Ledger]]:
    with ExitStack() as stack:

        def open_ledger(**options: Any) -> Ledger:
            ledger = Ledger(url, **options)
            stack.callback(ledger.close)
            return ledger

        yield open_ledger


@pytest.fixture
def ledger(open_ledger: Callable[..., Ledger]) -> Ledger:
    return open_ledger()
