"""Every exchange of the contract, read by both clients over real HTTP.

The files are the vendor's documented examples and the plausible answers where the vendor says nothing. A request that
the client refuses by itself is sent with a harmless argument in the place of the wrong one, so that the server's own
refusal is read too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest

import classifaily_connectors as cc
from classifaily_connectors import errors

if TYPE_CHECKING:
    from conftest import Answer, Asked, Call, Caller, Canned

FILES = sorted((Path(__file__).parent.parent / "contract").glob("*.json"))
EXCHANGES = {path.stem: json.loads(path.read_text()) for path in FILES}
TO_API = {name: each for name, each in EXCHANGES.items() if each["direction"] == "client->api"}

CLASSES: dict[tuple[int, str | None], type[errors.ClassifailyError]] = {
    (301, None): cc.ConfigurationError,
    (400, "invalid_json"): cc.InvalidRequestError,
    (400, "invalid_request"): cc.InvalidRequestError,
    (400, None): cc.InvalidRequestError,
    (401, "unauthorized"): cc.AuthenticationError,
    (403, "subscription_inactive"): cc.SubscriptionInactiveError,
    (403, "plan_restriction"): cc.PlanRestrictionError,
    (404, "schema_not_found"): cc.SchemaNotFoundError,
    (404, "job_not_found"): cc.NotFoundError,
    (405, "method_not_allowed"): cc.MethodNotAllowedError,
    (429, "rate_limit_exceeded"): cc.QuotaExceededError,
    (500, "server_error"): cc.ServerError,
    (503, "maintenance"): cc.ServerError,
}


def options(body: dict[str, Any], *names: str) -> dict[str, Any]:
    """The named fields as arguments the client accepts."""
    found = {name: body[name] for name in names if name in body}
    if "schema_id" in body:
        found["schema"] = body["schema_id"]
    for name in ("type", "mode"):
        if found.get(name) == "pdf":
            found[name] = "text"
    if found.get("threshold", 0) > 1:
        found["threshold"] = 1
    return found


def invocation(exchange: dict[str, Any]) -> Call:
    """The client call that makes the exchange's request."""
    request = exchange["request"]
    body = request["json"] or {}
    parts = urlsplit(request["path"])
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    _, resource, *tail = parts.path.split("/")
    ident = tail[0] if tail else query.get("id")
    match request["method"], resource:
        case _, "classify":
            verb = "submit" if body.get("async") else "classify"
            fields = options(body, "categories", "schema", "type", "mode", "top_n", "threshold", "explain")
            return lambda client: getattr(client, verb)(body.get("input") or "x", **fields)
        case "POST", "batch":
            items = [{"input": "x", **item} for item in body["items"]] or ["x"]
            fields = options(body, "categories", "schema", "mode", "threshold", "explain")
            return lambda client: client.batch(items, **fields)
        case "POST", "schemas":
            fields = options(body, "description", "type")
            fields |= {"mode": body["mode"]} if body.get("mode") in ("single", "multi") else {}
            return lambda client: client.schemas.create(
                body.get("name") or "x", body.get("categories") or ["x"], **fields
            )
        case "GET", "schemas" if ident:
            return lambda client: client.schemas.get(ident)
        case "GET", "schemas":
            return lambda client: client.schemas.list()
        case "PUT" | "PATCH", "schemas":
            return lambda client: client.schemas.update(ident, **options(body, "name", "categories", "description"))
        case "DELETE", "schemas":
            return lambda client: client.schemas.delete(ident)
        case "GET", "jobs" if ident:
            return lambda client: client.jobs.get(ident)
        case _, "jobs":
            fields = {name: int(value) if value.isdecimal() else value for name, value in query.items()}
            return lambda client: client.jobs.list(**fields)
        case "GET", "usage":
            return lambda client: client.usage(query.get("month"))
        case "POST", "webhooks":
            fields = options(body, "events", "secret")
            return lambda client: client.webhooks.create(body["url"], **fields)
        case "GET", "webhooks":
            return lambda client: client.webhooks.list()
        case "DELETE", "webhooks":
            return lambda client: client.webhooks.delete(ident)
        case _:
            raise AssertionError(f"no call for {request['method']} {request['path']}")


def server(exchange: dict[str, Any]) -> Any:
    """Answers as the exchange says, and a poll for the job of a 202 with that job, done."""
    response = exchange["response"]
    raw = response["raw"].encode() if "raw" in response else json.dumps(response["json"]).encode()
    accepted = response["json"] if response["status"] == 202 else None

    def respond(asked: Asked) -> Answer:
        if accepted and asked.method == "GET":
            ident = accepted.get("id") or accepted["job_id"]
            items = exchange["request"]["json"].get("items", [])
            verdict = {"label": "other", "confidence": 0.5}
            results = [{"id": item["id"], "status": "completed", "result": verdict} for item in items]
            done = {"id": ident, "status": "completed", "result": verdict, "results": results}
            return 200, {"Content-Type": "application/json"}, json.dumps(done).encode()
        return response["status"], response["headers"], raw

    return respond


def verdicts(result: Any) -> list[tuple[str, float]]:
    """What a `result` says, best first, worked out by hand and not by the package."""
    if not result:
        return []
    labels = result.get("labels", [result])
    listed = list(labels.values()) if isinstance(labels, dict) else labels
    return sorted(((each["label"], each["confidence"]) for each in listed if each["label"]), key=lambda each: -each[1])


def seen(answer: cc.Classification) -> list[tuple[str, float | None]]:
    return [(label.label, label.confidence) for label in answer.labels]


@pytest.mark.parametrize("name", TO_API)
def test_every_exchange_is_read(name: str, caller: Caller, canned: Canned) -> None:
    exchange = TO_API[name]
    response = exchange["response"]
    canned.respond = server(exchange)
    if response["status"] >= 300:
        # Read once, not sat out: a Retry-After of the contract is seconds, and test_call proves the waiting.
        caller.settings["retry"] = cc.RetryPolicy(attempts=1)
        with pytest.raises(errors.ClassifailyError) as caught:
            caller(invocation(exchange))
        check_error(caught.value, response)
        return
    answer = caller(invocation(exchange))
    check_answer(answer, exchange)
    sent = canned.asked[0]
    assert sent.headers["authorization"].startswith("Bearer cai_live_")
    assert ("content-type" in sent.headers) == (sent.method in ("POST", "PUT", "PATCH"))


def check_error(error: errors.ClassifailyError, response: dict[str, Any]) -> None:
    wire = response["json"] or {}
    detail = wire.get("error")
    told = detail if isinstance(detail, dict) else {"message": detail}
    kind = CLASSES[response["status"], told.get("code")]
    if "Retry-After" in response["headers"] and response["status"] == 429:
        kind = cc.RateLimitedError
    assert type(error) is kind
    if isinstance(error, cc.ConfigurationError):
        assert "https://classifaily.com/api/v1" in str(error)
        return
    assert isinstance(error, cc.APIError)
    assert error.status == response["status"]
    assert error.code == told.get("code")
    if not isinstance(error, cc.MethodNotAllowedError):
        assert told["message"] in str(error)
    assert error.docs == told.get("docs")
    for field in ("limit", "used"):
        assert getattr(error, field) == wire.get(field, told.get(field))
    assert (error.resets_at is not None) == ("resets_at" in wire or "resets_at" in told)


def check_answer(answer: Any, exchange: dict[str, Any]) -> None:
    response, request = exchange["response"], exchange["request"]
    wire = response["json"]
    if response["status"] == 204:
        assert answer is None
    elif isinstance(answer, cc.BatchResult):
        check_batch(answer, wire, request["json"]["items"])
    elif isinstance(answer, cc.Job) and response["status"] == 202:
        assert answer.id == (wire.get("id") or wire["job_id"])
        assert answer.status == "pending" or answer.labels
    elif isinstance(answer, cc.Job):
        check_job(answer, wire["jobs"][0] if "jobs" in wire else wire)
    elif isinstance(answer, cc.Classification):
        assert seen(answer) == verdicts(wire["result"])
        assert answer.id == wire.get("id")
        assert answer.type == wire.get("type")
        if answer.labels and (wire["result"] or {}).get("explanation"):
            assert answer.explanation == wire["result"]["explanation"]
    elif isinstance(answer, cc.Usage):
        check_usage(answer, wire)
    elif isinstance(answer, cc.Schema):
        assert (answer.id, answer.name) == (wire["id"], wire["name"])
        names = [each if isinstance(each, str) else each["name"] for each in wire["categories"]]
        assert [each.name for each in answer.categories] == names
    elif isinstance(answer, cc.WebhookEndpoint):
        assert (answer.id, list(answer.events)) == (wire["id"], wire["events"])
        assert (answer.secret.get_secret_value() if answer.secret else None) == wire.get("secret")
    else:
        listed = next((wire[each] for each in ("jobs", "schemas", "webhooks") if each in wire), wire)
        assert [str(each.id) for each in answer] == [str(each["id"]) for each in listed]


def check_batch(answer: cc.BatchResult, wire: dict[str, Any], items: list[dict[str, Any]]) -> None:
    assert len(answer.results) == len(items)
    assert [each.id for each in answer.results] == [str(item.get("id", place)) for place, item in enumerate(items)]
    answered = {str(each["id"]): each for each in wire.get("results", [])}
    for place, result in enumerate(answer.results):
        told = answered.get(str(result.id)) or (wire["results"][place] if "None" in answered else None)
        if told is None and "results" in wire:
            assert result.failed
            assert result.error is not None
            assert result.error.code == "result_missing"
        elif told is not None:
            assert result.status == told["status"]
            assert seen(result) == verdicts(told.get("result"))
            assert (result.error is not None) == bool(told.get("error"))


def check_job(job: cc.Job, wire: dict[str, Any]) -> None:
    assert (job.id, job.status) == (wire["id"], wire["status"])
    assert job.input_type == job.type == wire.get("input_type")
    assert seen(job) == verdicts(wire.get("result"))
    assert job.meta.get("model") == wire.get("model_used")
    assert job.meta.get("tokens") == wire.get("tokens_used")
    assert str(job.error or "") == (wire.get("error") or "")
    assert [each.name for each in job.categories] == (wire.get("categories") or [])
    assert job.schema_id == wire.get("schema_id")
    assert len(job.results) == len(wire.get("results", []))
    assert job.done == (wire["status"] in ("completed", "failed"))


def check_usage(usage: cc.Usage, wire: dict[str, Any]) -> None:
    assert (usage.period, usage.plan) == (wire["period"], wire["plan"])
    limits, used = wire["limits"], wire["usage"]
    unlimited = (-1, "unlimited", None)
    assert usage.limits.requests == (None if limits["requests"] in unlimited else limits["requests"])
    assert usage.limits.schemas == (None if limits["schemas"] in unlimited else limits["schemas"])
    assert usage.limits.batch_size == limits["batch_size"]
    assert usage.remaining == (None if used["remaining"] in unlimited else used["remaining"])
    assert usage.usage.by_type == (used["by_type"] or {})


DOCUMENTED_BODIES = [
    name
    for name, each in TO_API.items()
    if each["basis"]["request"] == "documented" and each["request"]["json"] and each["response"]["status"] != 400
]


@pytest.mark.parametrize("name", DOCUMENTED_BODIES)
def test_documented_requests_are_sent_as_documented(name: str, caller: Caller, canned: Canned) -> None:
    """What the vendor's page shows is what goes over the wire, defaults left out."""
    exchange = TO_API[name]
    if exchange["request"]["json"].get("mode") == "top_n" and exchange["request"]["path"] == "/schemas":
        return  # refused here
    canned.respond = server(exchange)
    try:
        caller(invocation(exchange))
    except errors.ClassifailyError:
        assert exchange["response"]["status"] >= 300
    sent = canned.asked[0]
    assert sent.path == f"/v1{exchange['request']['path']}"
    assert without_defaults(sent.json) == without_defaults(exchange["request"]["json"])


def without_defaults(body: dict[str, Any]) -> dict[str, Any]:
    body = {name: value for name, value in body.items() if (name, value) != ("type", "text")}
    if "items" in body:
        body["items"] = [{"id": str(place), **item} for place, item in enumerate(body["items"])]
    return body
