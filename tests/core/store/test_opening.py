"""A place that cannot keep what was paid is refused, with the reason; several may open one at the same moment."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from classifaily_connectors import ConfigurationError
from classifaily_connectors.store import Ledger, database
from classifaily_connectors.store.migrations import STEPS, version

OPEN = """
import sys
from classifaily_connectors.store import Ledger
sys.stdin.readline()
ledger = Ledger(sys.argv[1])
ledger.claim(ledger.start_run(), [sys.argv[2].encode()])
print("ok")
"""


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("mysql://host/db", "must start with"),
        ("no url at all", "must start with"),
        ("", "must start with"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("https://example.com/feed", "must start with"),
    ],
)
def test_a_bad_url_is_named(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        Ledger(url)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_sqlite_on_a_network_file_system_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    share = tmp_path / "the share"
    escaped = str(share).replace(" ", "\\040")
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nserver:/x {escaped} {kind} rw 0 0\n")
    monkeypatch.setattr(database, "_MOUNTS", mounts)
    with pytest.raises(ConfigurationError, match=f"cannot lock safely on {kind}.*PostgreSQL"):
        Ledger(f"sqlite:///{share}/sub/ledger.db")
    Ledger(f"sqlite:///{tmp_path}/beside/ledger.db").close()


def test_the_innermost_mount_counts(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"a / nfs rw 0 0\nb {tmp_path} ext4 rw 0 0\nc {tmp_path}/x nfs rw 0 0\n")
    assert database.file_system(tmp_path / "xy", mounts) == "ext4"
    assert database.file_system(tmp_path / "x", mounts) == "nfs"
    assert database.file_system(tmp_path, tmp_path / "nowhere") == ""


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("this is a text file, and long enough to be looked at as a database" * 100)
    with pytest.raises(ConfigurationError, match=r"cannot be opened.*not a database"):
        Ledger(f"sqlite:///{path}")
    assert path.read_text().startswith("this is a text file")


def test_an_unreachable_server_is_refused_without_its_password() -> None:
    with pytest.raises(ConfigurationError, match="cannot be opened") as caught:
        Ledger("postgresql+psycopg://me:hush-hush@127.0.0.1:1/db")
    assert "hush-hush" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be opened"):
        Ledger(f"sqlite:///{tmp_path}/file/ledger.db")


def test_what_is_committed_survives_the_power_cut(url: str, ledger: Ledger) -> None:
    with ledger._begin("DEFERRED") as connection:
        if url.startswith("sqlite"):
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        else:
            assert connection.exec_driver_sql("SHOW fsync").scalar() == "on"
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"


def test_a_newer_store_is_refused(url: str) -> None:
    ledger = Ledger(url)
    with ledger._begin() as connection:
        connection.execute(sa.insert(version).values(version=len(STEPS) + 1))
    ledger.close()
    with pytest.raises(ConfigurationError, match=f"version {len(STEPS) + 1}.*upgrade"):
        Ledger(url)


def test_opening_again_changes_nothing(url: str) -> None:
    first = Ledger(url)
    first.claim(first.start_run(), [b"key"])
    first.close()
    second = Ledger(url)
    assert set(second.lookup([b"key"])) == {b"key"}
    with second._begin("DEFERRED") as connection:
        assert list(connection.execute(sa.select(version.c.version)).scalars()) == list(range(1, len(STEPS) + 1))
    second.close()


def test_many_processes_may_make_the_same_store(url: str) -> None:
    command = [sys.executable, "-c", OPEN, url]
    workers = [
        subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for n in range(6)
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"\n")
        worker.stdin.flush()
    for worker in workers:
        out, err = worker.communicate(timeout=60)
        assert (out, worker.returncode) == (b"ok\n", 0), err.decode()[-1000:]
    ledger = Ledger(url)
    assert ledger.stats().open == 6
    ledger.close()
