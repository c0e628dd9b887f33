"""A whole Airflow over a folder of DAGs, for tests that break it: `serve_airflow.py HOME DAGS`.

Says `{"url": ...}` on stdout once it is healthy, then obeys the lines of stdin (`kill COMPONENT`, `start COMPONENT`),
answering each with a line; the end of stdin ends Airflow.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "airflow"))

from local_airflow import LocalAirflow

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
SETTINGS = {
    "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
    "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "10",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "2",
    "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "60",
}


# Every task is a fork of this process: what it imports here, a hundred tasks need not.
OURS = ("client", "async_client", "tables", "store.ledger", "store.inbox", "webhooks.waiting", "webhooks.receiver")


def main() -> None:
    home, dags = map(Path, sys.argv[1:])
    for name in OURS:
        import_module(f"classifaily_connectors.{name}")
    out = os.fdopen(os.dup(1), "w")

    def say(line: dict[str, str]) -> None:
        print(json.dumps(line), file=out, flush=True)

    airflow = LocalAirflow(home, dags, components=COMPONENTS, **SETTINGS)
    try:
        with airflow:
            say({"url": airflow.url})
            for line in sys.stdin:
                verb, component = line.split()
                (airflow.kill if verb == "kill" else airflow.start)(component)
                say({"done": line.strip()})
    except Exception:
        print(airflow.log_tail(), file=sys.__stderr__)
        raise


if __name__ == "__main__":
    main()
