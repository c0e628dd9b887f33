"""A database that restarts, is cut off, becomes read-only or falls silent in mid-run: what was paid is kept."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from classifaily_connectors import ClassifailyClient, ClassifailyError, StoreError
from classifaily_connectors.bulk import desk
from classifaily_connectors.sandbox import Sandbox
from classifaily_connectors.sandbox.faults import Fault
from classifaily_connectors.store import Arrival, Inbox, Ledger, lanes, postgres

if TYPE_CHECKING:
    from conftest import Cluster

pytestmark = pytest.mark.slow
ROWS = [f"row {number} was charged" for number in range(600)]


@pytest.fixture
def url(cluster: Cluster) -> str:
    return f"{cluster.url}/postgres"


@pytest.fixture
def shop() -> Iterator[tuple[Sandbox, ClassifailyClient]]:
    with Sandbox(plan="pro") as sandbox, ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        sandbox.inject(Fault(kind="delay", path="/batch", seconds=0.1, times=None))
        yield sandbox, client


def execute(url: str, *statements: str) -> None:
    import psycopg

    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for each in statements:
            connection.execute(each.encode())


def restart(cluster: Cluster, _url: str) -> None:
    cluster.kill()
    time.sleep(1)
    cluster.start()


def cut(_cluster: Cluster, url: str) -> None:
    for _ in range(3):
        execute(url, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        time.sleep(0.2)


def read_only(_cluster: Cluster, url: str) -> None:
    execute(url, "ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()")
    time.sleep(1)
    writing = "SET default_transaction_read_only = off"
    execute(url, writing, "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()")


@pytest.mark.parametrize("trouble", [restart, cut, read_only])
def test_a_run_waits_for_its_database_and_goes_on(
    cluster: Cluster, url: str, shop: tuple[Sandbox, ClassifailyClient], trouble: Callable[[Cluster, str], None]
) -> None:
    sandbox, client = shop
    thread = threading.Thread(target=trouble, args=(cluster, url))
    done = 0
    for row in client.classify_many(ROWS, categories=["billing"], ledger=url, batch_size=20, concurrency=4):
        done += row.status == "completed"
        if done == 100:
            thread.start()
    thread.join()
    assert (done, sandbox.bill().charged) == (600, 600)
    with Ledger(url) as ledger:
        assert (ledger.stats().done, ledger.stats().open) == (600, 0)


def test_what_was_paid_is_rescued_from_a_database_that_does_not_come_back(
    cluster: Cluster, url: str, shop: tuple[Sandbox, ClassifailyClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(desk, "PATIENCE", 1.0)
    sandbox, client = shop
    rows, given_out = client.classify_many(ROWS, categories=["billing"], ledger=url, batch_size=20, concurrency=4), 0

    def go_through() -> None:
        nonlocal given_out
        for row in rows:
            given_out += row.status == "completed"
            if given_out == 100:
                cluster.kill()

    with pytest.raises(StoreError, match="paid answers could not be written; they are kept in") as caught:
        go_through()
    paid = sandbox.bill().charged
    assert 0 < caught.value.unwritten <= 80
    assert Path(str(caught.value.rescue)).is_relative_to(tmp_path)
    assert given_out == paid < 600, "whatever was paid was handed out before the error"
    cluster.start()
    again = list(client.classify_many(ROWS, categories=["billing"], ledger=url, batch_size=20))
    assert {row.status for row in again} == {"completed"}
    assert sum(row.source == "ledger" for row in again) == paid
    assert sandbox.bill().charged == 600
    assert not Path(str(caught.value.rescue)).exists()


def test_a_database_that_is_down_at_the_start_is_told_at_once(
    cluster: Cluster, url: str, shop: tuple[Sandbox, ClassifailyClient]
) -> None:
    sandbox, client = shop
    Ledger(url).close()
    cluster.kill()
    with pytest.raises(ClassifailyError, match="cannot be opened"):
        list(client.classify_many(ROWS, categories=["billing"], ledger=url))
    assert sandbox.bill().charged == 0
    cluster.start()


# --- a connection that is swallowed -----------------------------------------------------------


class Swallower:
    """A proxy in front of a server; what is connected when it is `shut` is never heard of again, new ones work."""

    def __init__(self, port: int) -> None:
        self._port, self._shut = port, threading.Event()
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port = self._door.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def shut(self) -> None:
        """Swallow what is connected now."""
        self._shut.set()
        self._shut = threading.Event()

    def end(self) -> None:
        """No more."""
        self._door.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._door.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(*pair, self._shut), daemon=True).start()

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, shut: threading.Event) -> None:
        with source, contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not shut.is_set():
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)


def test_a_swallowed_connection_is_given_up(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres.PatientConnection, "patience", 0.5)
    monkeypatch.setattr(lanes, "PATIENCE", 0.5)
    proxy = Swallower(int(cluster.url.rpartition(":")[2]))
    url = f"postgresql+psycopg://classifaily@127.0.0.1:{proxy.port}/postgres"
    with Inbox(url) as inbox, Ledger(url) as ledger:
        run = ledger.start_run()
        for number in range(2):
            key = bytes([number]) * 32
            assert ledger.claim(run, [key]) == {key}
            assert inbox.put([Arrival("default", "job.completed", str(number), key, 1.0, None, b"{}")]) == ["new"]
            assert inbox.head() == number + 1
            proxy.shut()
        assert ledger.stats().open == 2
    proxy.end()
