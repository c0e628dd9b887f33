"""Where a labelled table goes is tried before anything is paid; what is there keeps its name and its mode."""

from __future__ import annotations

import csv
import errno
import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pytest

from classifaily_connectors import (
    ClassifailyClient,
    InvalidRequestError,
    OutputBusyError,
    StorageError,
    classify_table,
)
from classifaily_connectors.places import LocalPlace, RemotePlace, place_of
from classifaily_connectors.places import local as local_places
from classifaily_connectors.places import remote as remote_places
from classifaily_connectors.sandbox import Fault, Sandbox

ROW = [{"body": "I was charged twice"}]
Label = Callable[..., Any]


@pytest.fixture
def unpaid(own_sandbox: Sandbox, connect: Any) -> Callable[..., str]:
    """The refusal of a table, of which nothing was sent."""

    def unpaid(output: Any, source: Any = ROW, error: type[Exception] = InvalidRequestError) -> str:
        client = connect(own_sandbox)
        with pytest.raises(error) as caught:
            classify_table(client, source, text="body", categories=["a", "b"], output=output, ledger=False)
        assert own_sandbox.requests == []
        return str(caught.value)

    return unpaid


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_is_no_output(unpaid: Any, tmp_path: Path) -> None:
    for name in ("o.csv", "o.parquet"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part-0").write_text("another's")
        assert "is a folder" in unpaid(tmp_path / name)
        assert (tmp_path / name / "part-0").read_text() == "another's"
        fsspec.filesystem("memory").pipe(f"/targets/{name}/part-0", b"another's")
        assert "is a folder" in unpaid(f"memory://targets/{name}")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["o.csv", "o.parquet"]


def test_what_is_no_plain_file_is_no_output(unpaid: Any, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "o.csv")
    assert "is no plain file" in unpaid(tmp_path / "o.csv")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s.csv"))
        assert "is no plain file" in unpaid(tmp_path / "s.csv")


def test_a_folder_that_cannot_be_made(unpaid: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "Not a directory" in unpaid(tmp_path / "file" / "deeper" / "o.csv")
    assert "File name too long" in unpaid(tmp_path / f"{'n' * 245}.csv")  # only the names beside it are too long
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_a_refused_run_leaves_no_folder_behind(unpaid: Any, tmp_path: Path) -> None:
    assert "column 'body' is missing" in unpaid(tmp_path / "new" / "deep" / "o.csv", [{"text": "x"}])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="to become somebody without rights, one has to be root")
def test_a_read_only_output_or_folder_is_refused(own_sandbox: Sandbox, tmp_path: Path) -> None:
    open_folder, closed_folder = tmp_path / "open", tmp_path / "closed"
    for folder, mode in ((open_folder, 0o777), (closed_folder, 0o555)):
        folder.mkdir()
        folder.chmod(mode)
    read_only = open_folder / "o.csv"
    read_only.write_text("old")
    read_only.chmod(0o444)
    for parent in (tmp_path, *tmp_path.parents[:3]):
        parent.chmod(parent.stat().st_mode | 0o055)
    script = """
import os, sys
from classifaily_connectors import ClassifailyClient, InvalidRequestError, classify_table
os.setgid(65534); os.setuid(65534)
with ClassifailyClient(sys.argv[1], base_url=sys.argv[2]) as client:
    for output in sys.argv[3:]:
        try:
            classify_table(client, [{"body": "x"}], text="body", categories=["a", "b"], output=output, ledger=False)
        except InvalidRequestError as error:
            print(error)
"""
    arguments = [
        own_sandbox.key,
        own_sandbox.base_url,
        read_only,
        closed_folder / "o.csv",
        closed_folder / "new" / "o.csv",
    ]
    said = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True).stdout
    assert said.count("cannot be written: Permission denied") == 3
    assert own_sandbox.requests == []
    assert read_only.read_text() == "old"


def test_one_file_has_many_names(unpaid: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "in.csv"
    source.write_text("body\nx\n")
    (tmp_path / "deep").mkdir()
    (tmp_path / "link.csv").symlink_to("in.csv")
    (tmp_path / "twin.csv").hardlink_to(source)
    (tmp_path / "folder").symlink_to(tmp_path)
    monkeypatch.chdir(tmp_path)
    for output in (
        "in.csv", "./in.csv", "deep/../in.csv", tmp_path / "link.csv", "twin.csv", "folder/in.csv", f"file://{source}",
    ):  # fmt: skip
        assert "is the source itself" in unpaid(output, source)
    assert source.read_text() == "body\nx\n"


def test_a_link_is_written_through_and_a_mode_is_kept(label: Label, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "out.csv", tmp_path / "latest.csv"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to("real/out.csv")
    seen: list[int] = []

    def look(_moment: Any) -> None:
        seen.extend(stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / "real").glob(".out.csv.parts"))

    label(ROW * 600, output=link, progress=look)
    assert link.is_symlink()
    assert len(read(real)) == 600
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert set(seen) == {0o700}


@pytest.mark.parametrize("name", ["r[1].csv", "a?b.csv", "a*b.csv", "a#b.csv", "a b.csv", "%41.csv"])
def test_a_name_is_no_pattern(label: Label, tmp_path: Path, name: str) -> None:
    fs = fsspec.filesystem("memory")
    folder = f"/patterns-{uuid.uuid4().hex}"
    others = [f"{folder}/{other}" for other in ("r1.csv", ".r1.csv.parts/kept", "aXb.csv", ".aXb.csv.tmp")]
    for other in others:
        fs.pipe(other, b"another's")
    label(ROW, output=f"memory:/{folder}/{name}")
    assert b"I was charged twice" in fs.cat_file(f"{folder}/{name}")
    assert [fs.cat_file(other) for other in others] == [b"another's"] * 4
    assert sorted(fs.find(folder)) == sorted([*others, f"{folder}/{name}"])
    label(ROW, output=tmp_path / name)
    assert [each.name for each in tmp_path.iterdir() if each.suffix == ".csv"] == [name]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (Path("s3://bucket/o.csv"), "'s3://bucket/o.csv' has lost a slash"),
        ("s3:/bucket/o.csv", "'s3://bucket/o.csv' has lost a slash"),
        ("file://data/o.csv", "names a host: write file:///data/o.csv"),
        ("nonsense://data/o.csv", "no file system is known for nonsense://"),
        ("", "is empty"),
        ("  ", "is empty"),
        ("a\0b.csv", "a character that no file name can"),
        ("~nobody-of-that-name/o.csv", "a home folder that does not exist"),
    ],
)
def test_addresses_that_mean_nothing(unpaid: Any, output: Any, message: str) -> None:
    assert message in unpaid(output)


def test_a_file_url_means_what_it_says(tmp_path: Path) -> None:
    for url, name in (
        (f"file://{tmp_path}/a#b.csv", "a#b.csv"),
        (f"file://localhost{tmp_path}/a%20b?.csv", "a b?.csv"),
    ):
        place = place_of(url)
        assert isinstance(place, LocalPlace)
        assert place.path == tmp_path / name


class Web(fsspec.AbstractFileSystem):  # type: ignore[misc]  # ships no types
    """A web server whose files are named by the whole URL, as fsspec's own names them."""

    protocol = ("http", "https")
    cachable = False

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return path


def test_a_web_address_is_named_without_what_signs_it() -> None:
    secret = "https://user:TOPSECRET@host.example/a/t.csv?X-Amz-Signature=TOPSECRET#TOPSECRET"
    place = RemotePlace(Web(), secret, "https")
    assert (place.name, place.base) == ("https://host.example/a/t.csv", "t.csv")


# --- others at the same place -----------------------------------------------------------------


def test_a_parts_folder_may_hold_what_others_put_there(label: Label, tmp_path: Path) -> None:
    """A network drive's own folders, for instance."""

    def interfere(_moment: Any) -> None:
        for folder in tmp_path.glob(".o.csv.parts"):
            (folder / "@eaDir").mkdir(exist_ok=True)
            (folder / ".nfs0001").touch()

    rows = [{"body": f"refund {number}"} for number in range(600)]
    for _ in range(2):
        label(rows, output=tmp_path / "o.csv", progress=interfere)
        assert len(read(tmp_path / "o.csv")) == 600
    assert sorted(each.name for each in (tmp_path / ".o.csv.parts").iterdir()) == [".nfs0001", "@eaDir"]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_file_systems_without_locks_and_folder_syncs(
    label: Label, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Lustre, NFS, FUSE and CIFS answer so. Such a file system cannot be had here, so the two calls are replaced."""
    force = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        force(descriptor)

    def flock(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(fcntl, "flock", flock)
    refused: list[str] = []

    def meanwhile(_moment: Any) -> None:
        if not refused:
            with pytest.raises(OutputBusyError) as caught:
                label(ROW, output=tmp_path / "o.csv")
            refused.append(str(caught.value))

    label([{"body": f"refund {number}"} for number in range(60)], output=tmp_path / "o.csv", progress=meanwhile)
    assert "o.csv: another run is writing this output" in refused[0]
    assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".o")] == []
    # A process that was killed leaves its file; the next run sees that it is gone.
    dead = subprocess.run(
        [sys.executable, "-c", "from classifaily_connectors.process import identity; print(identity(), end='')"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    (tmp_path / ".o.csv.parts.process").write_text(dead)
    label(ROW, output=tmp_path / "o.csv")
    assert len(read(tmp_path / "o.csv")) == 1


def test_a_lock_is_not_lost_with_its_file(tmp_path: Path) -> None:
    """Whoever opened the file before its holder deleted it holds a lock that nobody else would see."""
    place, at_once, most = LocalPlace(tmp_path / ".o.csv.parts"), [0], [0]
    guard = threading.Lock()

    def work(_: int) -> None:
        try:
            with place.reserved():
                with guard:
                    at_once[0] += 1
                    most[0] = max(most[0], at_once[0])
                with guard:
                    at_once[0] -= 1
        except OutputBusyError:
            pass

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(2_000)))
    assert most[0] == 1


def test_two_runs_and_one_object(own_sandbox: Sandbox, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An object store has no locks: the second run is told to come again, and never mixes its rows with the first's."""
    url = f"memory://shared-{uuid.uuid4().hex}/o.csv"
    client: ClassifailyClient = connect(own_sandbox)
    options: dict[str, Any] = {
        "text": "body",
        "categories": ["a", "b"],
        "ledger": False,
        "output": url,
        "batch_size": 5,
    }
    own_sandbox.inject(Fault(kind="delay", path="/batch", seconds=0.1, times=None))
    refused: list[str] = []

    def meanwhile(_moment: Any) -> None:
        if not refused:
            with pytest.raises(OutputBusyError) as caught:
                classify_table(client, [{"body": "theirs"}], **options)
            refused.append(str(caught.value))

    classify_table(client, [{"body": f"ours {number}"} for number in range(60)], progress=meanwhile, **options)
    assert f"{url}: another run is writing this output" in refused[0]
    with fsspec.open(url, "rt") as file:
        assert {row["body"].split()[0] for row in csv.DictReader(file)} == {"ours"}
    assert [each for each in fsspec.filesystem("memory").find(url.removeprefix("memory:/")) if ".parts" in each] == []
    # The note of a run that was killed counts no longer than its time.
    place = place_of(url)
    note = place.beside(".o.csv.parts").child("dead.run")
    note.write(lambda file: file.write(b'{"at": 0}') and None)
    monkeypatch.setattr(remote_places, "EXPIRES", 0.0)
    assert classify_table(client, ROW, **options).rows == 1


def test_what_an_object_store_says_is_made_ours(unpaid: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing(type(fsspec.filesystem("memory"))):  # type: ignore[misc]
        protocol = "refusing"
        trouble: Exception = PermissionError("https://signed?X-Amz-Signature=TOPSECRET")

        def _open(self, *_: Any, **__: Any) -> Any:
            raise self.trouble

    fsspec.register_implementation("refusing", Refusing, clobber=True)
    said = unpaid("refusing://bucket/o.csv")
    assert "output refusing://bucket/o.csv cannot be written: PermissionError" in said
    Refusing.trouble = TimeoutError("https://signed?X-Amz-Signature=TOPSECRET")
    assert "TOPSECRET" not in unpaid("refusing://bucket/o.csv", error=StorageError)


# --- a full disk ------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    made = (
        mount
        and subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], check=False).returncode == 0
    )
    if not made:
        if os.environ.get("CI"):
            pytest.fail("a small disk cannot be mounted")
        pytest.skip("a small disk cannot be mounted here: run as root to see what a full one does")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize("ending", ["csv", "parquet", "jsonl"])
def test_a_full_disk_costs_nothing_twice(
    own_sandbox: Sandbox, connect: Any, small_disk: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """Without a ledger: what was paid is kept where there is room, and the next run takes it from there."""
    monkeypatch.setattr("classifaily_connectors.tables.sinks._PART_ROWS", 200)
    rows = [{"body": f"{number} " + "lorem ipsum dolor " * 40} for number in range(600)]
    output = small_disk / f"o.{ending}"
    client: ClassifailyClient = connect(own_sandbox)
    ballast = small_disk / "ballast"
    ballast.write_bytes(b"x" * 60_000)
    options: dict[str, Any] = {"text": "body", "categories": ["a", "b"], "ledger": False, "output": output}
    with pytest.raises(StorageError, match=r"No space left on device. .* kept in ") as caught:
        classify_table(client, rows, **options)
    assert caught.value.place is not None
    billed = own_sandbox.bill().charged
    assert not output.exists()
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    result = classify_table(client, rows, **options)
    assert result.rows == len(rows)
    assert result.resumed >= 200
    # What was bought while the part was written had not been handed out yet.
    assert own_sandbox.bill().charged <= len(rows) + billed - result.resumed
    kept = Path(str(caught.value).partition("kept in ")[2].partition(",")[0].partition(":")[0])
    assert not kept.exists()


def test_only_a_folder_of_our_own_is_used_for_rescue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder for temporary files is everybody's: one that somebody else laid there may be a trap."""
    from classifaily_connectors.tables import parts

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    ours = parts._rescue_folder("o.csv", "f")
    assert ours is not None
    ours.path.symlink_to(tmp_path / "elsewhere")
    assert parts._rescue_folder("o.csv", "f") is None


def test_a_probe_leaves_another_runs_lock_alone(tmp_path: Path) -> None:
    place = LocalPlace(tmp_path / "o.csv")
    with place.beside(".o.csv.parts").reserved():
        place.check_target()
        assert (tmp_path / ".o.csv.parts.lock").exists()
    assert local_places._missing(tmp_path / "a" / "b") == [tmp_path / "a" / "b", tmp_path / "a"]
