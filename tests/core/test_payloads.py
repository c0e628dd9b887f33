"""What is refused before anything is sent, and what goes over the wire when nothing is."""

from __future__ import annotations

import base64
import math
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import classifaily_connectors as cc
from classifaily_connectors import media
from classifaily_connectors.operations import payloads

if TYPE_CHECKING:
    from conftest import Call, Caller, Canned

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8
PNG_URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
HALF = "half \ud83d a pair"
URL = "https://example.org/a.mp3"

REFUSED: dict[str, tuple[Call, str]] = {
    # what is to be classified
    "input empty": (lambda c: c.classify(""), "input is empty"),
    "input blank": (lambda c: c.classify(" \n\t\u2003"), "input is empty"),
    "input none": (lambda c: c.classify(None), "input must be text"),
    "input a number": (lambda c: c.classify(7), "input must be text"),
    "input a list": (lambda c: c.classify(["x"]), "input must be text"),
    "input half a pair": (lambda c: c.classify(HALF), "input holds half a surrogate pair"),
    "submit blank": (lambda c: c.submit(" "), "input is empty"),
    "type unknown": (lambda c: c.classify("x", type="pdf"), "type is 'pdf'"),
    "type none": (lambda c: c.classify("x", type=None), "type is None"),
    "type any": (lambda c: c.classify("x", type="any"), "type is 'any'"),
    "bytes as text": (lambda c: c.classify(PNG), "input holds bytes"),
    "bytearray as text": (lambda c: c.classify(bytearray(PNG)), "input holds bytes"),
    "path as text": (lambda c: c.classify(Path("a.png")), "input holds bytes or a file"),
    "audio bytes": (lambda c: c.classify(PNG, type="audio"), "input .*only URLs for audio and video"),
    "video path": (lambda c: c.classify(Path("a.mp4"), type="video"), "input .*only URLs for audio and video"),
    "audio data URI": (lambda c: c.classify("data:audio/mp3;base64,AAAA", type="audio"), "input is a data URI"),
    "video data URI": (lambda c: c.classify("DATA:video/mp4;base64,AAAA", type="video"), "input is a data URI"),
    "audio text": (lambda c: c.classify("hello", type="audio"), "input must be a public URL"),
    "video ftp": (lambda c: c.classify("ftp://example.org/a.mp4", type="video"), "input must be a public URL"),
    "image text": (lambda c: c.classify("cat.png", type="image"), "input must be a public URL, a data URI"),
    "image no host": (lambda c: c.classify("https:///cat.png", type="image"), "input must be a public URL"),
    "image unknown bytes": (lambda c: c.classify(b"%PDF-1.7", type="image"), "input is no image"),
    "image no bytes": (lambda c: c.classify(b"", type="image"), "input is no image"),
    "image file missing": (
        lambda c: c.classify(Path("/nowhere/cat.png"), type="image"),
        "input: cannot read the image",
    ),
    "image folder": (lambda c: c.classify(Path("/"), type="image"), "input: cannot read the image"),
    "data URI not base64": (lambda c: c.classify("data:image/png,AAAA", type="image"), "input is no base64 data URI"),
    "data URI empty": (lambda c: c.classify("data:image/png;base64,", type="image"), "input is no base64 data URI"),
    # how
    "mode unknown": (lambda c: c.classify("x", mode="best"), "mode is 'best'"),
    "top_n 0": (lambda c: c.classify("x", top_n=0), "top_n is 0"),
    "top_n 11": (lambda c: c.classify("x", top_n=11), "top_n is 11"),
    "top_n true": (lambda c: c.classify("x", top_n=True), "top_n is True"),
    "top_n text": (lambda c: c.classify("x", top_n="3"), "top_n is '3'"),
    "top_n fraction": (lambda c: c.classify("x", top_n=2.0), "top_n is 2.0"),
    "top_n and single": (lambda c: c.classify("x", top_n=3, mode="single"), "top_n goes with mode='top_n'"),
    "threshold below": (lambda c: c.classify("x", threshold=-0.1), "threshold is -0.1"),
    "threshold above": (lambda c: c.classify("x", threshold=1.1), "threshold is 1.1"),
    "threshold nan": (lambda c: c.classify("x", threshold=math.nan), "threshold is nan"),
    "threshold endless": (lambda c: c.classify("x", threshold=math.inf), "threshold is inf"),
    "threshold huge": (lambda c: c.classify("x", threshold=10**400), "threshold is 1000"),
    "threshold true": (lambda c: c.classify("x", threshold=True), "threshold is True"),
    "threshold text": (lambda c: c.classify("x", threshold="0.5"), "threshold is '0.5'"),
    "batch threshold": (lambda c: c.batch(["x"], threshold=2), "threshold is 2"),
    "batch mode": (lambda c: c.batch(["x"], mode="best"), "mode is 'best'"),
    # into what
    "categories empty": (lambda c: c.classify("x", categories=[]), "categories is empty"),
    "categories one text": (lambda c: c.classify("x", categories="billing"), "categories must be a list"),
    "categories a mapping": (lambda c: c.classify("x", categories={"name": "a"}), "categories must be a list"),
    "categories a number": (lambda c: c.classify("x", categories=7), "categories must be a list"),
    "category blank": (lambda c: c.classify("x", categories=["a", " "]), r"categories\[1\].name is empty"),
    "category nameless": (lambda c: c.classify("x", categories=[{}]), r"categories\[0\].name is empty"),
    "category a number": (lambda c: c.classify("x", categories=[7]), r"categories\[0\] must be a name"),
    "category named 7": (lambda c: c.classify("x", categories=[{"name": 7}]), r"categories\[0\].name"),
    "category twice": (lambda c: c.classify("x", categories=["a", "b", " a "]), r"categories\[2\].name 'a' repeats"),
    "category field": (lambda c: c.classify("x", categories=[{"name": "a", "colour": 1}]), r"categories\[0\].colour"),
    "category extra": (lambda c: c.classify("x", categories=[cc.Category(name="a", id=3)]), r"categories\[0\].id"),
    "category description": (
        lambda c: c.classify("x", categories=[{"name": "a", "description": 1}]),
        r"categories\[0\].description",
    ),
    "category examples text": (
        lambda c: c.classify("x", categories=[{"name": "a", "examples": "e"}]),
        r"categories\[0\].examples",
    ),
    "category examples numbers": (
        lambda c: c.classify("x", categories=[{"name": "a", "examples": [1]}]),
        r"categories\[0\].examples",
    ),
    "category half a pair": (lambda c: c.classify("x", categories=[HALF]), "categories holds half a surrogate"),
    "schema blank": (lambda c: c.classify("x", schema=" "), "schema must be the id"),
    "schema true": (lambda c: c.classify("x", schema=True), "schema must be the id"),
    "schema fraction": (lambda c: c.classify("x", schema=1.5), "schema must be the id"),
    # batches
    "items empty": (lambda c: c.batch([]), "items is empty"),
    "items one text": (lambda c: c.batch("x"), "items must be a list"),
    "items bytes": (lambda c: c.batch(PNG), "items must be a list"),
    "items one item": (lambda c: c.batch({"input": "x"}), "items must be a list"),
    "items one path": (lambda c: c.batch(Path("a.png")), "items must be a list"),
    "items none": (lambda c: c.batch(None), "items must be a list"),
    "item without input": (lambda c: c.batch(["x", {"id": "a"}]), r"items\[1\].input is required"),
    "item input none": (lambda c: c.batch([{"input": None}]), r"items\[0\].input is required"),
    "item none": (lambda c: c.batch(["x", None]), r"items\[1\].input is required"),
    "item blank": (lambda c: c.batch(["x", " "]), r"items\[1\].input is empty"),
    "item half a pair": (lambda c: c.batch(["x", HALF]), r"items\[1\].input holds half"),
    "item field": (lambda c: c.batch([{"input": "x", "text": "y"}]), r"items\[0\].text is not a field"),
    "item ids twice": (
        lambda c: c.batch([{"id": "a", "input": "x"}, "y", {"id": "a", "input": "z"}]),
        r"items\[2\].id repeats items\[0\]",
    ),
    "item ids as number": (
        lambda c: c.batch([{"id": 1, "input": "x"}, {"id": "1", "input": "z"}]),
        r"items\[1\].id repeats",
    ),
    "item id true": (lambda c: c.batch([{"id": True, "input": "x"}]), r"items\[0\].id must be text"),
    "item id fraction": (lambda c: c.batch([{"id": 1.5, "input": "x"}]), r"items\[0\].id must be text"),
    "item id half a pair": (lambda c: c.batch([{"id": HALF, "input": "x"}]), "items holds half a surrogate"),
    "item type": (lambda c: c.batch([{"input": "x", "type": "pdf"}]), "type is 'pdf'"),
    "item categories": (lambda c: c.batch([{"input": "x", "categories": []}]), r"items\[0\].categories is empty"),
    "shared type": (lambda c: c.batch([URL, "x"], type="audio"), r"items\[1\].input must be a public URL"),
    # schemas
    "schema name": (lambda c: c.schemas.create(" ", ["a"]), "name is empty"),
    "schema categories": (lambda c: c.schemas.create("n", []), "categories is empty"),
    "schema name none": (lambda c: c.schemas.create(None, ["a"]), "name is empty"),
    "schema name number": (lambda c: c.schemas.update(17, name=7), "name is empty"),
    "schema type": (lambda c: c.schemas.create("n", ["a"], type="pdf"), "type is 'pdf'"),
    "schema mode": (lambda c: c.schemas.create("n", ["a"], mode="top_n"), "mode is 'top_n'"),
    "schema description": (lambda c: c.schemas.create("n", ["a"], description=HALF), "description holds half"),
    "schema id blank": (lambda c: c.schemas.get(""), "schema must be the id"),
    "schema id to delete": (lambda c: c.schemas.delete(" "), "schema must be the id"),
    "schema no change": (lambda c: c.schemas.update(17), "nothing to change"),
    "ensure categories": (lambda c: c.schemas.ensure("n", ["a", "a"]), r"categories\[1\].name"),
    "ensure name": (lambda c: c.schemas.ensure(" ", ["a"]), "name is empty"),
    "ensure mode": (lambda c: c.schemas.ensure("n", ["a"], mode="top_n"), "mode is 'top_n'"),
    # the rest
    "month": (lambda c: c.usage("2026-13"), "month is '2026-13'"),
    "month short": (lambda c: c.usage("2026-1"), "month is '2026-1'"),
    "month line": (lambda c: c.usage("2026-11\n"), "month is"),
    "month number": (lambda c: c.usage(202611), "month is 202611"),
    "limit 0": (lambda c: c.jobs.list(limit=0), "limit is 0"),
    "limit 101": (lambda c: c.jobs.list(limit=101), "limit is 101"),
    "limit text": (lambda c: c.jobs.list(limit="20"), "limit is '20'"),
    "limit true": (lambda c: c.jobs.list(limit=True), "limit is True"),
    "offset": (lambda c: c.jobs.list(offset=-1), "offset is -1"),
    "offset fraction": (lambda c: c.jobs.list(offset=1.5), "offset is 1.5"),
    "job id": (lambda c: c.jobs.get(" "), "job id is empty"),
    "wait negative": (lambda c: c.jobs.wait("84", timeout=-1), "timeout is -1"),
    "wait nan": (lambda c: c.jobs.wait("84", timeout=math.nan), "timeout is nan"),
    "wait text": (lambda c: c.jobs.wait("84", timeout="5"), "timeout is '5'"),
    "webhook http": (lambda c: c.webhooks.create("http://example.org/hook"), "url must be https"),
    "webhook ftp": (lambda c: c.webhooks.create("ftp://example.org/hook"), "url must be https"),
    "webhook no host": (lambda c: c.webhooks.create("https:///hook"), "url must be https"),
    "webhook broken": (lambda c: c.webhooks.create("https://[::1/hook"), "url must be https"),
    "webhook none": (lambda c: c.webhooks.create(None), "url must be https"),
    "webhook events text": (lambda c: c.webhooks.create(URL, events="job.failed"), "events must be a list"),
    "webhook no events": (lambda c: c.webhooks.create(URL, events=[]), "events must be a list"),
    "webhook secret": (lambda c: c.webhooks.create(URL, secret=" "), "secret is empty"),
    "webhook id": (lambda c: c.webhooks.delete(" "), "webhook id is empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_sending(name: str, caller: Caller, canned: Canned) -> None:
    call, told = REFUSED[name]
    canned.say(200, {})
    with pytest.raises(cc.InvalidRequestError, match=told) as caught:
        caller(call)
    assert canned.asked == []
    assert isinstance(caught.value, ValueError)
    assert (caught.value.outcome, caught.value.status) == ("not_sent", None)
    assert caught.value.__context__ is caught.value.__cause__ is None


@pytest.mark.parametrize("caps", [16, 64])
def test_images_over_the_cap_are_refused(
    caps: int, caller: Caller, canned: Canned, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(media, "MAX_IMAGE_BYTES", caps)
    image = PNG.ljust(caps, b"\0")
    path = tmp_path / "cat.png"
    path.write_bytes(image + b"\0")
    canned.say(200, {"result": {"label": "cat"}})
    oversize = base64.b64encode(PNG + b"\0" * 400).decode()
    for large in (image + b"\0", path, f"data:image/png;base64,{oversize}"):
        with pytest.raises(cc.InvalidRequestError, match=f"input is .* more than {caps} bytes"):
            caller(lambda c, large=large: c.classify(large, type="image"))
    assert canned.asked == []
    assert caller(lambda c: c.classify(image, type="image")).label == "cat"


IMAGES = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "image/gif": b"GIF89a\x01\x00",
    "image/webp": b"RIFF\x24\n\x00\x00WEBPVP8 ",
    "image/bmp": b"BM\x8a\x00",
    "image/tiff": b"MM\x00*\x00\x00",
    "image/avif": b"\x00\x00\x00 ftypavif",
    "image/heic": b"\x00\x00\x00\x18ftypheic",
}


@pytest.mark.parametrize("media_type", IMAGES)
@pytest.mark.parametrize("form", ["bytes", "bytearray", "path"])
def test_images_travel_as_data_uris(media_type: str, form: str, tmp_path: Path) -> None:
    image = IMAGES[media_type]
    path = tmp_path / "image"
    path.write_bytes(image)
    given: Any = {"bytes": image, "bytearray": bytearray(image), "path": path}[form]
    assert media.encode_input(given, "image") == f"data:{media_type};base64,{base64.b64encode(image).decode()}"


@pytest.mark.parametrize("older", [b"GIF87a\x01", b"II*\x00\x08", b"\0\0\0\x1cftypmif1", b"\0\0\0\x1cftypavis"])
def test_other_signatures_of_the_same_formats(older: bytes) -> None:
    assert media.encode_input(older, "image").startswith("data:image/")


@pytest.mark.parametrize("input_type", ["image", "audio", "video"])
def test_urls_are_sent_as_they_are(input_type: str) -> None:
    for url in (URL, "HTTP://EXAMPLE.ORG/a?b=c d", "https://example.org"):
        assert media.encode_input(url, input_type) == url
    assert media.encode_input(PNG_URI, "image") == PNG_URI
    assert media.encode_input(URL, "text") == URL


OFF = {"categories": None, "schema": None, "mode": None, "threshold": None, "explain": False}


def body(input: Any = "x", **options: Any) -> dict[str, Any]:
    return payloads.classification(input, **{**OFF, "type": "text", "top_n": None, **options})


def test_defaults_are_left_to_the_api() -> None:
    assert body() == {"input": "x"}
    assert payloads.batch(["x"], type=None, **OFF)[1] == {"items": [{"id": "0", "input": "x"}]}
    assert payloads.batch(["x"], type="text", **OFF)[1] == {"items": [{"id": "0", "input": "x"}]}


def test_bounds_are_inside() -> None:
    for value in (0, 1, 0.0, 1.0, 0.5):
        assert body(threshold=value)["threshold"] == value
    for top_n in (1, 10):
        assert body(top_n=top_n) == {"input": "x", "top_n": top_n, "mode": "top_n"}
    assert body(mode="top_n") == {"input": "x", "mode": "top_n"}


def test_category_forms_are_never_mixed() -> None:
    assert body(categories=["a", {"name": "b"}, cc.Category(name=" c ")])["categories"] == ["a", "b", "c"]
    rich = {"name": "b", "description": "d", "examples": ("e",)}
    assert body(categories=["a", rich])["categories"] == [
        {"name": "a"},
        {"name": "b", "description": "d", "examples": ["e"]},
    ]
    assert body(categories=(name for name in "ab"))["categories"] == ["a", "b"]


def test_schema_ids() -> None:
    schema = cc.Schema(id=17, name="n")
    assert [body(schema=each)["schema"] for each in (17, "17", schema, "sch_9")] == [17, 17, 17, "sch_9"]


def test_items_keep_their_ids_and_the_others_get_free_ones() -> None:
    items = [{"id": 1, "input": "a"}, "b", "c", {"id": "2", "input": "d"}, {"id": "_2", "input": "e", "type": "text"}]
    ids, sent = payloads.batch(items, type=None, **OFF)
    assert ids == ["1", "_1", "__2", "2", "_2"]
    assert [item["id"] for item in sent["items"]] == ids
    assert [item["input"] for item in sent["items"]] == list("abcde")


@given(st.lists(st.none() | st.integers(-3, 12) | st.text(alphabet="_0123", max_size=4), min_size=1, max_size=12))
def test_generated_ids_never_collide(given_ids: list[Any]) -> None:
    items = [{"id": each, "input": "x"} for each in given_ids]
    wanted = [str(each) for each in given_ids if each is not None]
    if len(set(wanted)) < len(wanted):
        with pytest.raises(cc.InvalidRequestError):
            payloads.batch(items, type=None, **OFF)
        return
    ids, _ = payloads.batch(items, type=None, **OFF)
    assert len(set(ids)) == len(items)
    assert all(got == str(each) for got, each in zip(ids, given_ids, strict=True) if each is not None)


def test_items_may_differ_from_the_batch() -> None:
    items = [{"input": "x", "type": "text", "categories": ["a"]}, {"input": URL}]
    _, sent = payloads.batch(items, type="audio", **{**OFF, "schema": 17})
    assert sent == {
        "items": [
            {"id": "0", "input": "x", "categories": ["a"]},
            {"id": "1", "input": URL, "type": "audio"},
        ],
        "schema": 17,
    }


@given(st.text(min_size=1).filter(lambda text: not text.isspace()))
def test_any_text_arrives_unchanged(text: str) -> None:
    import json

    assert json.loads(payloads.encode(body(text)))["input"] == text


def test_a_path_is_any_path_like() -> None:
    class Here(SimpleNamespace):
        def __fspath__(self) -> str:
            return str(self.path)

    with pytest.raises(cc.InvalidRequestError, match="cannot read the image"):
        media.encode_input(Here(path="/nowhere"), "image")


def test_a_refusal_repeats_no_input(caller: Caller, canned: Canned) -> None:
    secret = "patient 4711"
    for call in (
        lambda c: c.classify(secret, type="audio"),
        lambda c: c.classify(secret + HALF),
        lambda c: c.classify(f"data:image/{secret}", type="image"),
        lambda c: c.batch([{"input": secret, "nonsense": 1}]),
        lambda c: c.classify(Path(f"/nowhere/{secret}"), type="image"),
    ):
        with pytest.raises(cc.InvalidRequestError) as caught:
            caller(call)
        assert secret not in str(caught.value)
    assert canned.asked == []
