"""A real PostgreSQL for whoever asks for one: a cluster of its own, on a free port, with fsync on."""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

_START_SECONDS = 60


def _binaries() -> Path | None:
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


def _install() -> Path:
    subprocess.run(["apt-get", "update"], check=True, capture_output=True, timeout=300)
    install = ["apt-get", "install", "-y", "--no-install-recommends", "postgresql"]
    subprocess.run(install, check=True, capture_output=True, timeout=600)
    found = _binaries()
    if found is None:
        pytest.fail("PostgreSQL could not be installed: apt-get install postgresql")
    return found


class Cluster:
    """A PostgreSQL of its own; it may be killed and started again on what it left."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self.folder = binaries, folder
        user = pwd.getpwnam("postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name)
        self.as_user: list[str] = []
        if os.getuid() == 0:  # PostgreSQL refuses to run as root
            os.chown(folder, user.pw_uid, user.pw_gid)
            self.as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
        self._data = folder / "data"
        initdb = [
            *self.as_user,
            binaries / "initdb",
            "-D",
            self._data,
            "-U",
            "classifaily",
            "--auth=trust",
            "-E",
            "UTF8",
        ]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, timeout=120)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"postgresql+psycopg://classifaily@127.0.0.1:{self._port}"
        self.start()

    def start(self) -> None:
        """Returns when it answers."""
        settings = {"listen_addresses": "127.0.0.1", "port": self._port, "fsync": "on"}
        settings["unix_socket_directories"] = str(self.folder)
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            command = [*self.as_user, self._binaries / "postgres", "-D", self._data, *options]
            self._server = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        until = time.monotonic() + _START_SECONDS
        ready = [self._binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        while subprocess.run(ready, check=False).returncode:
            if self._server.poll() is not None or time.monotonic() > until:
                pytest.fail(f"PostgreSQL did not start: {(self.folder / 'log').read_text()[-500:]}")
            time.sleep(0.05)

    def kill(self) -> None:
        """`kill -9`, every process of it."""
        of_it = [
            int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _parent(path) == self._server.pid
        ]
        for pid in (self._server.pid, *of_it):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._server.wait(timeout=60)

    def end(self) -> None:
        """At once: nothing in it is wanted any more."""
        self._server.send_signal(signal.SIGQUIT)
        self._server.wait(timeout=60)


def _parent(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[1])
    except OSError:  # it has ended
        return 0


@contextlib.contextmanager
def _cluster() -> Iterator[Cluster]:
    binaries = _binaries() or _install()
    folder = Path(tempfile.mkdtemp(prefix="classifaily-postgres-"))
    cluster = Cluster(binaries, folder)
    try:
        yield cluster
    finally:
        cluster.end()
        shutil.rmtree(folder, ignore_errors=True)


class Pooler:
    """A PgBouncer in front of a cluster, with its default settings but for the mode and what `settings` say."""

    def __init__(self, program: str, cluster: Cluster, folder: Path, mode: str, **settings: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = urlsplit(cluster.url)
        lines = [
            "[databases]",
            f"* = host={server.hostname} port={server.port} user={server.username}",
            "[pgbouncer]",
            *("listen_addr = 127.0.0.1", f"listen_port = {port}", "auth_type = any", f"pool_mode = {mode}"),
            *("default_pool_size = 4", "unix_socket_dir ="),
            *(f"{name} = {value}" for name, value in settings.items()),
        ]
        written = folder / f"pooler-{port}.ini"
        written.write_text("\n".join(lines))
        written.chmod(0o644)
        self._log = (folder / f"pooler-{port}.log").open("wb")
        command = [*cluster.as_user, program, str(written)]
        self._program = subprocess.Popen(command, cwd=folder, stdout=self._log, stderr=self._log)
        self.url = f"postgresql+psycopg://{server.username}@127.0.0.1:{port}"
        until = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            if self._program.poll() is not None or time.monotonic() > until:
                pytest.fail(f"PgBouncer did not start: {Path(self._log.name).read_text()[-500:]}")
            time.sleep(0.05)

    def end(self) -> None:
        """At once."""
        self._program.kill()
        self._program.wait(timeout=60)
        self._log.close()


def _pgbouncer() -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
    found = shutil.which("pgbouncer", path=path)
    if found is None and os.getuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "update"], check=True, capture_output=True, timeout=300)
        install = ["apt-get", "install", "-y", "--no-install-recommends", "pgbouncer"]
        subprocess.run(install, check=True, capture_output=True, timeout=600)
        found = shutil.which("pgbouncer", path=path)
    if found is None and not os.environ.get("CI"):
        pytest.skip("NOT TESTED: no PgBouncer here, and only root can install it: apt-get install pgbouncer")
    if found is None:
        pytest.fail("PgBouncer is needed: apt-get install pgbouncer")
    return found


@pytest.fixture(scope="session")
def poolers() -> Iterator[Callable[..., str]]:
    """Makes an empty database behind a PgBouncer of a mode (`transaction` or `session`), and gives its store URL."""
    program = _pgbouncer()
    numbers = itertools.count()
    started: dict[tuple[object, ...], Pooler] = {}
    with _cluster() as cluster:
        import psycopg

        def make(mode: str, **settings: str) -> str:
            key = (mode, *settings.items())
            if key not in started:
                started[key] = Pooler(program, cluster, cluster.folder, mode, **settings)
            name = f"pooled_{next(numbers)}"
            plain = cluster.url.replace("+psycopg", "")
            with psycopg.connect(f"{plain}/postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
            return f"{started[key].url}/{name}"

        try:
            yield make
        finally:
            for each in started.values():
                each.end()


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """A cluster that nobody else uses."""
    with _cluster() as cluster:
        yield cluster


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Makes an empty database and gives its store URL."""
    numbers = itertools.count()
    with _cluster() as cluster:
        import psycopg

        server = cluster.url

        def make() -> str:
            name = f"ledger_{next(numbers)}"
            plain = server.replace("+psycopg", "")
            with psycopg.connect(f"{plain}/postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
            return f"{server}/{name}"

        yield make
