"""A running Airflow for tests that break it: what `serve_airflow.py` serves, asked through its API server."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_kit import processes_in

HERE = Path(__file__).parent
ENOUGH = 300
"""Seconds: a bound for a busy machine, not an expectation."""


@dataclass
class LiveAirflow:
    url: str
    home: Path
    process: subprocess.Popen[str]
    token: str = ""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.token}"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            error.close()
            raise

    def trigger(self, dag_id: str, **conf: Any) -> LiveRun:
        """Start a run of a DAG, as soon as Airflow knows it."""

        def start() -> Any:
            return self.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf})

        return LiveRun(self, dag_id, wait_for(start)["dag_run_id"])

    def kill(self, component: str) -> None:
        """End a component with SIGKILL, all its processes."""
        self._order(f"kill {component}")

    def start(self, component: str) -> None:
        self._order(f"start {component}")

    def _order(self, line: str) -> None:
        assert self.process.stdin
        assert self.process.stdout
        print(line, file=self.process.stdin, flush=True)
        assert json.loads(self.process.stdout.readline()) == {"done": line}

    def logs(self, dag_id: str) -> str:
        """Everything that the DAG's tasks logged."""
        return "".join(path.read_text() for path in sorted(self.home.glob(f"logs/dag_id={dag_id}/**/*.log")))


@dataclass
class LiveRun:
    airflow: LiveAirflow
    dag_id: str
    run_id: str

    @property
    def path(self) -> str:
        return f"/api/v2/dags/{self.dag_id}/dagRuns/{self.run_id}"

    @property
    def state(self) -> str:
        return str(self.airflow.call("GET", self.path)["state"])

    def tasks(self) -> list[dict[str, Any]]:
        return list(self.airflow.call("GET", f"{self.path}/taskInstances?limit=100")["task_instances"])

    def states(self) -> list[str | None]:
        return [each["state"] for each in self.tasks()]

    def xcom(self, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """The value, or None while there is none."""
        path = f"{self.path}/taskInstances/{task_id}/xcomEntries/{key}?map_index={map_index}"
        with contextlib.suppress(urllib.error.HTTPError):
            return self.airflow.call("GET", path)["value"]

    def end(self) -> str:
        """The run's state once it has ended."""
        return str(wait_for(lambda: state if (state := self.state) in ("success", "failed") else None))


def wait_for(look: Callable[[], Any], seconds: float = ENOUGH) -> Any:
    """What `look` returns as soon as that is something; an API that is not ready yet counts as nothing."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if found := look():
                return found
        time.sleep(0.2)
    raise TimeoutError(f"nothing after {seconds} seconds")


@contextlib.contextmanager
def live_airflow(home: Path, dags: Path, **env: str) -> Iterator[LiveAirflow]:
    """API server, scheduler, triggerer and DAG processor over a folder of DAGs; none of them is left afterwards."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "CLASSIFAILY"))}
    command = [sys.executable, str(HERE / "serve_airflow.py"), str(home), str(dags)]
    process = subprocess.Popen(
        command, env={**own, **env}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert process.stdout
        airflow = LiveAirflow(json.loads(process.stdout.readline())["url"], home, process)
        airflow.token = airflow.call("GET", "/auth/token")["access_token"]
        yield airflow
    finally:
        assert process.stdin
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()
    assert processes_in(home) == []
