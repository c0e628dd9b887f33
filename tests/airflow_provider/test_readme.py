"""Every Python snippet of the two READMEs is a DAG file that runs, and every operation is shown."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow_kit import README_DAGS, RunDag

from airflow_provider_classifaily import operators, sensors, triggers

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

ROOT = Path(__file__).parents[2]


def snippets(readme: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", readme.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


OURS = snippets(ROOT / "airflow_provider" / "README.md")
TESTS = [each for each in OURS if "def test_" in each]
SNIPPETS = [each for each in OURS if each not in TESTS]
SNIPPETS += [each for each in snippets(ROOT / "README.md") if "airflow" in each]
DAG_IDS = [re.findall(r'(?:DAG\("|@dag.*\ndef )(\w+)', snippet)[0] for snippet in SNIPPETS]


@pytest.mark.parametrize(("dag_id", "snippet"), list(zip(DAG_IDS, SNIPPETS, strict=True)), ids=DAG_IDS)
def test_the_snippet_runs(
    run_dag: RunDag, connected: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dag_id: str, snippet: str
) -> None:
    (tmp_path / "tickets.csv").write_text("subject,body\nMoney,I was charged twice\n")
    monkeypatch.chdir(tmp_path)
    (README_DAGS / f"readme_{dag_id}.py").write_text(snippet, encoding="utf-8")
    run = run_dag(dag_id, README_DAGS)
    assert (run.state, run.most_tries()) == ("success", 1)
    assert connected.requests


def test_every_operator_and_sensor_is_shown() -> None:
    shown = (ROOT / "airflow_provider" / "README.md").read_text(encoding="utf-8")
    found = {name for module in (operators, sensors, triggers) for name in vars(module)}
    names = {name for name in found if re.fullmatch(r"Classifaily\w+(Operator|Sensor|EventTrigger)", name)}
    assert {"ClassifailyTableOperator", "ClassifailyWebhookSensor"} <= names
    assert not {name for name in names if name not in shown}


def test_the_tests_that_the_readme_shows_pass(airflow_home: Path, tmp_path: Path) -> None:
    """As a user runs them: in a folder of their own, by a pytest of their own."""
    (shown,) = TESTS
    (tmp_path / "test_shown.py").write_text(shown, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shown.py"]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout
