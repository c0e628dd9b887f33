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


@contextlib.contextmanager
def _cluster() -> Iterator[str]:
    binaries = _binaries() or _install()
    folder = Path(tempfile.mkdtemp(prefix="classifaily-postgres-"))
    user = pwd.getpwnam("postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name)
    as_user: list[str] = []
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        os.chown(folder, user.pw_uid, user.pw_gid)
        as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
    data = folder / "data"
    initdb = [*as_user, binaries / "initdb", "-D", data, "-U", "classifaily", "--auth=trust", "-E", "UTF8"]
    subprocess.run(initdb, check=True, capture_output=True, cwd=folder, timeout=120)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": folder, "fsync": "on"}
    options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(
            [*as_user, binaries / "postgres", "-D", data, *options], cwd=folder, stdout=log, stderr=log
        )
    try:
        until = time.monotonic() + _START_SECONDS
        ready = [binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
        while subprocess.run(ready, check=False).returncode:
            if server.poll() is not None or time.monotonic() > until:
                pytest.fail(f"PostgreSQL did not start: {(folder / 'log').read_text()[-500:]}")
            time.sleep(0.05)
        yield f"postgresql+psycopg://classifaily@127.0.0.1:{port}"
    finally:
        server.send_signal(signal.SIGQUIT)  # at once: nothing in it is wanted any more
        server.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Makes an empty database and gives its store URL."""
    numbers = itertools.count()
    with _cluster() as server:
        import psycopg

        def make() -> str:
            name = f"ledger_{next(numbers)}"
            plain = server.replace("+psycopg", "")
            with psycopg.connect(f"{plain}/postgres", autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
            return f"{server}/{name}"

        yield make
