"""Whatever happens to the receiver, its disk or its database: what was acknowledged is there afterwards."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Cluster, Yard

ROUNDS = 5
POWERLOSS = str(Path(__file__).with_name("powerloss.py"))


def test_kill_9_under_load_loses_nothing(yard: Yard, store: str) -> None:
    """Of more than 20,000 acknowledged deliveries, on each database."""
    acked: set[str] = set()
    for number in range(ROUNDS):
        server = yard.serve(store)
        sender = yard.send(server, 15_000, start=number * 15_000)
        sender.wait_for(4_000 + 100 * number)
        server.kill()
        acked.update(f"job-{each}" for each in sender.finish()["acked"])
    assert len(acked) >= 20_000
    assert acked - yard.kept(store) == set()


def test_kill_9_of_postgresql_loses_nothing(yard: Yard, cluster: Cluster) -> None:
    """The receiver says 503 while the database is away, and takes deliveries again when it is back."""
    server = yard.serve(f"{cluster.url}/postgres")
    acked: set[str] = set()
    for number in range(3):
        sender = yard.send(server, 12_000, start=number * 12_000)
        sender.wait_for(1_500)
        cluster.kill()
        report = sender.finish()
        assert set(report["statuses"]) == {"204", "503"}
        acked.update(f"job-{each}" for each in report["acked"])
        cluster.start()
    assert len(acked) >= 4_500
    assert acked - yard.kept(f"{cluster.url}/postgres") == set()


def powerloss(word: str, path: Path) -> str:
    done = subprocess.run([sys.executable, POWERLOSS, word, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> str:
    return powerloss("build", tmp_path_factory.mktemp("shim"))


class Cut:
    """Runs a receiver under load, kills it and undoes what was not on the disk."""

    def __init__(self, yard: Yard, shim: str) -> None:
        self.yard, self.shim = yard, shim
        self.undone = 0

    def __call__(self, number: int, acked: int, *, fault: str = "") -> tuple[int, int]:
        """How many deliveries were acknowledged, and how many of them are missing."""
        folder = self.yard.folder / f"disk-{number}"
        folder.mkdir()
        log = self.yard.folder / f"log-{number}"
        env = {"LD_PRELOAD": self.shim, "POWERLOSS_DIR": str(folder), "POWERLOSS_LOG": str(log)}
        store = f"sqlite:///{folder}/inbox.db"
        server = self.yard.serve(store, fault=fault, **env)
        sender = self.yard.send(server, acked * 4)
        sender.wait_for(acked)
        server.kill()
        told = {f"job-{each}" for each in sender.finish()["acked"]}
        self.undone += int(powerloss("cut", log))
        connection = sqlite3.connect(folder / "inbox.db")
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        return len(told), len(told - self.yard.kept(store))


@pytest.fixture
def cut(yard: Yard, shim: str) -> Cut:
    return Cut(yard, shim)


def test_a_power_cut_under_load_loses_nothing(cut: Cut) -> None:
    """Of more than 15,000 acknowledged deliveries."""
    rounds = [cut(number, 3_100) for number in range(ROUNDS)]
    assert sum(acked for acked, _missing in rounds) >= 15_000
    assert [missing for _acked, missing in rounds] == [0] * ROUNDS


@pytest.mark.parametrize("fault", ["normal", "ack-first"])
def test_the_power_cut_bites(cut: Cut, fault: str) -> None:
    """A disk that is not waited for, and an acknowledgement before the commit: both would be seen."""
    acked, missing = cut(0, 1_500, fault=fault)
    assert 0 < missing <= acked
    assert cut.undone > 0 or fault == "ack-first"
