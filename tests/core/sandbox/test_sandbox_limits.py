"""Plans, quotas, history, keys and strict validation (API reference: Plan comparison, Rate limits, Errors)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from classifaily_connectors.sandbox import SandboxClock

CATEGORIES = ["billing", "technical"]
URLS = {"image": "https://e.org/1.jpg", "audio": "https://e.org/1.mp3", "video": "https://e.org/1.mp4"}


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


@pytest.mark.parametrize(
    ("plan", "requests", "size", "schemas", "media"),
    [
        ("free", 100, 1, 0, ()),
        ("starter", 10_000, 50, 10, ("image",)),
        ("pro", 100_000, 500, None, ("image", "audio", "video")),
        ("enterprise", None, 500, None, ("image", "audio", "video")),
    ],
)
def test_each_plan_allows_what_the_comparison_says(
    *,
    plan: str,
    requests: int | None,
    size: int,
    schemas: int | None,
    media: tuple[str, ...],
    start: Callable[..., Any],
) -> None:
    api = start(plan=plan)
    limits = api.get("/usage").json()["limits"]
    assert (limits["requests"], limits["batch_size"], limits["schemas"]) == (requests, size, schemas)
    assert limits["media"] is bool(media)
    assert api.batch(*["hello"] * size).status_code == 200
    assert code(api.batch(*["hello"] * (size + 1))) == (
        (403, "plan_restriction") if size == 1 else (400, "invalid_request")
    )
    for type, url in URLS.items():
        answer = api.classify(url, type=type)
        assert answer.status_code == 200 if type in media else code(answer) == (403, "plan_restriction")
    paid = plan != "free"
    assert api.classify("x", categories=CATEGORIES).status_code == (200 if paid else 403)
    assert api.post("/schemas", {"name": "s", "categories": CATEGORIES}).status_code == (201 if paid else 403)
    hook = api.post("/webhooks", {"url": "https://e.org/hook"})
    assert hook.status_code == (201 if plan in ("pro", "enterprise") else 403)
    assert api.classify("x", explain=True).json()["result"]["explanation"]
    assert api.classify("x", **{"async": True}).status_code == 202


def test_ten_webhooks_on_pro_and_no_more(start: Callable[..., Any]) -> None:
    api = start(plan="pro")
    made = [api.post("/webhooks", {"url": f"https://e.org/{n}"}).status_code for n in range(11)]
    assert made == [201] * 10 + [403]


def test_the_month_ends_on_the_first_at_midnight_utc(start: Callable[..., Any]) -> None:
    """Limits reset on the 1st of each calendar month at midnight UTC."""
    api = start(plan="free", clock=SandboxClock(datetime(2026, 12, 31, 23, 59, tzinfo=UTC), frozen=True))
    api.add_key(api.key, plan="free", used=99)
    assert api.classify().status_code == 200
    refused = api.classify()
    assert code(refused) == (429, "rate_limit_exceeded")
    assert {key: refused.json()["error"][key] for key in ("limit", "used", "resets_at")} == {
        "limit": 100,
        "used": 100,
        "resets_at": "2027-01-01T00:00:00Z",
    }
    api.clock.advance(minutes=1)
    assert api.classify().status_code == 200
    assert api.used() == 1
    assert api.get("/usage", month="2026-12").json()["usage"]["requests"] == 100
    assert code(api.get("/usage", month="2026-13")) == (400, "invalid_request")


def test_an_upgrade_restores_access_at_once(start: Callable[..., Any]) -> None:
    api = start(plan="free")
    api.add_key(api.key, plan="free", used=100)
    assert api.classify().status_code == 429
    api.add_key(api.key, plan="starter")
    assert api.classify().status_code == 200


def test_a_batch_over_the_rest_is_refused_whole_and_free(start: Callable[..., Any]) -> None:
    api = start(plan="starter")
    api.add_key(api.key, plan="starter", used=9_998)
    assert api.batch("a", "b", "c").status_code == 429
    assert api.bill().charged == 0
    assert api.used() == 9_998
    assert api.batch("a", "b").status_code == 200


def test_the_bill_names_every_paid_input_once_per_payment(start: Callable[..., Any]) -> None:
    api = start()
    api.classify("naïve ☕")
    api.batch("naïve ☕", "other", "other")
    by_input = {hashlib.sha256(text.encode()).hexdigest(): 2 for text in ("naïve ☕", "other")}
    assert api.bill() == (4, by_input)
    assert httpx.get(f"{api.root_url}/__sandbox/bill").json() == {"charged": 4, "by_input": by_input}
    usage = api.get("/usage").json()["usage"]
    assert usage["requests"] == usage["by_type"]["text"] == 4
    api.reset_bill()
    assert api.bill() == (0, {})
    assert api.used() == 4


@pytest.mark.parametrize(("plan", "days"), [("free", 7), ("starter", 30), ("pro", 365), ("enterprise", None)])
def test_jobs_are_gone_when_the_history_ends(plan: str, days: int | None, start: Callable[..., Any]) -> None:
    api = start(plan=plan)
    id = api.classify().json()["id"]
    api.clock.advance(days=(days or 4000) - 0.5)
    assert api.get("/jobs", id=id).status_code == 200
    api.clock.advance(days=1)
    gone = api.get("/jobs", id=id)
    assert gone.status_code == 200 if days is None else code(gone) == (404, "job_not_found")
    assert api.get("/jobs").json()["total"] == (1 if days is None else 0)


def test_async_jobs_pass_through_every_status_on_the_clock(start: Callable[..., Any]) -> None:
    api = start(clock=SandboxClock(frozen=True))
    api.script("slow", delay=60)
    id = api.classify("slow", **{"async": True}).json()["id"]
    seen: list[str] = []
    for _ in range(3):
        seen.append(api.get("/jobs", id=id).json()["status"])
        api.clock.advance(seconds=30)
    assert seen == ["pending", "processing", "completed"]
    batch = api.batch("a", "b", **{"async": True})
    assert batch.status_code == 202
    assert api.get("/jobs", id=batch.json()["id"]).json()["results"] is None
    api.clock.advance(seconds=1)
    done = api.get("/jobs", id=batch.json()["id"]).json()
    assert [row["id"] for row in done["results"]] == ["i0", "i1"]


def test_jobs_are_listed_newest_first_by_page_and_filter(start: Callable[..., Any]) -> None:
    api = start(plan="pro")
    ids = [api.classify(f"text {n}").json()["id"] for n in range(5)]
    picture = api.classify(URLS["image"], type="image").json()["id"]
    assert [int(id) for id in ids] == sorted(int(id) for id in ids)
    page = api.get("/jobs", limit=2, offset=1).json()
    assert [job["id"] for job in page["jobs"]] == [ids[4], ids[3]]
    assert (page["total"], page["limit"], page["offset"]) == (6, 2, 1)
    assert [job["id"] for job in api.get("/jobs", input_type="image").json()["jobs"]] == [picture]
    assert api.get("/jobs", status="failed").json()["jobs"] == []
    for query in ({"limit": 101}, {"limit": 0}, {"offset": -1}, {"limit": "many"}, {"input_type": "pdf"}):
        assert code(api.get("/jobs", **query)) == (400, "invalid_request")


def test_nobody_sees_another_accounts_records(start: Callable[..., Any]) -> None:
    api = start(plan="pro")
    api.add_key("cai_live_other", plan="pro")
    job = api.classify().json()["id"]
    schema = api.post("/schemas", {"name": "s", "categories": ["a"]}).json()["id"]
    hook = api.post("/webhooks", {"url": "https://e.org"}).json()["id"]
    api.client.headers["Authorization"] = "Bearer cai_live_other"
    assert code(api.get("/jobs", id=job)) == (404, "job_not_found")
    assert code(api.get(f"/schemas/{schema}")) == (404, "schema_not_found")
    assert code(api.classify("x", schema=schema)) == (404, "schema_not_found")
    assert api.call("DELETE", f"/webhooks/{hook}").status_code == 404
    assert [api.get(path).json()["total"] for path in ("/jobs", "/schemas", "/webhooks")] == [0, 0, 0]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({}, "API key missing."),
        ({"Authorization": "Basic abc"}, "API key malformed."),
        ({"Authorization": "Bearer"}, "API key malformed."),
        ({"Authorization": "Bearer cai_live_unknown"}, "API key is not valid."),
    ],
)
def test_bad_keys_are_401(header: dict[str, str], message: str, start: Callable[..., Any]) -> None:
    api = start()
    answer = httpx.get(f"{api.base_url}/usage", headers=header)
    assert code(answer) == (401, "unauthorized")
    assert answer.json()["error"]["message"] == message


def test_keys_are_revoked_lapsed_and_restored(start: Callable[..., Any]) -> None:
    api = start()
    api.revoke(api.key)
    assert code(api.get("/usage")) == (401, "unauthorized")
    api.lapse(api.key)
    assert code(api.get("/usage")) == (403, "subscription_inactive")
    api.add_key(api.key)
    assert api.get("/usage").status_code == 200


def test_both_base_paths_serve_and_nothing_else_does(start: Callable[..., Any]) -> None:
    api = start()
    headers = {"Authorization": f"Bearer {api.key}"}
    for base, status in (("/v1", 200), ("/api/v1", 200), ("/v2", 404), ("", 404)):
        assert httpx.get(f"{api.root_url}{base}/usage", headers=headers).status_code == status
    assert code(api.get("/nothing")) == (404, "not_found")


@pytest.mark.parametrize(
    "change",
    [
        {"input": None},
        {"input": 7},
        {"input": "  "},
        {"type": "pdf"},
        {"type": ["text"]},
        {"categories": "billing"},
        {"categories": []},
        {"categories": [""]},
        {"categories": [7]},
        {"categories": [{"description": "no name"}]},
        {"categories": [{"name": "a", "description": 7}]},
        {"categories": [{"name": "a", "examples": "b"}]},
        {"categories": [{"name": "a", "examples": [1]}]},
        {"schema": "17"},
        {"schema": True},
        {"mode": "all"},
        {"top_n": 0},
        {"top_n": 11},
        {"top_n": 2.5},
        {"threshold": -0.1},
        {"threshold": "high"},
        {"threshold": True},
        {"explain": "yes"},
        {"async": 1},
        {"type": "image", "input": "no url"},
        {"type": "image", "input": "ftp://e.org/1.jpg"},
        {"type": "image", "input": "data:image/png;base64,!!!!"},
        {"type": "image", "input": "data:image/png;base64,aGVsbG8="},
        {"type": "image", "input": "data:text/plain;base64,aGVsbG8="},
        {"type": "audio", "input": "data:audio/mp3;base64,aGVsbG8="},
        {"type": "video", "input": "https://["},
    ],
    ids=str,
)
def test_invalid_fields_are_400_and_cost_nothing(change: dict[str, Any], start: Callable[..., Any]) -> None:
    api = start(plan="pro")
    for answer in (
        api.post("/classify", {"input": "x", **change}),
        api.post("/batch", {"items": [{"input": "x", **change}], **change}),
    ):
        if answer.request.url.path.endswith("batch") and set(change) <= {"async"}:
            continue
        assert code(answer) == (400, "invalid_request")
        assert next(iter(change)) in answer.json()["error"]["message"] or "input" in change
    assert api.bill().charged == 0
    assert api.used() == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"input": NaN}', b"\xff", b'{"input": "\\ud800"}', b"[" * 100_000],
    ids=["empty", "open", "nan", "not utf-8", "lone surrogate", "deep"],
)
def test_what_is_no_json_is_invalid_json(body: bytes, start: Callable[..., Any]) -> None:
    api = start()
    answer = api.call("POST", "/classify", content=body, headers={"Content-Type": "application/json"})
    assert code(answer) == (400, "invalid_json")


def test_content_type_may_carry_a_charset_and_nothing_else(start: Callable[..., Any]) -> None:
    api = start()
    for header, status in (
        ("application/json; charset=utf-8", 200),
        ("text/plain", 400),
        ("application/x-www-form-urlencoded", 400),
    ):
        answer = api.call("POST", "/classify", content=b'{"input": "x"}', headers={"Content-Type": header})
        assert answer.status_code == status
    assert code(api.post("/classify", [1])) == (400, "invalid_request")


def test_unknown_fields_are_tolerated_and_nulls_are_absent(start: Callable[..., Any]) -> None:
    body = {"input": "x", "colour": 1, "categories": None, "schema": None, "mode": None, "top_n": None, "async": None}
    assert start(plan="free").post("/classify", body).status_code == 200


def test_a_body_over_one_mebibyte_is_413_without_json(start: Callable[..., Any]) -> None:
    api = start()
    fits = json.dumps({"input": "x" * (1024 * 1024 - 20)})
    assert len(fits) < 1024 * 1024
    for body, status in ((fits, 200), (fits + " " * 100, 413)):
        answer = api.call("POST", "/classify", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == status
    assert answer.content == b""
    assert api.bill().charged == 1


def test_a_schema_brings_its_categories_mode_and_count(start: Callable[..., Any]) -> None:
    api = start()
    schema = api.post("/schemas", {"name": "s", "categories": ["billing", "technical"], "mode": "multi"}).json()["id"]
    answer = api.classify("My invoice is wrong", schema=schema, categories=["cats", "dogs"]).json()
    assert [label["label"] for label in answer["result"]["labels"]] == ["billing", "technical"]
    assert answer["meta"]["mode"] == "multi"
    assert api.classify("My invoice", schema=schema, mode="single").json()["result"]["label"] == "billing"
    assert api.get(f"/schemas/{schema}").json()["total_uses"] == 2
    assert api.call("PUT", f"/schemas/{schema}", json={"name": "t", "categories": ["x"]}).json()["mode"] == "single"
    assert api.call("DELETE", "/schemas", params={"id": schema}).status_code == 204
    assert api.get(f"/schemas/{schema}").status_code == 404


def test_unreachable_media_costs_nothing_at_once_and_fails_later(start: Callable[..., Any]) -> None:
    api = start(plan="pro")
    url = "https://e.org/missing.jpg"
    assert api.classify(url, type="image").status_code == 400
    assert api.bill().charged == 0
    id = api.classify(url, type="image", **{"async": True}).json()["id"]
    api.clock.advance(seconds=1)
    assert api.get("/jobs", id=id).json()["error"]["message"] == "Could not fetch input URL."
    rows = api.post("/batch", {"items": [{"input": url, "type": "image"}, {"input": "hello"}]}).json()
    assert [row["status"] for row in rows["results"]] == ["failed", "completed"]
    assert rows["meta"]["failed"] == 1
    assert api.bill().charged == 3
