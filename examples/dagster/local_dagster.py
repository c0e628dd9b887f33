"""A Dagster of one's own, on 127.0.0.1: a code server for each file, a webserver, and the daemon when asked for.

These are the processes a deployment has. Starting them by hand takes a third of the time of `dagster dev`, which
starts them one after the other. Standard library only, so that starting this costs nothing.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Self

START_SECONDS = 240
STOP_SECONDS = 5

QUIET = "telemetry: {enabled: false}\nnux: {enabled: false}\n"
# Without the daemon nothing reads a queue, so the webserver hands each run to the code server itself.
NO_QUEUE = "run_coordinator: {module: dagster._core.run_coordinator, class: DefaultRunCoordinator}\n"

LOADED = """{ workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError {
    __typename ... on RepositoryLocation { repositories { name } } ... on PythonError { message } } } } } }"""
RELOAD = "mutation ($name: String!) { reloadRepositoryLocation(repositoryLocationName: $name) { __typename } }"
LAUNCH = """mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
    ... on RunConfigValidationInvalid { errors { message } } } }"""
EVENTS = """query ($run: ID!, $after: String) { logsForRun(runId: $run, afterCursor: $after) {
    ... on EventConnection { cursor events { __typename ... on MessageEvent { message }
    ... on ErrorEvent { error { message stack } } } } } runOrError(runId: $run) { ... on Run { status } } }"""
ENDED = ("SUCCESS", "FAILURE", "CANCELED")


class LaunchError(Exception):
    """Dagster did not do what was asked; the message says what it said."""


class LocalDagster:
    """Use it as a context manager: what it starts, it stops.

    `files` hold definitions, one code location each, named after the file. Everything is written below `workdir`.
    """

    def __init__(self, workdir: Path, files: list[Path], *, port: int | None = None, daemon: bool = False) -> None:
        self.workdir, self.files, self.daemon = workdir.resolve(), files, daemon
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._home = self.workdir / "home"
        self._started: list[subprocess.Popen[bytes]] = []
        self._repositories: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        settings = QUIET + ("" if self.daemon else NO_QUEUE)
        (self._home / "dagster.yaml").write_text(settings)
        servers = {file: free_port() for file in self.files}
        places = [
            {"grpc_server": {"host": "127.0.0.1", "port": port, "location_name": file.stem}}
            for file, port in servers.items()
        ]
        workspace = self.workdir / "workspace.yaml"
        workspace.write_text(json.dumps({"load_from": places}))  # JSON is YAML
        where = ("-w", str(workspace))
        self._run("webserver", "dagster_webserver", *where, "-h", "127.0.0.1", "-p", str(self.port))
        # The first process writes the tables of the database; two that do so at once break each other.
        self._wait_for(self._has_tables)
        for file, port in servers.items():
            self._run(f"code-{file.stem}", "dagster", "api", "grpc", "-p", str(port), "-f", str(file.resolve()))
        if self.daemon:
            self._run("daemon", "dagster._daemon", "run", *where)
        self.wait_until_loaded()

    def _run(self, name: str, *command: str) -> None:
        environment = {**os.environ, "DAGSTER_HOME": str(self._home), "PYTHONUNBUFFERED": "1"}
        with (self.workdir / f"{name}.log").open("wb") as log:
            # A session of its own, so that its children can be stopped with it.
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=environment,
                cwd=self.workdir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)

    def _wait_for(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if any(process.poll() is not None for process in self._started):
                raise LaunchError("a process of Dagster ended while starting")
            if time.monotonic() > deadline:
                raise LaunchError(f"Dagster was not ready within {START_SECONDS} seconds")
            time.sleep(0.2)

    def wait_until_loaded(self) -> None:
        """Return when the webserver answers and has the definitions of every file."""
        self._wait_for(self._has_loaded)

    def _has_tables(self) -> bool:
        last_written = (self._home / "schedules" / "schedules.db").as_uri() + "?mode=ro"
        try:
            with closing(sqlite3.connect(last_written, uri=True)) as database:
                return database.execute("SELECT 1 FROM alembic_version").fetchone() is not None
        except sqlite3.Error:
            return False

    def _has_loaded(self) -> bool:
        try:
            entries = self.ask(LOADED)["workspaceOrError"]["locationEntries"]
        except OSError:
            return False
        for entry in entries:
            found = entry["locationOrLoadError"]
            if found and found["__typename"] == "RepositoryLocation":
                self._repositories[entry["name"]] = found["repositories"][0]["name"]
            elif found:  # its code server was slower than the webserver, or the file does not load
                self.ask(RELOAD, name=entry["name"])
        return len(self._repositories) == len(self.files)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        """The `data` of a GraphQL answer."""
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answer: dict[str, Any] = json.load(response)
        if "errors" in answer:
            raise LaunchError(str(answer["errors"]))
        return dict(answer["data"])

    def launch(self, location: str, asset: str, config: dict[str, Any]) -> str:
        """Materialize an asset in a run worker of its own; returns the run's id at once."""
        # One step, so the run worker executes it itself instead of starting one more process for it.
        run_config = {"execution": {"config": {"in_process": {}}}, "ops": {asset: {"config": config}}}
        selector = {
            "repositoryLocationName": location,
            "repositoryName": self._repositories[location],
            "pipelineName": "__ASSET_JOB",
            "assetSelection": [{"path": [asset]}],
        }
        params = {"mode": "default", "runConfigData": json.dumps(run_config), "selector": selector}
        launched = self.ask(LAUNCH, params=params)["launchRun"]
        if launched["__typename"] != "LaunchRunSuccess":
            raise LaunchError(f"the run was not launched: {launched}")
        return str(launched["run"]["runId"])

    def messages(self, run_id: str) -> Iterator[str]:
        """The messages of a run's event log (the name of an event without one) as they come, until it ends.

        Raises LaunchError, with the errors of the event log, unless it succeeded.
        """
        after, status, errors = None, "", list[str]()
        complete = False
        while not complete:
            time.sleep(0.2)
            complete = status in ENDED  # and one more look, for what was written last
            data = self.ask(EVENTS, run=run_id, after=after)
            status, after = data["runOrError"]["status"], data["logsForRun"]["cursor"]
            for event in data["logsForRun"]["events"]:
                if error := event.get("error"):
                    errors.append(error["message"] + "".join(error["stack"]))
                yield event.get("message") or event["__typename"]
        if status != "SUCCESS":
            raise LaunchError("\n".join([f"run {run_id} ended as {status}", *errors]))

    def last_lines(self, count: int) -> str:
        """The end of each log."""
        logs = sorted(self.workdir.glob("*.log"))
        tails = [(log.name, log.read_text(errors="replace").splitlines()[-count:]) for log in logs]
        return "\n".join(line for name, lines in tails for line in [f"--- {name}", *lines])

    def stop(self) -> None:
        """Stop every process, newest first; harmless when called again."""
        started, self._started = self._started[::-1], []
        for process in started:
            _signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in started:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            _signal_group(process, signal.SIGKILL)  # always: a run worker may outlive its code server
            process.wait()
        deadline = time.monotonic() + STOP_SECONDS
        while any(map(_group_lives, started)) and time.monotonic() < deadline:
            time.sleep(0.05)  # to die takes a moment


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _group_lives(process: subprocess.Popen[bytes]) -> bool:
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
