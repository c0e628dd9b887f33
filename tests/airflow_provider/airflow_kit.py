"""What the tests of this folder share besides fixtures; conftest.py has set the environment."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

KEY = "cai_live_5ec2e75ec2e75ec2e75ec2e75ec2e75ec2e75ec2"
CONNECTION = "AIRFLOW_CONN_CLASSIFAILY_DEFAULT"
AIRFLOW_HOME = Path(os.environ["AIRFLOW_HOME"])
README_DAGS = AIRFLOW_HOME / "readme"
STATE = Path(os.environ["XDG_STATE_HOME"]) / "classifaily"
DAGS = Path(__file__).parent / "dags"
EXAMPLES = Path(__file__).parents[2] / "examples" / "airflow"


def connection_json(sandbox: Sandbox, **more: Any) -> str:
    return json.dumps({"conn_type": "classifaily", "password": sandbox.key, "host": sandbox.base_url, **more})


@dataclass
class Run:
    """A finished DAG run, read back from Airflow's database."""

    dag_id: str
    run_id: str
    state: str

    def xcom(self, task_id: str, map_index: int = -1, *, key: str = "return_value") -> Any:
        from airflow.models.xcom import XComModel

        return self._one(XComModel, key=key, task_id=task_id, map_index=map_index).value

    def task(self, task_id: str, map_index: int = -1) -> Any:
        from airflow.models.taskinstance import TaskInstance

        return self._one(TaskInstance, task_id=task_id, map_index=map_index)

    def tries(self, task_id: str) -> tuple[str, int]:
        """The task's state, and the number of its tries."""
        task = self.task(task_id)
        return task.state, task.try_number

    def most_tries(self) -> int:
        """The tries of the task that needed most of them."""
        from airflow.models.taskinstance import TaskInstance
        from airflow.utils.session import create_session

        with create_session() as session:
            tasks = session.query(TaskInstance).filter_by(dag_id=self.dag_id, run_id=self.run_id)
            return max(task.try_number for task in tasks)

    def rendered(self, task_id: str) -> dict[str, Any]:
        from airflow.models.renderedtifields import RenderedTaskInstanceFields

        return self._one(RenderedTaskInstanceFields, task_id=task_id).rendered_fields

    def _one(self, model: Any, **where: Any) -> Any:
        from airflow.utils.session import create_session

        with create_session() as session:
            found = session.query(model).filter_by(dag_id=self.dag_id, run_id=self.run_id, **where).one()
            session.expunge_all()
            return found


def files_holding(text: str, *folders: Path) -> list[Path]:
    """Every file below the folders that holds the text, as it is or as UTF-16."""
    needles = (text.encode(), text.encode("utf-16-le"))
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert files
    return [path for path in files if any(needle in path.read_bytes() for needle in needles)]


RunDag = Callable[..., Run]


def processes_left_in(folder: Path) -> list[str]:
    """The processes that still run in the folder; those that have been killed get a moment to die."""
    until = time.monotonic() + 20
    while (left := processes_in(folder)) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def processes_in(folder: Path) -> list[str]:
    """The live processes that run in the folder."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and (entry / "cwd").readlink() == folder:
                found.append((entry / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found
