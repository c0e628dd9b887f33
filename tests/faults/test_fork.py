"""A client used on both sides of a fork, as Airflow's executors fork tasks.

One `httpx.Client` used so gave one process the other's answer several times in 300 calls: both wrote to one socket.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

CALLS = 300


@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_no_answer_crosses(kind: str, echo: str) -> None:
    program = Path(__file__).with_name("forking.py")
    command = [sys.executable, "-W", "error", str(program), echo, kind, str(CALLS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"parent": 0, "child": 0, "parent afterwards": 0}
