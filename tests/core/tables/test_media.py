"""Media are told apart by what they are: a new signature is not paid again, new bytes are."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from classifaily_connectors import InvalidRequestError, Ledger, classify_table
from classifaily_connectors.identity import Reference, Resolver

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
OTHER = PIXEL + b"\0"


class Bucket(MemoryFileSystem):  # type: ignore[misc]
    """An object store: every signature is another one, and every content has its etag."""

    protocol = "bucket"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    _numbers = itertools.count()

    def sign(self, path: str, expiration: int = 100, **_: Any) -> str:
        return f"https://bucket.example{path}?expires={expiration}&signature={next(self._numbers)}"

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        info: dict[str, Any] = super().info(path, **options)
        if info["type"] == "file":
            info["ETag"] = f'"{hash(self.cat(path))}"'
        return info

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("bucket://", "memory://")))


@pytest.fixture
def bucket() -> Iterator[Any]:
    fsspec.register_implementation("bucket", Bucket, clobber=True)
    yield fsspec.filesystem("bucket")
    Bucket.store.clear()


@pytest.fixture
def ask(own_sandbox: Sandbox, connect: Any, tmp_path: Path) -> Any:
    client = connect(own_sandbox)

    def ask(column: list[Any], **options: Any) -> Any:
        given: dict[str, Any] = {"text": "media", "categories": ["a", "b"], "ledger": f"sqlite:///{tmp_path}/l.db"}
        rows = options.pop("rows", None) or [{"media": value} for value in column]
        return classify_table(client, rows, **{**given, **options}).stats

    return ask


@pytest.mark.parametrize("kind", ["audio", "video"])
def test_a_new_signature_is_not_paid_again_and_new_bytes_are(
    kind: str, bucket: Any, ask: Any, own_sandbox: Sandbox
) -> None:
    bucket.pipe("/calls/one.mp3", b"hello")
    bucket.pipe("/calls/two.mp3", b"good morning")
    column = ["bucket://calls/one.mp3", "bucket://calls/two.mp3"]
    at: dict[str, Any] = {"type": kind, "media_folder": "bucket://calls"}
    assert ask(column, **at).billed == 2
    again = ask(column, **at)
    assert (again.billed, again.reused) == (0, 2)
    bucket.pipe("/calls/one.mp3", b"HELLO")
    changed = ask(column, **at)
    assert (changed.billed, changed.reused) == (1, 1)
    assert own_sandbox.bill().charged == 3


def test_images_are_their_bytes_wherever_they_lie(bucket: Any, ask: Any, tmp_path: Path) -> None:
    bucket.pipe("/img/a.png", PIXEL)
    (tmp_path / "b.png").write_bytes(PIXEL)
    uri = "data:image/png;base64," + base64.b64encode(PIXEL).decode()
    column = ["b.png", str(tmp_path / "b.png"), tmp_path / "b.png", f"file://{tmp_path}/b.png", PIXEL, uri]
    stats = ask(column, type="image", media_folder=tmp_path)
    assert (stats.billed, stats.duplicate) == (1, 5)
    assert ask(["bucket://img/a.png"], type="image", media_folder="bucket://img").billed == 0
    bucket.pipe("/img/a.png", OTHER)
    assert ask(["a.png"], type="image", media_folder="bucket://img/").billed == 1


@pytest.mark.parametrize("own", [{"type": "image"}, {"type": "audio"}])
@pytest.mark.parametrize(
    "name",
    ["badge.png", "../private/badge.png", "{folder}/private/badge.png", "file://{folder}/private/badge.png", "link.png",
     "bucket://private/badge.png", "memory://private/badge.png"],
)  # fmt: skip
def test_a_row_opens_no_file_of_ours(
    connect: Any, own_sandbox: Sandbox, bucket: Any, tmp_path: Path, name: str, own: dict[str, str]
) -> None:
    """What a row says is data: its own type makes us read nothing, and the run's type nothing outside the folder."""
    for folder in ("private", "in"):
        (tmp_path / folder).mkdir()
    (tmp_path / "private" / "badge.png").write_bytes(PIXEL)
    (tmp_path / "in" / "link.png").symlink_to("../private/badge.png")
    (tmp_path / "in" / "badge.png").symlink_to(tmp_path / "private" / "badge.png")
    bucket.pipe("/private/badge.png", PIXEL)
    row = {"input": name.format(folder=tmp_path), **own}
    (tmp_path / "in" / "rows.jsonl").write_text(json.dumps(row) + "\n")
    client = connect(own_sandbox)
    for source, options in (
        (tmp_path / "in" / "rows.jsonl", {}),
        (tmp_path / "in" / "rows.jsonl", {"type": own["type"]}),
        (tmp_path / "in" / "rows.jsonl", {"type": own["type"], "media_folder": tmp_path / "in"}),
        ([row], {}),
        ([row], {"type": own["type"]}),
    ):
        given: Any = {"categories": ["a", "b"], "ledger": False, "output": tmp_path / "o.jsonl", **options}
        result = classify_table(client, source, **given)
        assert result.stats.statuses["skipped"] == 1
    assert [each.status for each in client.classify_many([row], categories=["a", "b"])] == ["skipped"]
    assert own_sandbox.requests == [] or own_sandbox.bill().charged == 0


def test_paths_in_a_table_start_from_its_folder(connect: Any, own_sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(PIXEL)
    (tmp_path / "in.csv").write_text("id,media\n1,pictures/a.png\n2,pictures/none.png\n")
    result = classify_table(
        connect(own_sandbox), tmp_path / "in.csv", text="media", type="image", categories=["a"], ledger=False,
        output=tmp_path / "out.jsonl",
    )  # fmt: skip
    assert (result.stats.statuses["completed"], result.stats.statuses["skipped"]) == (1, 1)


def test_a_column_may_say_what_is_the_same(ask: Any) -> None:
    rows = [{"media": f"https://x.example/{n}?sig={n}", "hash": "same"} for n in range(3)]

    stats = ask([], type="audio", identity="hash", rows=rows)
    assert (stats.billed, stats.duplicate) == (1, 2)
    assert ask([], type="audio", identity="hash", rows=rows).billed == 0


def test_refused_with_the_fix(bucket: Any, tmp_path: Path) -> None:
    resolver = Resolver(stores=True)
    (tmp_path / "a.mp3").write_bytes(b"x")
    with pytest.raises(InvalidRequestError, match="only URLs for audio and video"):
        resolver(tmp_path / "a.mp3", "audio")
    fsspec.filesystem("memory").pipe("/a.mp3", b"x")
    with pytest.raises(InvalidRequestError, match=r"no URL can be signed on memory://.*identity="):
        resolver("memory://a.mp3", "audio")
    with pytest.raises(InvalidRequestError, match="no such object"):
        resolver("bucket://none.mp3", "audio")
    with pytest.raises(InvalidRequestError, match="no such file"):
        resolver("bucket://none.png", "image")
    bucket.pipe("/text.png", b"no image")
    with pytest.raises(InvalidRequestError, match="no image this package knows"):
        resolver("bucket://text.png", "image")


def test_references_go_to_classify_many_as_they_are(
    bucket: Any, connect: Any, own_sandbox: Sandbox, tmp_path: Path
) -> None:
    bucket.pipe("/one.mp4", b"film")
    resolver, client = Resolver(stores=True, expires=60), connect(own_sandbox)
    ledger = Ledger(f"sqlite:///{tmp_path}/l.db")
    for billed in (1, 0):
        reference = resolver("bucket://one.mp4", "video")
        assert isinstance(reference, Reference)
        assert "expires=60" in reference
        run = client.classify_many([reference], type="video", categories=["a"], ledger=ledger)
        assert [row.status for row in run] == ["completed"]
        assert run.stats.billed == billed
    ledger.close()
