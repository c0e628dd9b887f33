"""Workers in processes of their own, and a sandbox that counts what they paid."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors.sandbox import Sandbox, Switches
from classifaily_connectors.store import Ledger

CATEGORIES = ["billing", "technical", "account"]
Finished = dict[str, Any]


class Yard:
    """One sandbox and one ledger; `start` sends a worker off, `finish` waits for its report."""

    def __init__(self, sandbox: Sandbox, ledger_url: str, stack: ExitStack) -> None:
        self.sandbox, self.ledger_url, self._stack = sandbox, ledger_url, stack

    def start(self, rows: int, unique: int, **options: Any) -> subprocess.Popen[str]:
        order = {
            "key": self.sandbox.key,
            "base_url": self.sandbox.base_url,
            "ledger": self.ledger_url,
            "rows": rows,
            "unique": unique,
            "options": {"categories": CATEGORIES, **options},
        }
        command = [sys.executable, str(Path(__file__).with_name("worker.py")), json.dumps(order)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        worker = subprocess.Popen(command, text=True, **pipes)  # type: ignore[call-overload]
        self._stack.callback(self._end, worker)
        return worker  # type: ignore[no-any-return]

    def finish(self, worker: subprocess.Popen[str]) -> Finished:
        out, err = worker.communicate(timeout=240)
        assert worker.returncode == 0, err[-2000:]
        return json.loads(out.splitlines()[-1])  # type: ignore[no-any-return]

    def run(self, rows: int, unique: int, **options: Any) -> Finished:
        return self.finish(self.start(rows, unique, **options))

    def kill(self, worker: subprocess.Popen[str]) -> None:
        """`kill -9`."""
        worker.kill()
        worker.communicate(timeout=30)

    @staticmethod
    def _end(worker: subprocess.Popen[str]) -> None:
        if worker.poll() is None:
            worker.kill()
        worker.communicate(timeout=30)

    def times_paid(self) -> dict[int, int]:
        """How many inputs were paid how often."""
        return dict(Counter(self.sandbox.bill().by_input.values()))

    def unsettled(self) -> int:
        ledger = Ledger(self.ledger_url)
        try:
            return len(ledger.unsettled())
        finally:
            ledger.close()


@pytest.fixture
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind = getattr(request, "param", "sqlite")
    return f"sqlite:///{tmp_path}/ledger.db" if kind == "sqlite" else str(request.getfixturevalue("postgres")())


@pytest.fixture
def open_yard(ledger_url: str) -> Iterator[Callable[..., Yard]]:
    with ExitStack() as stack:

        def open_yard(plan: str = "pro", **switches: Any) -> Yard:
            sandbox = stack.enter_context(Sandbox(plan=plan, switches=Switches(**switches)))
            return Yard(sandbox, ledger_url, stack)

        yield open_yard


@pytest.fixture
def yard(open_yard: Callable[..., Yard]) -> Yard:
    return open_yard()
