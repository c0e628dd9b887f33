"""Whatever shape the server writes an answer in, the verdict in it is read; and no detail ever costs a paid answer."""

from __future__ import annotations

import json
import pickle
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

import classifaily_connectors as cc
from classifaily_connectors.fields import as_list, as_map
from classifaily_connectors.models import Counts, Limits

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=8), children, max_size=4),
    max_leaves=12,
)
WORDS = st.sampled_from(["label", "labels", "confidence", "explanation", "0", "1", "name", "code", "message"])
SHAPED: st.SearchStrategy[Any] = st.recursive(
    JSON | st.sampled_from(["billing", "", 2024, 10**400, -(10**400)]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(WORDS, children, max_size=4),
    max_leaves=12,
)


def read(result: Any) -> list[tuple[str, float | None]]:
    answer = cc.Classification.model_validate({"id": "1", "result": result})
    return [(each.label, each.confidence) for each in answer.labels]


BILLING, OTHER = {"label": "billing", "confidence": 0.9}, {"label": "other", "confidence": 0.4}
BOTH = [("billing", 0.9), ("other", 0.4)]
RESULTS: dict[str, tuple[Any, list[tuple[str, float | None]]]] = {
    "one label": (BILLING, [("billing", 0.9)]),
    "one as a list": ([BILLING], [("billing", 0.9)]),
    "labels": ({"labels": [BILLING, OTHER]}, BOTH),
    "labels ascending": ({"labels": [OTHER, BILLING]}, BOTH),
    "labels filtered by PHP": ({"labels": {"0": OTHER, "2": BILLING}}, BOTH),
    "bare list": ([OTHER, BILLING], BOTH),
    "bare object with numeric keys": ({"1": OTHER, "3": BILLING}, BOTH),
    "labels of plain names": ({"labels": ["billing"]}, [("billing", None)]),
    "confidence as a whole number": ({"label": "billing", "confidence": 1}, [("billing", 1.0)]),
    "confidence as text": ({"label": "billing", "confidence": "0.25"}, [("billing", 0.25)]),
    "confidence null": ({"label": "billing", "confidence": None}, [("billing", None)]),
    "confidence absent": ({"label": "billing"}, [("billing", None)]),
    "confidence a word": ({"label": "billing", "confidence": "high"}, [("billing", None)]),
    "confidence a list": ({"label": "billing", "confidence": []}, [("billing", None)]),
    "confidence not a number": ({"label": "billing", "confidence": float("nan")}, [("billing", None)]),
    "confidence endless": ({"label": "billing", "confidence": float("inf")}, [("billing", None)]),
    "confidence beyond floats": ({"label": "billing", "confidence": 10**400}, [("billing", None)]),
    "unsure ones last": ({"labels": [{"label": "a"}, {"label": "b", "confidence": 0.1}]}, [("b", 0.1), ("a", None)]),
    "a category named 2024": ({"label": 2024, "confidence": 0.5}, [("2024", 0.5)]),
    "below threshold: null": (None, []),
    "below threshold: null label": ({"label": None, "confidence": 0.3}, []),
    "below threshold: empty list": ([], []),
    "below threshold: empty labels": ({"labels": []}, []),
    "below threshold: empty labels by PHP": ({"labels": {}}, []),
    "below threshold: labels null": ({"labels": None}, []),
    "below threshold: empty label": ({"label": "", "confidence": 0}, []),
    "label false": ({"label": False, "confidence": 0}, []),
}


@pytest.mark.parametrize("name", RESULTS)
def test_results_are_read_by_shape(name: str) -> None:
    result, labels = RESULTS[name]
    assert read(result) == labels
    answer = cc.Classification.model_validate({"result": result})
    first = labels[0] if labels else (None, None)
    assert (answer.label, answer.confidence) == first


def test_labels_may_stand_outside_the_result() -> None:
    answer = cc.Classification.model_validate({"labels": {"1": OTHER, "2": BILLING}})
    assert [each.label for each in answer.labels] == ["billing", "other"]


@given(JSON | SHAPED)
def test_no_result_ever_raises(result: Any) -> None:
    answer = cc.Classification.model_validate({"result": result})
    assert all(each.label for each in answer.labels)
    known = [each.confidence or 0.0 for each in answer.labels]
    assert all(one >= other for one, other in pairwise(known))
    assert answer.margin is None or answer.margin >= 0 or min(known) < 0


FIELDS = ["id", "job_id", "status", "type", "input_type", "result", "labels", "error", "meta", "created_at"]
JOB_FIELDS = [
    *FIELDS,
    "input_preview",
    "categories",
    "schema_id",
    "results",
    "completed_at",
    "model_used",
    "tokens_used",
]


@given(st.dictionaries(st.sampled_from(JOB_FIELDS), JSON | SHAPED), JSON)
def test_no_detail_costs_a_paid_answer(wire: dict[str, Any], explanation: Any) -> None:
    """Any JSON in any field: the verdict beside it is read all the same."""
    wire = {**wire, "result": {**BILLING, "explanation": explanation}}
    for kind in (cc.Classification, cc.Job):
        answer = kind.model_validate(wire)
        assert (answer.label, answer.confidence) == ("billing", 0.9)
    answers = cc.BatchResult.model_validate({**wire, "results": [wire, {**wire, "result": OTHER}]})
    assert [each.label for each in answers.results] == ["billing", "other"]


@given(st.dictionaries(st.text(max_size=6), JSON))
def test_unknown_fields_are_kept(extra: dict[str, Any]) -> None:
    extra = {name: value for name, value in extra.items() if name not in {*JOB_FIELDS, "results"}}
    answer = cc.Classification.model_validate({**extra, "result": {**BILLING, "logprob": -0.1}})
    kept = answer.model_extra or {}
    assert set(extra) == set(kept)
    assert (answer.labels[0].model_extra or {}) == {"logprob": -0.1}


def test_explanations_and_margin() -> None:
    labels = [{**OTHER, "explanation": "no"}, {**BILLING, "explanation": "it says invoice"}]
    answer = cc.Classification.model_validate({"result": {"labels": labels}})
    assert answer.explanation == "it says invoice"
    assert answer.margin == pytest.approx(0.5)
    assert cc.Classification.model_validate({"result": BILLING}).margin is None
    assert cc.Classification.model_validate({"result": [BILLING, {"label": "x"}]}).margin is None
    assert cc.Classification.model_validate({"result": None}).margin is None


@pytest.mark.parametrize(
    ("told", "instant"),
    [
        ("2026-11-21T05:06:07Z", datetime(2026, 11, 21, 5, 6, 7, tzinfo=UTC)),
        ("2026-11-21T06:06:07+01:00", datetime(2026, 11, 21, 5, 6, 7, tzinfo=UTC)),
        (1795237567, datetime(2026, 11, 21, 5, 6, 7, tzinfo=UTC)),
        ("2026-11-21 05:06:07", None),  # no zone: whose clock?
        ("yesterday", None),
        ("", None),
        (None, None),
        ([], None),
        (10**30, None),
        ({"date": "2026-11-21"}, None),
    ],
)
def test_dates(told: Any, instant: datetime | None) -> None:
    answer = cc.Classification.model_validate({"result": BILLING, "created_at": told})
    assert answer.created_at == instant
    assert answer.label == "billing"


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        ({"code": "media_error", "message": "Cannot fetch."}, "Cannot fetch.", "media_error"),
        ({"code": "media_error"}, "media_error", "media_error"),
        ({"code": 12, "message": None}, "12", "12"),
        ("Cannot fetch.", "Cannot fetch.", None),
        ([1], "failed without a reason", None),
    ],
)
def test_failed_items_say_why(error: Any, message: str, code: str | None) -> None:
    answer = cc.Classification.model_validate({"status": "failed", "result": None, "error": error})
    assert answer.failed
    assert answer.error is not None
    assert (str(answer.error), answer.error.code) == (message, code)


@pytest.mark.parametrize("error", [None, "", [], {}])
def test_an_empty_error_is_none(error: Any) -> None:
    assert cc.Classification.model_validate({"result": BILLING, "error": error}).error is None


def test_a_job_speaks_both_languages() -> None:
    """/classify says type, meta.model and meta.tokens; /jobs says input_type, model_used and tokens_used."""
    of_jobs = cc.Job.model_validate(
        {"id": 84, "status": "completed", "input_type": "image", "model_used": "m", "tokens_used": 9, "latency_ms": 7}
    )
    of_classify = cc.Job.model_validate(
        {"job_id": "84", "status": "completed", "type": "image", "meta": {"model": "m", "tokens": 9, "latency_ms": 7}}
    )
    for job in (of_jobs, of_classify):
        assert (job.id, job.type, job.input_type) == ("84", "image", "image")
        assert job.meta == {"model": "m", "tokens": 9, "latency_ms": 7}
    assert cc.Job.model_validate({"id": None, "job_id": 84}).id == "84"


@pytest.mark.parametrize(
    ("wire", "done"),
    [
        ({}, False),
        ({"status": "pending"}, False),
        ({"status": "processing"}, False),
        ({"status": "queued"}, False),
        ({"status": "completed"}, True),
        ({"status": "failed"}, True),
        ({"status": "cancelled", "completed_at": "2026-11-21T05:06:07Z"}, True),
    ],
)
def test_done_jobs(wire: dict[str, Any], done: bool) -> None:
    job = cc.Job.model_validate({"id": "84", **wire})
    assert job.done == done
    assert job.status == wire.get("status", "pending")


@pytest.mark.parametrize(("told", "read"), [(17, 17), ("17", 17), ("sch_9", "sch_9"), (None, None), ([], None)])
def test_schema_ids_of_jobs(told: Any, read: Any) -> None:
    assert cc.Job.model_validate({"id": "84", "schema_id": told}).schema_id == read


def test_a_job_hides_what_was_classified() -> None:
    job = cc.Job.model_validate({"id": "84", "input_preview": "patient 4711"})
    assert job.input_preview == "patient 4711"
    assert "4711" not in repr(job)
    assert "4711" not in str(job)


@pytest.mark.parametrize("unlimited", [None, -1, "unlimited", [], "", 1e400])
def test_unlimited(unlimited: Any) -> None:
    usage = cc.Usage.model_validate(
        {"limits": {"requests": unlimited}, "usage": {"requests": 5, "remaining": unlimited}}
    )
    assert usage.limits.requests is None
    assert usage.remaining is None


@pytest.mark.parametrize(
    ("limit", "used", "remaining", "left"),
    [
        (100, 40, 60, 60),
        (100, 40, None, 60),
        (100, 140, None, 0),
        ("100", "40", None, 60),
        (100, 0, 0, 0),
        (100, None, None, 100),
        (None, 40, 12, 12),
    ],
)
def test_remaining(limit: Any, used: Any, remaining: Any, left: int) -> None:
    wire = {"limits": {"requests": limit}, "usage": {"requests": used, "remaining": remaining, "by_type": []}}
    usage = cc.Usage.model_validate(wire)
    assert usage.remaining == left
    assert usage.usage.by_type == {}


def test_parts_may_be_built_by_hand() -> None:
    usage = cc.Usage(limits=Limits(requests=10), usage=Counts(requests=4))
    assert usage.remaining == 6
    answer = cc.Classification(labels=(cc.Label(label="a", confidence=0.2), cc.Label(label="b", confidence=0.3)))
    assert [each.label for each in answer.labels] == ["b", "a"]
    assert cc.BatchResult(results=(answer,)).results == (answer,)
    assert cc.Category.model_validate("a") == cc.Category(name="a")


def test_schemas_take_both_forms_of_categories() -> None:
    rich = {"name": "b", "description": "d", "examples": {"0": "e"}, "colour": "red"}
    schema = cc.Schema.model_validate({"id": "17", "name": "n", "categories": {"0": "a", "2": rich, "3": 2024}})
    assert schema.id == 17
    assert [each.name for each in schema.categories] == ["a", "b", "2024"]
    assert schema.categories[1].examples == ("e",)
    with pytest.raises(ValidationError):
        cc.Schema.model_validate({"name": "n"})


def test_an_endpoint_hides_its_secret() -> None:
    endpoint = cc.WebhookEndpoint.model_validate({"id": 3, "url": "https://x.org", "secret": "whsec_1", "events": {}})
    assert endpoint.secret is not None
    assert endpoint.secret.get_secret_value() == "whsec_1"
    for shown in (repr(endpoint), str(endpoint), repr(endpoint.model_dump()), endpoint.model_dump_json()):
        assert "whsec_1" not in shown


def test_deliveries_read_as_jobs() -> None:
    wire = {"event": "job.completed", "id": 84, "result": BILLING, "type": "text", "schema": "17", "timestamp": "?"}
    event = cc.WebhookEvent.model_validate(wire)
    assert (event.id, event.schema, event.timestamp) == ("84", 17, None)
    assert (event.job.id, event.job.label, event.job.status, event.job.type) == ("84", "billing", "completed", "text")
    failed = cc.WebhookEvent.model_validate({"event": "job.failed", "id": "84", "error": "Cannot fetch."})
    assert failed.job.failed
    assert str(failed.job.error) == "Cannot fetch."
    batch = cc.WebhookEvent.model_validate(
        {"event": "batch.completed", "id": "b1", "results": [{"id": 1, "result": OTHER}]}
    )
    assert [each.label for each in batch.job.results] == ["other"]


MODELS: list[BaseModel] = [
    cc.Classification.model_validate({"id": "1", "result": {"labels": [BILLING, OTHER]}, "x": 1, "created_at": 1}),
    cc.Job.model_validate({"id": "1", "categories": ["a"], "model_used": "m", "results": [{"id": 1, "result": OTHER}]}),
    cc.BatchResult.model_validate({"id": "b", "results": {"0": {"id": 1, "status": "failed", "error": "no"}}}),
    cc.Usage.model_validate(
        {"limits": {"requests": -1, "resets_at": "2026-12-01T00:00:00Z"}, "usage": {"by_type": []}}
    ),
    cc.Schema.model_validate({"id": 17, "name": "n", "categories": ["a", {"name": "b"}]}),
    cc.WebhookEndpoint.model_validate({"id": 3, "url": "https://x.org"}),
    cc.WebhookEvent.model_validate({"event": "job.completed", "id": "1", "result": BILLING, "schema": 17}),
    cc.Category(name="a", description="d", examples=("e",)),
    cc.ErrorDetail.model_validate({"message": "m", "code": "c", "docs": "d"}),
]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_round_trips(model: BaseModel) -> None:
    kind = type(model)
    assert pickle.loads(pickle.dumps(model)) == model
    assert kind.model_validate(model.model_dump()) == model
    assert kind.model_validate(model.model_dump(by_alias=True)) == model
    assert kind.model_validate_json(model.model_dump_json()) == model
    assert kind.model_validate(json.loads(json.dumps(model.model_dump(mode="json")))) == model


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_answers_are_frozen(model: BaseModel) -> None:
    with pytest.raises(ValidationError):
        setattr(model, next(iter(type(model).model_fields)), "other")


@given(JSON)
def test_borders_never_raise(value: Any) -> None:
    assert isinstance(as_list(value), list)
    assert isinstance(as_map(value), dict)
