"""The last line of `make test` is green only when everything ran and passed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUMMARY = Path(__file__).parent.parent / "summary.py"
PASSING = "def test_a(): pass\ndef test_b(): pass\n"
FAILING = "def test_c(): assert 0\n"
BROKEN = "import pytest\n@pytest.fixture\ndef no(): raise OSError\ndef test_d(no): pass\n"
UNCLEAN = "import pytest\n@pytest.fixture\ndef no():\n    yield\n    raise OSError\ndef test_d(no): assert 0\n"
SKIPPING = "import pytest\ndef test_e(): pytest.skip('later')\n"
EXPECTED = "import pytest\n@pytest.mark.xfail\ndef test_f(): assert 0\n"


def report(folder: Path, name: str, tests: str) -> None:
    """What pytest itself writes about `tests`."""
    path = folder / f"test_{name}.py"
    path.write_text(tests)
    run = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", "-p", "no:cacheprovider", str(path)]
    plain = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    subprocess.run([*run, f"--junitxml={folder / name}.xml"], env=plain, capture_output=True, check=False, timeout=60)


def summarise(folder: Path, *names: str) -> tuple[list[str], int]:
    run = [sys.executable, str(SUMMARY), str(folder), *names]
    done = subprocess.run(run, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout.splitlines(), done.returncode


def test_all_passed(tmp_path: Path) -> None:
    report(tmp_path, "core", PASSING)
    report(tmp_path, "prefect", PASSING)
    lines, status = summarise(tmp_path, "core", "prefect")
    assert lines == ["core     2 passed, 0 failed", "prefect  2 passed, 0 failed", "4 passed, 0 failed"]
    assert status == 0


@pytest.mark.parametrize(
    ("tests", "counted"),
    [
        (PASSING + FAILING, "2 passed, 1 failed"),
        (PASSING + BROKEN, "2 passed, 1 failed"),
        (UNCLEAN + PASSING, "2 passed, 2 failed"),
        (PASSING + SKIPPING, "2 passed, 0 failed, 1 skipped"),
        (PASSING + EXPECTED, "2 passed, 0 failed, 1 skipped"),
        ("import no_such_module", "0 passed, 1 failed"),
    ],
    ids=["failed", "errored", "failed and unclean", "skipped", "failed as expected", "not imported"],
)
def test_anything_else_is_not_green(tests: str, counted: str, tmp_path: Path) -> None:
    report(tmp_path, "core", tests)
    assert summarise(tmp_path, "core") == ([f"core  {counted}", counted], 1)


def test_nothing_run_is_not_green(tmp_path: Path) -> None:
    report(tmp_path, "core", "")
    report(tmp_path, "cut", PASSING)
    cut = tmp_path / "cut.xml"
    cut.write_text(cut.read_text()[:-20])
    report(tmp_path, "good", PASSING)
    lines, status = summarise(tmp_path, "core", "cut", "lost", "good")
    assert lines[0] == "core  ran no test"
    assert lines[1].startswith("cut   report cut short")
    assert lines[2].startswith("lost  no report")
    assert lines[-1] == "2 passed, 3 failed"
    assert status == 1
    assert summarise(tmp_path)[1] == 1
