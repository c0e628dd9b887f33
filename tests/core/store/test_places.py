"""A SQLite store's file: where it may lie, and what happens when it is moved, replaced or deleted while it is open."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from classifaily_connectors import ConfigurationError, StoreError
from classifaily_connectors.store import Arrival, Inbox, Ledger, database

if TYPE_CHECKING:
    from classifaily_connectors.store.delivery import Landed

KEY = b"k" * 32


def arrival(job: str) -> Arrival:
    return Arrival("default", "job.completed", job, job.encode(), 1.0, None, b"{}")


@pytest.mark.parametrize(
    "kind", ["fuse.glusterfs", "fuse.gcsfuse", "fuse.s3fs", "fuse.rclone", "lustre", "cifs", "fuse.new"]
)
def test_what_goes_through_fuse_is_refused(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\nshare {tmp_path}/share {kind} rw 0 0\n")
    monkeypatch.setattr(database, "_MOUNTS", mounts)
    with pytest.raises(ConfigurationError, match=f"cannot lock safely on {kind}"):
        Ledger(tmp_path / "share" / "ledger.db")
    (tmp_path / "link.db").symlink_to(tmp_path / "share" / "ledger.db")
    with pytest.raises(ConfigurationError, match=f"cannot lock safely on {kind}"):
        Ledger(tmp_path / "link.db")


@pytest.mark.parametrize("kind", ["fuse.fuse-overlayfs", "fuse.mergerfs", "fuseblk", "overlay", "tmpfs"])
def test_what_is_known_to_be_local_is_taken(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\ndisk {tmp_path}/disk {kind} rw 0 0\n")
    monkeypatch.setattr(database, "_MOUNTS", mounts)
    Ledger(tmp_path / "disk" / "ledger.db").close()


def test_a_file_that_is_mounted_by_itself_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    place = str(tmp_path / "the ledger.db").replace(" ", "\\040")
    mounts.write_text(f"/dev/vda / ext4 rw 0 0\n/dev/vdb {place} ext4 rw 0 0\n")
    monkeypatch.setattr(database, "_MOUNTS", mounts)
    (tmp_path / "link.db").symlink_to(tmp_path / "the ledger.db")
    for name in ("the ledger.db", "link.db"):
        with pytest.raises(ConfigurationError, match="mounted by itself.*mount its folder instead"):
            Ledger(tmp_path / name)


@pytest.mark.skipif(os.getuid() != 0, reason="only root may mount")
def test_a_real_mount_of_a_file_is_noticed(tmp_path: Path) -> None:
    for name in ("host.db", "inside.db"):
        (tmp_path / name).touch()
    mounted = subprocess.run(["mount", "--bind", tmp_path / "host.db", tmp_path / "inside.db"], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not let us mount")
    try:
        with pytest.raises(ConfigurationError, match="mounted by itself"):
            Ledger(tmp_path / "inside.db")
    finally:
        subprocess.run(["umount", tmp_path / "inside.db"], check=True)


# --- a file that does not stay ----------------------------------------------------------------


def delete(path: Path) -> None:
    path.unlink()


def move(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))


def replace(path: Path) -> None:
    other = Inbox(path.with_suffix(".other"))
    other.close()
    move(path)
    for name in ("wal", "shm"):  # they belong to the one that was there
        Path(f"{path}-{name}").unlink()
    path.with_suffix(".other").rename(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def put(path: Path) -> Iterator[Callable[[str], Landed]]:
    """Puts a delivery through the lane of an event loop, as a receiver does."""
    inbox = Inbox(path)
    loop = asyncio.new_event_loop()

    async def lane() -> object:
        return inbox.lane()

    made = loop.run_until_complete(lane())

    async def deliver(job: str) -> Landed:
        batches, told = [[arrival(job)], []], asyncio.get_running_loop().create_future()
        made.begin(lambda: batches.pop(0), lambda _size, outcome, _more: told.set_result(outcome))  # type: ignore[attr-defined]
        outcome = await told
        if isinstance(outcome, Exception):
            raise outcome
        return outcome[0]

    yield lambda job: loop.run_until_complete(deliver(job))
    made.close()  # type: ignore[attr-defined]
    loop.close()
    inbox.close()


@pytest.mark.parametrize("trouble", [delete, move])
def test_nothing_is_acknowledged_into_a_file_that_is_gone(
    path: Path, put: Callable[[str], Landed], trouble: Callable[[Path], None]
) -> None:
    assert put("one") == "new"
    trouble(path)
    for job in ("two", "three"):
        with pytest.raises(StoreError, match="moved, replaced or deleted"):
            put(job)
    assert not path.exists(), "nobody began a new store in its place"
    if trouble is move:
        shutil.move(path.with_suffix(".moved"), path)
        assert put("two") in ("new", "repeat")
        with Inbox(path) as inbox:
            assert set(inbox.find("default", ["one", "two"])) == {"one", "two"}


def test_a_file_that_took_the_place_is_written_to(path: Path, put: Callable[[str], Landed]) -> None:
    assert put("one") == "new"
    replace(path)
    assert put("two") == "new"
    with Inbox(path) as inbox:
        assert set(inbox.find("default", ["one", "two"])) == {"two"}


@pytest.mark.parametrize("trouble", [delete, move])
def test_no_answer_is_taken_for_kept_in_a_file_that_is_gone(path: Path, trouble: Callable[[Path], None]) -> None:
    with Ledger(path) as ledger, Inbox(path) as inbox:
        mine = ledger.start_run()
        ledger.claim(mine, [KEY])
        inbox.put([arrival("one")])
        trouble(path)
        for call in (
            lambda: ledger.finish(mine, {KEY: "answer"}),
            ledger.stats,
            lambda: inbox.put([arrival("two")]),
            inbox.head,
        ):
            with pytest.raises(StoreError, match="moved, replaced or deleted"):
                call()
    assert not path.exists()


def test_an_answer_goes_to_the_store_that_took_the_place(path: Path) -> None:
    with Ledger(path) as ledger:
        mine = ledger.start_run()
        ledger.claim(mine, [KEY])
        replace(path)
        ledger.finish(mine, {KEY: "answer"})
    with Ledger(path) as ledger:
        assert ledger.lookup([KEY])[KEY].answer == "answer"
