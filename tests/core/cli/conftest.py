"""The command as its users run it: a process of its own, with an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors.sandbox import Sandbox


@dataclass
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Command = Callable[..., Ended]


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(plan="pro") as sandbox:
        yield sandbox


@pytest.fixture
def environment(sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("CLASSIFAILY")}
    state = {"XDG_STATE_HOME": str(tmp_path / "state"), "COLUMNS": "200", "NO_COLOR": "1"}
    return {**kept, **state, "CLASSIFAILY_KEY": sandbox.key, "CLASSIFAILY_BASE_URL": sandbox.base_url}


@pytest.fixture
def line() -> list[str]:
    """How the command begins."""
    return [sys.executable, "-W", "error", "-c", "from classifaily_connectors.cli import main; main()"]


@pytest.fixture
def run(line: list[str], environment: dict[str, str], tmp_path: Path) -> Command:
    """Runs `classifaily` in an empty folder; `env` changes the environment (None removes)."""

    def run(*words: object, env: dict[str, str | None] | None = None) -> Ended:
        changed = {**environment, **(env or {})}
        done = subprocess.run(
            [*line, *map(str, words)],
            env={name: value for name, value in changed.items() if value is not None},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert "Traceback" not in done.stderr
        assert environment["CLASSIFAILY_KEY"] not in done.stdout + done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def tickets(tmp_path: Path) -> Path:
    path = tmp_path / "tickets.csv"
    path.write_text("id,body\n" + "".join(f"{n},My invoice {n % 40} was charged twice\n" for n in range(50)))
    return path
