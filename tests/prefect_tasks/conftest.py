"""One real Prefect server for the whole run, with its home in a temporary folder, and a fresh sandbox for each test."""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


# Prefect reads its settings when it is first imported, so these come before.
PORT = free_port()
HOME = Path(tempfile.mkdtemp(prefix="prefect-home-"))
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
for name in [name for name in os.environ if name.startswith(("PREFECT_", "CLASSIFAILY_"))]:
    del os.environ[name]
os.environ |= {
    "PREFECT_HOME": str(HOME),
    "XDG_STATE_HOME": str(HOME / "state"),
    "PREFECT_API_URL": f"http://127.0.0.1:{PORT}/api",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.1",
}

sys.path.insert(0, str(Path(__file__).parent))  # for prefect_stage: with importlib imports it is not on the path

from classifaily_connectors.sandbox import Sandbox  # noqa: E402
from prefect_classifaily import ClassifailyCredentials  # noqa: E402

KEY = "cai_live_feedfacefeedfacefeedfacefeedfacefeedface"


def pytest_configure(config: pytest.Config) -> None:
    # Prefect leaves connections to its own server to the garbage collector. Known by their port, so that one of ours
    # that is left open still fails its test.
    config.addinivalue_line("filterwarnings", rf"ignore:unclosed .*raddr=\('127.0.0.1', {PORT}\):ResourceWarning")


class Server:
    """A running Prefect server and what it has stored."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home = url, home

    def stored(self) -> str:
        """The whole database as SQL, and every other file under the home, as text."""
        with closing(sqlite3.connect(self.home / "prefect.db")) as database:
            rows = "\n".join(database.iterdump())
        files = [path for path in self.home.rglob("*") if path.is_file() and "prefect.db" not in path.name]
        return "\n".join([rows, *(path.read_text(errors="replace") for path in files)])

    def stored_once(self, *expected: str) -> str:
        """What is stored as soon as all of `expected` is: task runs and logs arrive a little after the run."""
        return wait_until(lambda: (text := self.stored()) and all(each in text for each in expected) and text)


def wait_until(condition: Callable[[], Any], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return value


def answers(url: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(url, timeout=2):
        return True
    return False


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    url = f"http://127.0.0.1:{PORT}"
    command = [Path(sys.executable).parent / "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(PORT)]
    with (HOME / "server.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        wait_until(lambda: process.poll() is not None or answers(f"{url}/api/health"), 120)
        assert process.poll() is None, (HOME / "server.log").read_text()
        yield Server(url, HOME)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(10)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def until() -> Callable[..., Any]:
    return wait_until


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(plan="pro", key=KEY) as sandbox:
        yield sandbox


@pytest.fixture
def credentials(sandbox: Sandbox) -> ClassifailyCredentials:
    return ClassifailyCredentials(api_key=KEY, base_url=sandbox.base_url)


@pytest.fixture
def environment(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """The sandbox, as CLASSIFAILY_KEY and CLASSIFAILY_BASE_URL tell of it."""
    monkeypatch.setenv("CLASSIFAILY_KEY", KEY)
    monkeypatch.setenv("CLASSIFAILY_BASE_URL", sandbox.base_url)
    return sandbox
