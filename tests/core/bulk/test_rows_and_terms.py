"""What a row may be, and what becomes of one that cannot be sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import InvalidRequestError, Row
from classifaily_connectors.media import Reference

if TYPE_CHECKING:
    from conftest import Shop

Buy = Callable[..., list[Row]]
PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


def test_mappings_bring_their_own_type_and_categories(shop: Shop, buy: Buy) -> None:
    rows: list[Any] = [
        {"input": "I was charged twice", "ticket": 1},
        {"input": "a red apple", "categories": ["fruit", {"name": "animal", "description": "it moves"}]},
        {"input": PNG, "type": "image"},
        "I was charged twice",
    ]
    found = buy(shop, rows)
    assert [row.status for row in found] == ["completed"] * 4
    assert found[1].label in ("fruit", "animal")
    assert found[0].columns == rows[0]
    assert found[0].as_dict()["ticket"] == 1
    assert found[3].source == "duplicate"
    assert found[3].columns is None
    assert shop.paid() == 3


def test_a_column_or_a_template_makes_the_text(shop: Shop, buy: Buy) -> None:
    rows = [{"subject": "Refund", "body": "I was charged twice", "n": n} for n in range(2)]
    assert [row.source for row in buy(shop, rows, text="body")] == ["api", "duplicate"]
    found = buy(shop, rows, template="Subject: {subject}\n\n{body} {n}")
    assert [row.source for row in found] == ["api", "api"]
    assert shop.paid() == 3
    joined = buy(shop, ["Subject: Refund\n\nI was charged twice 0"])
    assert joined[0].source == "ledger"


@pytest.mark.parametrize(
    ("row", "options", "why"),
    [
        ("", {}, "empty"),
        ("  \n", {}, "empty"),
        (17, {}, "not int"),
        (None, {}, "not NoneType"),
        ({"text": "x"}, {}, "'input' is missing; the row has text"),
        ({"a": "x"}, {"text": "body"}, "'body' is missing; the row has a"),
        ({"a": None}, {"text": "a"}, "not NoneType"),
        ({"a": " ", "b": None}, {"template": "A: {a} B: {b}"}, "empty"),
        ({"a": "x"}, {"template": "{a} {b}"}, "'b' is missing"),
        ({"input": "x", "type": "smell"}, {}, "type is 'smell'"),
        ({"input": "x", "categories": ["a", "a"]}, {}, "repeats"),
        ({"input": "x", "categories": []}, {}, "categories is empty"),
        ("half \ud800", {}, "surrogate"),
        ({"input": "x"}, {"identity": "etag"}, "'etag' is missing"),
        ({"input": "x", "etag": " "}, {"identity": "etag"}, "'etag' is empty"),
        ({"input": "no url", "type": "audio"}, {}, "must be a public URL"),
    ],
)
def test_a_row_that_cannot_be_sent_is_skipped_with_the_reason(
    shop: Shop, row: Any, options: dict[str, Any], why: str
) -> None:
    (found,) = shop.buy([row], **options)
    assert found.status == "skipped"
    assert why in (found.error or "")
    assert (found.label, found.source, found.route, found.decided_by) == (None, None, "review", None)
    assert found.policy
    assert shop.paid() == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"text": "a", "template": "{b}"}, "exclude each other"),
        ({"template": "no column"}, "names no column"),
        ({"template": "{a.b}"}, "only column names"),
        ({"template": "{a[0]}"}, "only column names"),
        ({"template": "{}"}, "only column names"),
        ({"template": "{a"}, "template"),
        ({"type": "smell"}, "type is 'smell'"),
        ({"on_unknown": "guess"}, "on_unknown is 'guess'"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"concurrency": 0}, "concurrency is 0"),
        ({"threshold": 2}, "threshold is 2"),
        ({"top_n": 11}, "top_n is 11"),
        ({"mode": "some"}, "mode is 'some'"),
        ({"categories": []}, "categories is empty"),
        ({"ledger": True}, "ledger must be"),
    ],
)
def test_an_argument_that_cannot_work_is_refused_before_anything(shop: Shop, options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequestError, match=why):
        shop.buy([{"a": "text"}], **options)
    assert shop.sandbox.requests == []


def test_an_edited_schema_is_paid_anew_and_an_untouched_one_is_not(shop: Shop) -> None:
    with shop.client() as client:
        schema = client.schemas.create("topics", ["billing", "technical"])
        rows = [f"invoice {n}" for n in range(10)]
        shop.buy(rows, schema=schema.id)
        shop.buy(rows, schema=schema)
        assert shop.paid() == 10
        client.schemas.update(schema.id, categories=["billing", {"name": "technical", "description": "it broke"}])
        shop.buy(rows, schema=schema.id)
        assert shop.paid() == 20
        shop.buy(rows, categories=["billing", {"name": "technical", "description": "it broke"}], mode="single")
    assert shop.paid() == 20


def test_a_callers_mode_wins_over_the_schemas(shop: Shop) -> None:
    with shop.client() as client:
        schema = client.schemas.create("topics", ["billing", "technical"], mode="multi")
    assert len(shop.buy(["a technical invoice"], schema=schema.id)[0].labels) == 2
    assert len(shop.buy(["a technical invoice"], schema=schema.id, mode="single")[0].labels) == 1


def test_a_bare_media_url_is_no_key_of_a_ledger(shop: Shop) -> None:
    """Design, decision 5: never a signed URL, never a bare URL whose bytes may change unless the caller says so."""
    url = "https://example.com/cat.png?signature=1"
    (row,) = shop.buy([url], type="image")
    assert row.status == "skipped"
    assert "identity=" in (row.error or "")
    assert shop.paid() == 0
    assert shop.buy([url], type="image", ledger=False)[0].status == "completed"


def test_media_are_one_where_their_identity_is(shop: Shop) -> None:
    urls = [f"https://example.com/cat.png?signature={n}" for n in range(3)]
    rows = [{"input": url, "etag": "e1"} for url in urls]
    assert {row.status for row in shop.buy(rows, type="image", identity="etag")} == {"completed"}
    assert shop.paid() == 1
    shop.buy([{"input": urls[0], "etag": "new bytes"}], type="image", identity="etag")
    assert shop.paid() == 2
    shop.buy([Reference(url, "e1") for url in urls], type="image")
    assert shop.paid() == 2
    stable = [{"input": "https://example.com/for-ever.png"}]
    for _ in range(2):
        shop.buy(stable, type="image", identity="input")
    assert shop.paid() == 3
    for data in (PNG, PNG, PNG + b"\0"):
        shop.buy([data], type="image")
    assert shop.paid() == 5
