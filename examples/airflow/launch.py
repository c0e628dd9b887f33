"""Run the examples on a real, local Airflow; see `--help`.

    launch.py demo --input TABLE.csv --text COLUMN --output OUT.csv --categories CATEGORIES.json --workdir DIR
    launch.py ui [--port 8080] [--workdir DIR]

CLASSIFAILY_KEY and CLASSIFAILY_BASE_URL say whose account it is (a sandbox's, or your own). Needs Airflow's Python.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from local_airflow import LocalAirflow

from classifaily_connectors import ClassifailyClient

EXAMPLES = Path(__file__).parent
DAG = "support_tickets"
POLL_SECONDS = 0.3
csv.field_size_limit(10_000_000)


def demo(options: argparse.Namespace, say: Say) -> None:
    """The example DAG over a table, `--runs` times: real DAG runs by the scheduler."""
    say({"event": "starting"})
    with options.input.open(newline="", encoding="utf-8-sig") as table:
        rows = sum(1 for _ in csv.DictReader(table))
    conf = {
        "table": str(options.input.resolve()),
        "text": options.text,
        "output": str(options.output.resolve()),
        "categories": json.loads(options.categories.read_text(encoding="utf-8")),
    }
    options.output.resolve().parent.mkdir(parents=True, exist_ok=True)
    connection = {"AIRFLOW_CONN_CLASSIFAILY_DEFAULT": json.dumps(account())}
    components = ("api-server", "scheduler", "dag-processor")
    with platform(options, say, components, **connection) as airflow:
        airflow.wait_for(lambda: airflow.call("GET", f"/api/v2/dags/{DAG}"))
        say({"event": "ready", "url": airflow.url})
        for run in range(1, options.runs + 1):
            run_url = _run(
                airflow,
                conf,
                lambda done, run=run: say({"event": "progress", "run": run, "done": done, "rows": rows}),
            )
            say({"event": "progress", "run": run, "done": rows, "rows": rows})
            say({"event": "run_done", "run": run, "rows": rows, "output": conf["output"], "run_url": run_url})


def _run(airflow: LocalAirflow, conf: dict[str, Any], progress: Callable[[int], None]) -> str:
    run_id = airflow.call("POST", f"/api/v2/dags/{DAG}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]
    run_path = f"/api/v2/dags/{DAG}/dagRuns/{run_id}"
    told = -1

    def ended() -> str | None:
        nonlocal told
        state = airflow.call("GET", run_path)["state"]
        if state in ("success", "failed"):
            return str(state)
        # Not there yet before the first rows are: an answer of 404, which `wait_for` takes for "not yet".
        done = airflow.call("GET", f"{run_path}/taskInstances/classify/xcomEntries/progress")["value"]["done"]
        if done > told:
            told = done
            progress(done)
        return None

    state = airflow.wait_for(ended, seconds=3600, pause=POLL_SECONDS)
    if state == "failed":
        raise RuntimeError(f"the DAG run {run_id} failed")
    return f"{airflow.url}/dags/{DAG}/runs/{run_id}"


def ui(options: argparse.Namespace, say: Say) -> None:
    """Airflow with all examples of this folder, until Ctrl-C."""
    components = ("api-server", "scheduler", "dag-processor", "triggerer")
    secret = secrets.token_hex(16)
    with platform(options, say, components, CLASSIFAILY_WEBHOOK_SECRET=secret) as airflow:
        # Kept in the metadata database, where Admin > Connections shows it. Port 0, because Airflow 3.3.2
        # refuses to test a stored connection without a port (apache/airflow#73298).
        login = account()
        airflow.call("POST", "/api/v2/connections", {"connection_id": "classifaily_default", "port": 0, **login})
        airflow.wait_for(lambda: airflow.call("GET", f"/api/v2/dags/{DAG}"))
        if "//127.0.0.1" in (login["host"] or ""):  # a sandbox can reach us here, the real API cannot
            with ClassifailyClient(login["password"], base_url=login["host"]) as client:
                client.webhooks.create(f"{airflow.url}/classifaily/webhooks", secret=secret)
        say({"event": "ready", "url": airflow.url})
        signal.pause()


def account() -> dict[str, str | None]:
    """The connection for the account that the environment names; the environment forgets the key."""
    try:
        key = os.environ.pop("CLASSIFAILY_KEY")
    except KeyError:
        raise SystemExit("set CLASSIFAILY_KEY (and CLASSIFAILY_BASE_URL for a sandbox)") from None
    return {"conn_type": "classifaily", "password": key, "host": os.environ.get("CLASSIFAILY_BASE_URL")}


@contextlib.contextmanager
def platform(options: argparse.Namespace, say: Say, components: tuple[str, ...], **env: str) -> Iterator[LocalAirflow]:
    """A started Airflow in `--workdir`; its last log lines on stderr when something fails."""
    with contextlib.ExitStack() as stack:
        workdir = options.workdir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="airflow-ui-")))
        airflow = LocalAirflow(workdir, EXAMPLES, components=components, port=options.port, **env)
        try:
            yield stack.enter_context(airflow)
        except Exception:
            say.error(airflow.log_tail())
            raise


class Say:
    """JSON lines on the real stdout, text on the real stderr: Airflow prints to both, so they are kept aside."""

    def __init__(self) -> None:
        self._out, self._err = os.fdopen(os.dup(1), "w"), os.fdopen(os.dup(2), "w")

    def __call__(self, event: dict[str, Any]) -> None:
        print(json.dumps(event), file=self._out, flush=True)

    def error(self, text: str) -> None:
        print(text, file=self._err, flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(required=True)
    mode = modes.add_parser("demo", help="label a table and stop; JSON lines on stdout")
    mode.set_defaults(run=demo, port=None)
    mode.add_argument("--input", type=Path, required=True, help="CSV file with a header")
    mode.add_argument("--text", required=True, help="column to classify")
    mode.add_argument("--output", type=Path, required=True, help="CSV file to write")
    mode.add_argument("--categories", type=Path, required=True, help="JSON list of categories")
    mode.add_argument("--workdir", type=Path, required=True, help="becomes AIRFLOW_HOME")
    mode.add_argument("--runs", type=int, default=1, help="how many DAG runs")
    mode = modes.add_parser("ui", help="Airflow's UI until Ctrl-C")
    mode.set_defaults(run=ui)
    mode.add_argument("--port", type=int, default=8080)
    mode.add_argument("--workdir", type=Path, help="becomes AIRFLOW_HOME (default: a temporary directory)")
    return parser.parse_args()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # once is enough: stopping must not be stopped
    raise KeyboardInterrupt


def main() -> int:
    options, say = arguments(), Say()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        options.run(options, say)
    except KeyboardInterrupt:
        return 0 if options.run is ui else 130
    except Exception as error:  # noqa: BLE001  # the caller reads one line, not our traceback
        say.error(f"{type(error).__name__}: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
