"""Receivers and senders in processes of their own, to be killed, starved and cut off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from classifaily_connectors.store import Inbox

LOAD = Path(__file__).parents[2] / "webhook_load.py"
SECRET = "whsec-of-the-fault-tests"
SERVE = [sys.executable, "-c", "from classifaily_connectors.cli import main; main()", "webhooks", "serve"]


class Server:
    """`classifaily webhooks serve`, or one with a fault built in; ready when it is made."""

    def __init__(self, command: list[str], env: dict[str, str]) -> None:
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(command, text=True, env=env, **pipes)  # type: ignore[call-overload]
        self.url = ""
        for line in self.process.stdout:
            if line.startswith("ready"):
                self.url = line.split()[-1]
                break
        assert self.url, "the receiver did not start"
        self.port = urlsplit(self.url).port or 0

    def kill(self) -> None:
        """`kill -9`."""
        self.process.kill()
        self.process.communicate(timeout=60)

    def terminate(self) -> int:
        self.process.terminate()
        self.process.communicate(timeout=60)
        return int(self.process.returncode)


class Sender:
    """Sends deliveries over 32 connections; their job ids are `job-N`, from `start` on."""

    def __init__(self, order: dict[str, Any], report: Path) -> None:
        self._report = report
        command = [sys.executable, str(LOAD), json.dumps({**order, "report": str(report)})]
        self.process = subprocess.Popen(command, text=True, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self._lines = self.process.stdout
        assert self._lines.readline() == "ready\n"

    def wait_for(self, acked: int) -> None:
        """Until at least so many are acknowledged, or all is over."""
        for line in self._lines:
            if int(line) >= acked:
                return

    def finish(self) -> dict[str, Any]:
        self.process.communicate(timeout=240)
        assert self.process.returncode == 0
        return json.loads(self._report.read_text())  # type: ignore[no-any-return]


class Yard:
    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self._reports = 0

    def serve(self, store: str, *, fault: str = "", secret: str | None = SECRET, port: int = 0, **env: str) -> Server:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("CLASSIFAILY")} | env
        if secret is not None:
            environment["CLASSIFAILY_WEBHOOK_SECRET"] = secret
        command = [*SERVE, "--port", str(port), "--store", store]
        if fault:
            command = [sys.executable, str(Path(__file__).with_name("server.py")), fault, store]
        server = Server(command, environment)
        self._stack.callback(_end, server.process)
        return server

    def send(self, server: Server, count: int, **order: Any) -> Sender:
        self._reports += 1
        given = {"port": server.port, "secret": SECRET, "count": count, **order}
        sender = Sender(given, self.folder / f"report-{self._reports}.json")
        self._stack.callback(_end, sender.process)
        return sender

    @staticmethod
    def kept(store: str) -> set[str]:
        """The job ids in the store."""
        inbox = Inbox(store)
        found: set[str] = set()
        seq = 0
        while page := inbox.after(seq, limit=5000):
            found.update(each.job_id for each in page)
            seq = page[-1].seq
        inbox.close()
        return found


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.kill()
    process.communicate(timeout=60)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    with ExitStack() as stack:
        yield Yard(tmp_path, stack)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/inbox.db"
    return str(request.getfixturevalue("postgres")())
