"""An Enum as the category set of a run: labels are its members, and nothing else can be acted on."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import ClassifailyClient, Classification, InvalidRequestError, RetryPolicy, Row
from classifaily_connectors.enums import categories_of, label_of

if TYPE_CHECKING:
    from conftest import Shop

Buy = Callable[..., list[Row[Any]]]


class Team(Enum):
    billing = "Payments, refunds, invoices"
    technical = "Bugs and errors"


ROWS = ["I was charged twice", "the app crashes", "I was charged twice"]
TEAMS = [Team.billing, Team.technical, Team.billing]


def test_labels_are_members_from_the_api_and_from_the_ledger(shop: Shop, buy: Buy) -> None:
    assert [row.label for row in buy(shop, ROWS, categories=Team)] == TEAMS
    again = buy(shop, ROWS, categories=Team)
    assert [row.label for row in again] == TEAMS
    assert pickle.loads(pickle.dumps(again)) == again
    assert again[0].as_dict()["label"] == "billing"
    assert shop.stats.labels == {"billing": 2, "technical": 1}
    words = buy(shop, ROWS, categories=categories_of(Team))
    assert [row.label for row in words] == ["billing", "technical", "billing"]
    assert {row.policy for row in words} == {row.policy for row in again}
    assert shop.paid() == 2


def test_an_answer_outside_the_set_is_no_member_and_for_review(canned: Any, tmp_path: Path) -> None:
    def respond(asked: Any) -> Any:
        if asked.method == "GET":
            return 200, {}, b"{}"
        results = [{"id": each["id"], "result": {"label": "sales", "confidence": 0.99}} for each in asked.json["items"]]
        return 200, {}, json.dumps({"id": "batch_1", "status": "completed", "results": results}).encode()

    canned.respond = respond
    with ClassifailyClient("cai_live_x", base_url=canned.url, retry=RetryPolicy(base=0.0)) as client:
        (row,) = client.classify_many(["text"], categories=Team)
    assert (row.label, row.route, row.status, row.labels[0].label) == (None, "review", "completed", "sales")
    assert row.as_dict()["label"] is None


def test_an_enum_may_name_the_labels_of_a_schema(shop: Shop, buy: Buy) -> None:
    """What `schemas codegen` wrote, next to the schema it was written from."""
    with shop.client() as client:
        schema = client.schemas.create("teams", ["billing", "technical"])
        assert [row.label for row in buy(shop, ROWS, schema=schema, categories=Team)] == TEAMS
        client.schemas.update(schema.id, categories=["billing", "technical", "sales"])
    before = shop.paid()
    with pytest.raises(InvalidRequestError, match=r"schema \d+ has the label 'sales', for which the Enum"):
        buy(shop, ROWS, schema=schema, categories=Team)
    assert shop.paid() == before


def test_a_rows_own_categories_must_have_members(shop: Shop, buy: Buy) -> None:
    rows = [{"input": "invoice", "categories": ["billing"]}, {"input": "invoice", "categories": ["billing", "sales"]}]
    found = buy(shop, rows, categories=Team)
    assert [(row.label, row.status) for row in found] == [(Team.billing, "completed"), (None, "skipped")]
    assert "'sales', for which the Enum" in (found[1].error or "")


def test_a_label_outside_a_rows_own_categories_is_for_review(canned: Any, tmp_path: Path) -> None:
    """Issue: a label outside the set is always review, also where the set, or only the type, is the row's own."""

    def respond(asked: Any) -> Any:
        if asked.method == "GET":
            return 200, {}, b"{}"
        results = [{"id": each["id"], "result": {"label": "sales", "confidence": 0.99}} for each in asked.json["items"]]
        return 200, {}, json.dumps({"id": "batch_1", "status": "completed", "results": results}).encode()

    canned.respond = respond
    url = "https://example.org/cat.png"
    rows = [
        {"input": "one", "categories": ["billing"]},
        {"input": "one", "categories": ["billing"]},
        {"input": "one", "categories": ["sales"]},
        {"input": url, "type": "image"},
    ]
    with ClassifailyClient("cai_live_x", base_url=canned.url, retry=RetryPolicy(base=0.0)) as client:
        found = list(client.classify_many(rows, categories=["billing", "technical"]))
    assert [(row.label, row.route, row.source) for row in found] == [
        ("sales", "review", "api"),
        ("sales", "review", "duplicate"),
        ("sales", "act", "api"),
        ("sales", "review", "api"),
    ]


def test_single_calls(shop: Shop) -> None:
    with shop.client() as client:
        answer = client.classify(ROWS[0], categories=Team)
        assert answer.label is Team.billing
        assert answer.labels[0].label == "billing"
        for twin in (pickle.loads(pickle.dumps(answer)), copy.deepcopy(answer), answer.model_copy()):
            assert twin == answer
            assert twin.label is Team.billing
        assert isinstance(answer, Classification)
        batch = client.batch([*ROWS, {"input": ROWS[0], "categories": ["payments"]}], categories=Team)
        assert [each.label for each in batch.results] == [*TEAMS, None]
        assert pickle.loads(pickle.dumps(batch)) == batch
        job = client.jobs.wait(client.submit(ROWS[1], categories=Team).id or "")
        assert job.label == "technical"
        assert label_of(Team, job) is Team.technical
        assert label_of(Team, answer) is Team.billing


async def test_single_calls_of_the_twin(shop: Shop) -> None:
    async with shop.async_client() as client:
        assert (await client.classify(ROWS[1], categories=Team)).label is Team.technical
        assert [each.label for each in (await client.batch(ROWS, categories=Team)).results] == TEAMS
