"""A whole Airflow on 127.0.0.1, started quickly and stopped completely. Development only: everybody is admin.

The law of this file: the components are Airflow's own commands (`db migrate`, `api-server`, `scheduler`,
`dag-processor`, `triggerer`). Airflow's imports take longer than its work, so they are paid once, here, and each
component is a fork of this process: healthy in a third of the time `airflow standalone` takes.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import sys
import time
import traceback
import urllib.error
import urllib.request
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Self

START_SECONDS, STOP_SECONDS = 120, 3


class LocalAirflow:
    """A context manager: healthy inside, no process left outside.

    `home` becomes AIRFLOW_HOME, and the directory every process runs in; each component writes `home`/NAME.log.
    Standard output and error of this process go to `home`/launcher.log from here on, as Airflow prints to both.
    The first of `components` is the API server.
    """

    def __init__(
        self, home: Path, dags: Path, *, components: Sequence[str], port: int | None = None, **env: str
    ) -> None:
        self.home = home.resolve()
        self.home.mkdir(parents=True, exist_ok=True)
        port = port or free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._components = components
        self._env = {**configuration(self.home, dags.resolve(), port), **env}
        self._sessions: dict[str, int] = {}
        self._token: str | None = None

    def __enter__(self) -> Self:
        os.environ.update(self._env)
        os.chdir(self.home)
        self._say_into("launcher")
        try:
            preload()
            self._migrate()
            for component in self._components:
                self.start(component)
            self._token = self.wait_for(lambda: self._ask("GET", "/auth/token")["access_token"])
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer of the REST API (`/api/v2/...`); urllib's HTTPError when it refuses."""
        return self._ask(method, path, body, {"Authorization": f"Bearer {self._token}"})

    def wait_for(self, look: Callable[[], Any], seconds: float = START_SECONDS, pause: float = 0.1) -> Any:
        """What `look` returns as soon as that is something; errors of a server that is not up yet count as nothing."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError, ValueError):
                if found := look():
                    return found
            for component, pid in self._sessions.items():
                if os.waitpid(pid, os.WNOHANG) != (0, 0):
                    del self._sessions[component]
                    raise RuntimeError(f"the {component} ended by itself")
            time.sleep(pause)
        raise TimeoutError(f"Airflow did not get there within {seconds} seconds")

    def log_tail(self, lines: int = 30) -> str:
        """The last lines of the newest log that tells of an error: a task's, else a component's."""
        logs = sorted(self.home.glob("logs/dag_id=*/**/*.log"), key=lambda log: log.stat().st_mtime)
        failed = [log for log in logs if '"level":"error"' in log.read_text(errors="replace")]
        chosen = failed[-1:] or sorted(self.home.glob("*.log"), key=lambda log: log.stat().st_mtime)
        return "\n".join(
            line
            for log in chosen
            for line in [f"--- {log.name}", *log.read_text(errors="replace").splitlines()[-lines:]]
        )

    def stop(self) -> None:
        """End every process of every component: by request, then, after three seconds, by force."""
        # Stopping must not be stopped.
        handlers = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
        sessions = list(self._sessions.values())
        # The API server last: the others report to it until they end.
        for part in (sessions[1:], sessions[:1]):
            _end(part, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while _processes_of(part) and time.monotonic() < deadline:
                _reap()
                time.sleep(0.05)
            # Until they are gone: one may have started another meanwhile, and to die takes a moment.
            while left := _processes_of(part):
                _end(left, signal.SIGKILL)
                _reap()
                time.sleep(0.01)
            _reap()
        self._sessions.clear()
        for number, handler in handlers.items():
            signal.signal(number, handler)

    def start(self, component: str) -> None:
        """Start a component that is not running."""
        self._sessions[component] = self._fork(component)

    def kill(self, component: str) -> None:
        """End every process of a component as a power cut does, with SIGKILL."""
        session = self._sessions.pop(component)
        _end(_processes_of([session]), signal.SIGKILL)
        os.waitpid(session, 0)

    def _migrate(self) -> None:
        if os.waitpid(self._fork("db", "migrate"), 0)[1]:
            raise RuntimeError("airflow db migrate failed")

    def _fork(self, *arguments: str) -> int:
        """`airflow ARGUMENTS` in a new process and session; its id."""
        if pid := os.fork():
            return pid
        status = 1
        try:
            os.setsid()
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.closerange(3, 64)  # the launcher's own output among them: whoever reads it waits for its end
            self._say_into(arguments[0])
            sys.argv = ["airflow", *arguments]
            import_module("airflow.__main__").main()
            status = 0
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else 1
        except BaseException:  # noqa: BLE001  # a fork must never return into the code that forked
            traceback.print_exc()
        finally:
            os._exit(status)

    def _say_into(self, name: str) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        log = os.open(self.home / f"{name}.log", os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)

    def _ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", **(headers or {})},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read() or b"null")


def preload() -> None:
    """Import what the components share. Call it when the environment is set: Airflow reads it then.

    It must not open the database: SQLite's locks do not survive a fork.
    """
    for module in ("airflow.__main__", "airflow.utils.db", "airflow.jobs.scheduler_job_runner"):
        import_module(module)


def configuration(home: Path, dags: Path, port: int) -> dict[str, str]:
    """Airflow's settings, as its environment variables."""
    url = f"http://127.0.0.1:{port}"
    settings = {
        "CORE__DAGS_FOLDER": str(dags),
        "CORE__LOAD_EXAMPLES": "False",
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__PARALLELISM": "4",
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "CORE__TEST_CONNECTION": "Enabled",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__FERNET_KEY": urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "API__HOST": "127.0.0.1",
        "API__PORT": str(port),
        "API__BASE_URL": url,
        "API__WORKERS": "1",
        "API__SECRET_KEY": secrets.token_hex(32),
        "API_AUTH__JWT_SECRET": secrets.token_hex(32),
        "LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
        "LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.1",
        "USAGE_DATA_COLLECTION__ENABLED": "False",
    }
    return {
        "AIRFLOW_HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        **{f"AIRFLOW__{name}": value for name, value in settings.items()},
    }


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _end(processes: Sequence[int], number: signal.Signals) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _processes_of(sessions: Sequence[int]) -> list[int]:
    """Every live process of the sessions: a task runs in a process group of its own, but in its scheduler's session."""
    found: list[int] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):
            # After the command's name, which may hold anything: state, parent, group, session.
            state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) in sessions and state != "Z":
                found.append(int(entry.name))
    return found


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
