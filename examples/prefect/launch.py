"""Start a Prefect server of its own, and run the examples in it.

    launch.py demo --input TABLE.csv --text COLUMN --output OUT.csv --categories CATEGORIES.json --workdir DIR
    launch.py ui [--port PORT]

The key and the address come from CLASSIFAILY_KEY and CLASSIFAILY_BASE_URL. `demo` prints JSON lines only; everything
the processes say is in DIR/*.log. Whatever was started is stopped, also on an error, Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
START_SECONDS = 120
Process = subprocess.Popen[bytes]
signals: list[int] = []
"""Ctrl-C and SIGTERM only leave a note, read between two steps: raised anywhere, they could lose a process."""


class LaunchError(Exception):
    """A process we started ended badly; the logs say why."""


class Prefect:
    """A server on 127.0.0.1 with its database in `workdir`, and the processes that use it."""

    def __init__(self, workdir: Path, port: int | None) -> None:
        self.workdir = workdir
        self.url = f"http://127.0.0.1:{port or free_port()}"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
            "PREFECT_HOME": str(workdir / "home"),
            "PREFECT_API_URL": f"{self.url}/api",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            "PYTHONUNBUFFERED": "1",
        }
        self._started: list[Process] = []

    def start(self, log: str, *command: str | Path) -> Process:
        """A process in a group of its own, with its output in `log`."""
        with (self.workdir / f"{log}.log").open("ab") as file:
            process = subprocess.Popen(
                command, cwd=self.workdir, env=self.env, stdout=file, stderr=file, start_new_session=True
            )
        self._started.append(process)
        return process

    def start_server(self) -> None:
        """Returns when the API answers."""
        port = self.url.rpartition(":")[2]
        server = self.start("server", BIN / "prefect", "server", "start", "--host", "127.0.0.1", "--port", port)
        deadline = time.monotonic() + START_SECONDS
        while not self.ask("GET", "/health"):
            if server.poll() is not None or time.monotonic() > deadline:
                raise LaunchError("the Prefect server did not start")
            pause(0.1)

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """What the API answers; None while it does not."""
        data = json.dumps(body).encode() if body is not None else None
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self.url}/api{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return json.load(answer)
        except OSError:
            return None

    def stop(self) -> None:
        """End every process group, gently first."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in reversed(self._started):
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    continue
            deadline = time.monotonic() + 5
            while any(map(group_lives, self._started)) and time.monotonic() < deadline:
                time.sleep(0.05)


def group_lives(leader: Process) -> bool:
    leader.poll()  # reaps it: a zombie would count as alive
    try:
        os.killpg(leader.pid, 0)
    except ProcessLookupError:
        return False
    return True


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def pause(seconds: float) -> None:
    time.sleep(seconds)
    if signals:
        sys.exit(128 + signals[0])


@contextmanager
def running(workdir: Path, port: int | None = None) -> Iterator[Prefect]:
    """A started server; everything ends with the block. On an error the ends of the logs go to stderr."""
    workdir.mkdir(parents=True, exist_ok=True)
    for old in workdir.glob("*.log"):
        old.unlink()
    prefect = Prefect(workdir, port)
    try:
        prefect.start_server()
        yield prefect
    except LaunchError as error:
        for log in sorted(workdir.glob("*.log"), key=lambda path: path.stat().st_mtime):
            lines = log.read_text(errors="replace").splitlines()[-30:]
            print(f"--- {log.name}", *lines, sep="\n", file=sys.stderr)
        sys.exit(f"{error}; the whole of the logs is in {workdir}")
    finally:
        prefect.stop()


def tell(event: str, **fields: Any) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


def demo(given: argparse.Namespace) -> None:
    """Run the support-ticket flow `--runs` times over a table."""
    tell("starting")
    workdir = given.workdir.resolve()
    with running(workdir) as prefect:
        tell("ready", url=prefect.url)
        table, rows = cut(given.input.resolve(), given.rows, workdir / "input.csv")
        script = [sys.executable, HERE / "support_tickets.py", "--input", table, "--text", given.text]
        script += ["--output", given.output.resolve(), "--categories", given.categories.resolve()]
        seen: set[str] = set()
        for run in range(1, given.runs + 1):
            flow = prefect.start("flow", *script)
            told, flow_run = -1, ""
            while True:
                ended = flow.poll() is not None
                flow_run, percent = progress_of(prefect, seen)
                done = round(rows * percent / 100)
                if flow_run and done > told:
                    told = done
                    tell("progress", run=run, done=done, rows=rows)
                if ended:
                    break
                pause(0.2)
            if flow.returncode:
                raise LaunchError(f"the flow of run {run} failed")
            seen.add(flow_run)
            run_url = f"{prefect.url}/runs/flow-run/{flow_run}"
            tell("run_done", run=run, rows=rows, output=str(given.output), run_url=run_url)


def progress_of(prefect: Prefect, seen: set[str]) -> tuple[str, float]:
    """The newest flow run that shows progress and was not `seen`, and its per cent."""
    wanted = {"artifacts": {"key": {"any_": ["support-tickets-progress"]}}, "sort": "CREATED_DESC", "limit": 1}
    for artifact in prefect.ask("POST", "/artifacts/filter", wanted) or ():
        if artifact["flow_run_id"] not in seen:
            return artifact["flow_run_id"], float(artifact["data"])
    return "", 0.0


def cut(table: Path, limit: int | None, copy: Path) -> tuple[Path, int]:
    """The table, or a copy of its first `limit` rows; and the number of rows."""
    csv.field_size_limit(2**31 - 1)
    with table.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    if limit is None or limit >= len(rows):
        return table, len(rows)
    with copy.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([head, *rows[:limit]])
    return copy, limit


def ui(given: argparse.Namespace) -> None:
    """The UI, with every example ready to run, until Ctrl-C."""
    workdir = HERE.parents[1] / "build" / "ui" / "prefect"
    with running(workdir, given.port) as prefect:
        served = prefect.start("examples", sys.executable, HERE / "serve_examples.py")
        print(f"Prefect is at {prefect.url} (deployments, and the block `classifaily`); Ctrl-C ends it", flush=True)
        while served.poll() is None:
            pause(0.2)
        raise LaunchError("the examples are no longer served")


def main() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("demo")
    for name in ("input", "output", "categories", "workdir"):
        command.add_argument(f"--{name}", type=Path, required=True)
    command.add_argument("--text", required=True)
    command.add_argument("--rows", type=int)
    command.add_argument("--runs", type=int, default=1)
    command.set_defaults(act=demo)
    command = commands.add_parser("ui")
    command.add_argument("--port", type=int, default=4200)
    command.set_defaults(act=ui)
    given = parser.parse_args()
    given.act(given)


if __name__ == "__main__":
    main()
