"""A real Airflow with its own home and database, a real sandbox, and the connection between them.

Airflow reads its environment when it is imported, so the home is made here, before any test module is collected.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
AIRFLOW_HOME = Path(tempfile.mkdtemp(prefix="classifaily-airflow-"))
README_DAGS = AIRFLOW_HOME / "readme"
README_DAGS.mkdir()
BUNDLES = {"tests": HERE / "dags", "readme": README_DAGS}
os.environ.update(
    AIRFLOW_HOME=str(AIRFLOW_HOME),
    XDG_STATE_HOME=str(AIRFLOW_HOME / "state"),
    AIRFLOW__CORE__LOAD_EXAMPLES="False",
    AIRFLOW__CORE__DEFAULT_TASK_RETRY_DELAY="0",
    AIRFLOW__CORE__FERNET_KEY=urlsafe_b64encode(bytes(32)).decode(),
    AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST=json.dumps(
        [
            {
                "name": name,
                "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
                "kwargs": {"path": str(path)},
            }
            for name, path in BUNDLES.items()
        ]
    ),
    # Task logs of `dag.test()` go to stdout; without colours a test can read them.
    NO_COLOR="1",
)
for name in [name for name in os.environ if name.startswith("CLASSIFAILY_")]:
    del os.environ[name]
atexit.register(shutil.rmtree, AIRFLOW_HOME, ignore_errors=True)

sys.path.insert(0, str(HERE))  # for airflow_kit: with importlib imports a test's folder is not on the path

from airflow_kit import CONNECTION, DAGS, KEY, Run, connection_json  # noqa: E402

from classifaily_connectors.sandbox import Sandbox  # noqa: E402


@pytest.fixture(scope="session")
def airflow_home() -> Path:
    """A migrated home."""
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], check=True, capture_output=True, timeout=120)
    return AIRFLOW_HOME


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(plan="starter", key=KEY) as running:
        yield running


@pytest.fixture
def connected(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The sandbox, named by the default connection in the environment."""
    monkeypatch.setenv(CONNECTION, connection_json(sandbox))
    return sandbox


@pytest.fixture
def run_dag(airflow_home: Path) -> Callable[..., Run]:
    """Run a DAG of `dags/` (or of another folder) with `dag.test()`; keywords are the run's conf."""

    def run_dag(dag_id: str, folder: Path = DAGS, **conf: Any) -> Run:
        try:
            from airflow.dag_processing.dagbag import DagBag
        except ImportError:  # Airflow 3.1
            from airflow.models.dagbag import DagBag

        bag = DagBag(folder)
        assert not bag.import_errors
        run = bag.dags[dag_id].test(run_conf=conf)
        return Run(dag_id, run.run_id, str(run.state))

    return run_dag
