"""What an import costs: orchestrators import DAG files again and again, for every heartbeat of a scheduler."""

from __future__ import annotations

import functools
import os
import resource
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import Race

ROUNDS = 7
SHARE = 15 / 947
"""Of the openai SDK's import: the goal of 15 ms, said as a ratio on the machine where openai took 947 ms."""
HELP_SHARE = 1.5
"""Of the CPU time of the smallest application of typer, which our command line is made with."""
SMALLEST = "import typer; app = typer.Typer(); app.command()(lambda: None); app(['--help'])"
OPERATOR_SHARE = 1 / 20
"""Of the openai provider's operator, each beyond `airflow.sdk`."""

PROGRAM = """
{before}
import time
started = time.perf_counter()
import {module}
print((time.perf_counter() - started) * 1e3)
"""


def milliseconds(module: str, *, before: str = "", home: Path) -> float:
    """The import of `module` in a fresh process, after the code in `before`."""
    program = PROGRAM.format(module=module, before=before)
    environment = {**os.environ, "AIRFLOW_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, cwd=home, capture_output=True, text=True, check=True
    )
    return float(done.stdout.splitlines()[-1])


def test_root(tmp_path: Path, race: type[Race]) -> None:
    modules = ("openai", "httpx", "classifaily_connectors")
    contenders = {module: functools.partial(milliseconds, module, home=tmp_path) for module in modules}
    result = race("Import of the package, ms", contenders, rounds=ROUNDS)
    result.show("openai", ".1f")
    assert result.ratio("classifaily_connectors", "openai").middle <= SHARE


def processor_milliseconds(arguments: list[str], home: Path) -> float:
    """The CPU time of a process of its own."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], cwd=home, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1e3


def test_help(tmp_path: Path, race: type[Race]) -> None:
    commands = {
        "import httpx": ["-c", "import httpx"],
        "smallest typer --help": ["-c", SMALLEST],
        "classifaily --help": ["-m", "classifaily_connectors", "--help"],
    }
    contenders = {
        name: functools.partial(processor_milliseconds, command, tmp_path) for name, command in commands.items()
    }
    result = race("CPU time of the command line's help, ms", contenders, rounds=ROUNDS)
    result.show("smallest typer --help", ".1f")
    assert result.ratio("classifaily --help", "smallest typer --help").middle <= HELP_SHARE


def test_airflow_operator(tmp_path: Path, race: type[Race]) -> None:
    beyond = functools.partial(milliseconds, before="import airflow.sdk", home=tmp_path)
    contenders = {
        "openai provider": functools.partial(beyond, "airflow.providers.openai.operators.openai"),
        "classifaily": functools.partial(beyond, "airflow_provider_classifaily.operators"),
    }
    result = race("Import of the Airflow operators beyond airflow.sdk, ms", contenders, rounds=ROUNDS)
    result.show("openai provider", ".1f")
    assert result.ratio("classifaily", "openai provider").middle <= OPERATOR_SHARE
