"""Every switch: its default is proved by the contract's exchanges, its other values here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.sandbox import SandboxClock, Switches

CATEGORIES = ["billing", "technical", "account", "other"]
TEXT = "I was charged twice"


@pytest.mark.parametrize(
    ("value", "result"),
    [
        ("null", None),
        ("null_label", {"label": None, "confidence": 0.0}),
        ("empty_list", []),
        ("empty_labels", {"labels": []}),
    ],
)
def test_below_threshold(value: Any, result: Any, start: Callable[..., Any]) -> None:
    api = start(switches=Switches(below_threshold=value))
    assert api.classify("???", categories=CATEGORIES, threshold=0.99).json()["result"] == result


def test_label_order(start: Callable[..., Any]) -> None:
    def labels(value: Any) -> list[str]:
        api = start(switches=Switches(label_order=value))
        result = api.classify("my password, and I was charged", categories=CATEGORIES, mode="multi").json()["result"]
        return [label["label"] for label in result["labels"]]

    assert labels("given") == CATEGORIES
    assert labels("descending") == labels("ascending")[::-1] != CATEGORIES


@pytest.mark.parametrize(
    ("value", "item", "job"),
    [
        ("object", {"result": None, "error": {"code": "server_error", "message": "Boom."}}, None),
        ("string", {"result": None, "error": "Boom."}, None),
        ("absent", {}, {"result": None}),
    ],
)
def test_failure_body(value: Any, item: Any, job: Any, start: Callable[..., Any]) -> None:
    api = start(switches=Switches(failure_body=value))
    api.script("bad", error="Boom.")
    assert api.batch("bad").json()["results"] == [{"id": "i0", "status": "failed", **item}]
    answer = api.classify("bad")
    assert answer.status_code == 200
    assert answer.json()["status"] == "failed"
    stored = api.get("/jobs", id=answer.json()["id"]).json()
    wanted = item if job is None else job
    assert {key: stored[key] for key in ("result", "error") if key in stored} == wanted
    assert api.bill().charged == 2


@pytest.mark.parametrize("value", ["in_error", "top_level", "absent"])
def test_quota_fields(value: Any, start: Callable[..., Any]) -> None:
    api = start(switches=Switches(quota_fields=value))
    api.add_key(api.key, used=10_000)
    body = api.classify().json()
    assert ("limit" in body["error"], "limit" in body) == (value == "in_error", value == "top_level")


@pytest.mark.parametrize(("value", "name"), [("named", "schemas"), ("data", "data"), ("bare", None)])
def test_list_envelope(value: Any, name: str | None, start: Callable[..., Any]) -> None:
    api = start(switches=Switches(list_envelope=value))
    api.post("/schemas", {"name": "s", "categories": ["a"]})
    body = api.get("/schemas").json()
    assert [row["name"] for row in (body if name is None else body[name])] == ["s"]


def test_create_status(start: Callable[..., Any]) -> None:
    api = start(plan="pro", switches=Switches(create_status=200))
    assert api.post("/schemas", {"name": "s", "categories": ["a"]}).status_code == 200
    assert api.post("/webhooks", {"url": "https://e.org"}).status_code == 200


@pytest.mark.parametrize(("value", "written"), [("null", None), ("minus_one", -1), ("word", "unlimited")])
def test_unlimited(value: Any, written: Any, start: Callable[..., Any]) -> None:
    usage = start(plan="enterprise", switches=Switches(unlimited=value)).get("/usage").json()
    assert usage["limits"]["requests"] == usage["limits"]["schemas"] == usage["usage"]["remaining"] == written


def test_job_ids_can_be_integers(start: Callable[..., Any]) -> None:
    api = start(switches=Switches(job_ids="integer"))
    ids = [api.classify().json()["id"], api.classify(**{"async": True}).json()["id"]]
    assert [api.get("/jobs", id=id).json()["id"] for id in ids] == ids
    assert all(type(id) is int for id in ids)
    assert api.batch("a").json()["id"].startswith("batch_")


@pytest.mark.parametrize(("value", "served"), [("both", [200, 200]), ("v1", [200, 404]), ("api_v1", [404, 200])])
def test_base_paths(value: Any, served: list[int], start: Callable[..., Any]) -> None:
    api = start(switches=Switches(base_paths=value))
    assert [api.get(f"{api.root_url}{base}/usage").status_code for base in ("/v1", "/api/v1")] == served


def test_missing_item_id(start: Callable[..., Any]) -> None:
    api = start(switches=Switches(missing_item_id="position"))
    rows = api.post("/batch", {"items": [{"input": "a"}, {"id": "mine", "input": "b"}, {"input": "c"}]}).json()
    assert [row["id"] for row in rows["results"]] == ["0", "mine", "2"]


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("all", {"GET", "PUT", "PATCH", "DELETE"}),
        ("put", {"GET", "PUT", "DELETE"}),
        ("patch", {"GET", "PATCH", "DELETE"}),
        ("none", set[str]()),
    ],
)
def test_sub_resources(value: Any, allowed: set[str], start: Callable[..., Any]) -> None:
    api = start(plan="pro", switches=Switches(sub_resources=value))
    bodies = {"schemas": {"name": "s", "categories": ["a"]}, "webhooks": {"url": "https://e.org"}}
    for name, body in bodies.items():
        id = api.post(f"/{name}", body).json()["id"]
        for at in (f"/{name}/{id}", f"/{name}?id={id}"):
            for method in ("GET", "PUT", "PATCH"):
                status = api.call(method, at, json=body if method != "GET" else None).status_code
                assert status == (200 if method in allowed else 405)
        assert api.get(f"/{name}").status_code == (200 if "GET" in allowed else 405)
        assert api.call("DELETE", f"/{name}/{id}").status_code == (204 if "DELETE" in allowed else 405)


@pytest.mark.parametrize(
    ("value", "query", "path"), [("both", "job", 200), ("query", "job", 404), ("path", "list", 200)]
)
def test_job_lookup(value: Any, query: str, path: int, start: Callable[..., Any]) -> None:
    api = start(switches=Switches(job_lookup=value))
    id = api.classify().json()["id"]
    assert ("jobs" in api.get("/jobs", id=id).json()) == (query == "list")
    assert api.get(f"/jobs/{id}").status_code == path


def test_job_404_code(start: Callable[..., Any]) -> None:
    api = start(switches=Switches(job_404_code="not_found"))
    assert api.get("/jobs", id="1").json()["error"]["code"] == "not_found"


def test_over_max_clamps(start: Callable[..., Any]) -> None:
    api = start(switches=Switches(over_max="clamp"))
    assert api.get("/jobs", limit=1000).json()["limit"] == 100
    many = [f"label {n}" for n in range(12)]
    result = api.classify(categories=many, mode="top_n", top_n=50).json()["result"]
    assert len(result["labels"]) == 10


def test_batch_limit_is_enforced_whatever_usage_says(start: Callable[..., Any]) -> None:
    api = start(switches=Switches(batch_limit=25, batch_over_size=413))
    assert api.get("/usage").json()["limits"]["batch_size"] == 50
    assert api.batch(*["x"] * 25).status_code == 200
    assert api.batch(*["x"] * 26).status_code == 413


def test_batch_over_quota_does_what_fits(start: Callable[..., Any]) -> None:
    api = start(switches=Switches(batch_over_quota="partial"))
    api.add_key(api.key, used=9_998)
    rows = api.batch("a", "b", "c").json()
    assert [row["status"] for row in rows["results"]] == ["completed", "completed", "failed"]
    assert rows["results"][2]["error"]["code"] == "rate_limit_exceeded"
    assert api.bill().charged == 2
    assert api.batch("a").status_code == 429


def test_only_completed_inputs_count(start: Callable[..., Any]) -> None:
    api = start(switches=Switches(counts="completed"))
    api.script("bad", error="Boom.")
    api.batch("bad", "good")
    assert api.bill().charged == api.used() == 1


@pytest.mark.parametrize(("value", "status"), [("accept", 202), ("ignore", 200), ("refuse", 400)])
def test_batch_async(value: Any, status: int, start: Callable[..., Any]) -> None:
    assert start(switches=Switches(batch_async=value)).batch("a", **{"async": True}).status_code == status


@pytest.mark.parametrize(("value", "label"), [("item", "cats"), ("schema", "billing")])
def test_batch_precedence(value: Any, label: str, start: Callable[..., Any]) -> None:
    api = start(switches=Switches(batch_precedence=value))
    schema = api.post("/schemas", {"name": "s", "categories": ["billing", "technical"]}).json()["id"]
    rows = api.post("/batch", {"schema": schema, "items": [{"input": "invoice", "categories": ["cats"]}]}).json()
    assert rows["results"][0]["result"]["label"] == label


@pytest.mark.parametrize(
    ("value", "media", "batch"), [("never", 200, 200), ("media", 202, 200), ("batch", 200, 202), ("both", 202, 202)]
)
def test_unasked_async(value: Any, media: int, batch: int, start: Callable[..., Any]) -> None:
    api = start(plan="pro", switches=Switches(unasked_async=value))
    assert api.classify("https://e.org/a.mp4", type="video").status_code == media
    assert api.batch("a").status_code == batch
    assert api.classify("text").status_code == 200


def test_queued_status_and_job_delay(start: Callable[..., Any]) -> None:
    switches = Switches(queued_status="processing", job_delay=50)
    api = start(switches=switches, clock=SandboxClock(frozen=True))
    answer = api.classify(**{"async": True}).json()
    assert answer["status"] == "processing"
    api.clock.advance(seconds=49)
    assert api.get("/jobs", id=answer["id"]).json()["status"] == "processing"
    api.clock.advance(seconds=2)
    assert api.get("/jobs", id=answer["id"]).json()["status"] == "completed"


def test_max_body(start: Callable[..., Any]) -> None:
    assert start(switches=Switches(max_body=100)).classify("x" * 100).status_code == 413


@pytest.mark.parametrize(
    ("value", "given", "generated"), [("generated", False, True), ("always", True, True), ("never", False, False)]
)
def test_secret_in_answer(value: Any, given: bool, generated: bool, start: Callable[..., Any]) -> None:
    api = start(plan="pro", switches=Switches(secret_in_answer=value))
    with_own = api.post("/webhooks", {"url": "https://e.org", "secret": "mine"}).json()
    without = api.post("/webhooks", {"url": "https://e.org"}).json()
    assert ("secret" in with_own, "secret" in without) == (given, generated)
    assert "secret" not in str(api.get("/webhooks").json())


def test_php_quirks_reach_the_bytes(start: Callable[..., Any]) -> None:
    api = start(switches=Switches(php_quirks=True, by_type="used"))
    assert b'"by_type":[]' in api.get("/usage").content
    answer = api.classify("invoice", categories=["invoice", "a/é"])
    assert b'"confidence":1}' in answer.content
    api.script("x", "a/é")
    assert b'"label":"a\\/\\u00e9"' in api.classify("x").content
    text = "the password was reset, then the api gave an error"
    filtered = api.classify(text, categories=CATEGORIES, mode="multi", threshold=0.5).json()["result"]["labels"]
    assert list(filtered) == ["1", "2"]
    assert filtered["2"]["label"] == "account"
    whole = api.classify(text, categories=CATEGORIES, mode="multi").json()["result"]["labels"]
    assert isinstance(whole, list)


def test_switches_are_read_from_words() -> None:
    words = [
        "create_status=200",
        "php_quirks=true",
        "batch_limit=25",
        "job_delay=1.5",
        "job_404_code=gone",
        "over_max=clamp",
    ]
    expected = Switches(
        create_status=200, php_quirks=True, batch_limit=25, job_delay=1.5, job_404_code="gone", over_max="clamp"
    )
    assert Switches.parse(words) == expected
    assert Switches.parse(["batch_limit=none"]) == Switches()


@pytest.mark.parametrize(
    "word", ["nonsense=1", "create_status", "create_status=204", "php_quirks=1", "job_delay=soon", "batch_limit=x"]
)
def test_a_wrong_word_is_named(word: str) -> None:
    with pytest.raises(ConfigurationError, match=word.partition("=")[0]):
        Switches.parse([word])


def test_a_wrong_value_is_refused_with_the_right_ones() -> None:
    with pytest.raises(ConfigurationError, match="unlimited must be one of null, minus_one, word"):
        Switches(unlimited="forever")  # type: ignore[arg-type]
