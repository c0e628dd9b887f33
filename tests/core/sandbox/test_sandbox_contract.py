"""Every client->api exchange of tests/contract, answered by the sandbox in the same shape.

A `documented` exchange must match with default switches, an `inferred` one under the switch that produces it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from classifaily_connectors.sandbox import DEFAULT_KEY, Fault, SandboxClock, Switches

CONTRACT = Path(__file__).parents[2] / "contract"
EXCHANGES = {
    path.stem: exchange
    for path in sorted(CONTRACT.glob("*.json"))
    if (exchange := json.loads(path.read_text("utf-8")))["direction"] == "client->api"
}
PARCEL_DESK = EXCHANGES["089_schemas_create_rich"]["request"]["json"]
PARCELS = ["lost_parcel", "damaged_goods", "address_change", "invoice", "other"]

# The guides, the home page and two examples of the reference leave fields out that the reference's table has.
ABBREVIATED = ("002", "003", "013", "014", "057")


@dataclass
class Case:
    """What an exchange needs beyond a fresh sandbox of its plan."""

    switches: dict[str, Any] = field(default_factory=dict)
    used: int | None = None
    prepare: Callable[[Any], object] = lambda api: None
    fault: Fault | None = None
    frozen: bool = False


def schema(id: int) -> Callable[[Any], object]:
    def prepare(api: Any) -> None:
        api._core.service.state.counters["schemas"] = id
        assert api.post("/schemas", PARCEL_DESK).json()["id"] == id

    return prepare


def schemas(number: int) -> Callable[[Any], object]:
    return lambda api: [api.post("/schemas", {"name": f"s{n}", "categories": ["a"]}) for n in range(number)]


def webhook(api: Any) -> None:
    api._core.service.state.counters["webhooks"] = 5
    api.post("/webhooks", EXCHANGES["133_webhooks_create_full"]["request"]["json"])


def job(id: str, path: str, body: dict[str, Any], *, failed: str = "", at: float = 0.0) -> Callable[[Any], object]:
    """A job of that id; `at` is how far through its delay it is, on a clock that stands still."""

    def prepare(api: Any) -> None:
        if failed:
            api.script(body["input"], error=failed)
        if body.get("schema"):
            schema(body["schema"])(api)
        answer = api.post(path, body)
        assert answer.status_code == 202, answer.text
        state = api._core.service.state
        state.jobs = {id: replace(state.jobs.pop(answer.json()["id"]), id=id)}
        api.clock.advance(seconds=at)

    return prepare


AUDIO = {
    "input": "https://media.example.org/calls/55.mp3",
    "type": "audio",
    "categories": ["complaint", "praise"],
    "async": True,
}
VIDEO = {"input": "https://media.example.org/dock/10.mp4", "type": "video", "schema": 31, "async": True}
TEXT = {"input": "Tracking has not moved for nine days.", "categories": PARCELS, "async": True}
ITEMS = EXCHANGES["073_batch_partial_failure"]["request"]["json"]["items"]
LAMP = "Lamp shade cracked."

CASES = {
    "010": Case(prepare=schema(17)),
    "011": Case(prepare=schema(17)),
    "020": Case({"below_threshold": "null_label"}),
    "022": Case({"php_quirks": True}),
    "023": Case(
        {"php_quirks": True},
        prepare=lambda api: api.script(
            "x", EXCHANGES["023_classify_labels_as_numeric_keyed_object"]["response"]["json"]["result"]
        ),
    ),
    "032": Case({"job_id_key": "job_id"}),
    "034": Case({"unasked_async": "media", "queued_status": "processing"}),
    "046": Case(prepare=lambda api: api.revoke("cai_live_" + "dead" * 10)),
    "047": Case(prepare=lambda api: api.lapse(api.key)),
    "056": Case({"quota_fields": "top_level"}, used=10_000),
    "057": Case(used=100),
    "058": Case(fault=Fault(kind="429", retry_after=2)),
    "059": Case(fault=Fault(kind="500")),
    "061": Case(
        fault=Fault(
            kind="answer",
            status=503,
            headers={"Retry-After": "5"},
            body={"error": {"code": "maintenance", "message": "Back soon."}},
        )
    ),
    "062": Case({"error_shape": "string"}),
    "064": Case(
        fault=Fault(kind="answer", status=301, headers={"Location": "https://www.classifaily.com/api/v1/classify"})
    ),
    "068": Case(prepare=schema(17)),
    "073": Case(prepare=lambda api: api.script(LAMP, error="Model timeout.")),
    "074": Case({"failure_body": "absent"}, prepare=lambda api: api.script(LAMP, error="Model timeout.")),
    "076": Case(fault=Fault(kind="wrong_size_batch")),
    "079": Case({"unasked_async": "batch"}),
    "082": Case({"free_batch": "none"}),
    "092": Case({"schema_categories": "objects"}),
    "097": Case(prepare=schemas(10)),
    "098": Case(prepare=schema(17)),
    "100": Case(prepare=schema(17)),
    "101": Case(prepare=schema(17)),
    "103": Case(prepare=schema(17)),
    "104": Case(prepare=schema(17)),
    "106": Case({"sub_resources": "patch"}, prepare=schema(17)),
    "107": Case(prepare=job("7330", "/classify", AUDIO, at=1)),
    "109": Case(prepare=job("7331", "/classify", VIDEO), frozen=True),
    "110": Case(prepare=job("7331", "/classify", VIDEO, at=0.15), frozen=True),
    "112": Case({"failure_body": "string"}, prepare=job("7341", "/classify", TEXT, failed="Model timeout.", at=1)),
    "113": Case({"failure_body": "absent"}, prepare=job("7341", "/classify", TEXT, failed="Model timeout.", at=1)),
    "115": Case({"job_by_id": "listed"}, prepare=job("7330", "/classify", AUDIO, at=1)),
    "116": Case(prepare=job("batch_88aa01f", "/batch", {"categories": PARCELS, "items": ITEMS, "async": True}, at=1)),
    "119": Case({"list_envelope": "bare"}, prepare=job("7330", "/classify", AUDIO, at=1)),
    "124": Case(used=2480),
    "127": Case(used=51_234),
    "128": Case(used=7),
    "130": Case({"unlimited": "minus_one", "by_type": "used"}, used=900_000),
    "131": Case({"php_quirks": True, "by_type": "used"}),
    "139": Case(prepare=webhook),
    "140": Case(prepare=webhook),
}


def same_shape(want: Any, got: Any, where: str = "body", *, abbreviated: bool = False) -> None:
    """Field names and JSON types agree; lists entry by entry."""
    if isinstance(want, dict):
        assert isinstance(got, dict), f"{where}: {got!r} is no object"
        missing, extra = set(want) - set(got), set(got) - set(want)
        assert not missing, f"{where} lacks {missing}"
        assert abbreviated or not extra, f"{where} has {extra} too many"
        for name in want:
            same_shape(want[name], got[name], f"{where}.{name}", abbreviated=abbreviated)
    elif isinstance(want, list):
        assert isinstance(got, list), f"{where}: {got!r} is no array"
        assert len(want) == len(got) or (abbreviated and got), f"{where}: {got!r}"
        for index, (one, other) in enumerate(zip(want, got, strict=False)):
            same_shape(one, other, f"{where}[{index}]", abbreviated=abbreviated)
    elif isinstance(want, (int, float)) and not isinstance(want, bool):
        assert isinstance(got, (int, float)), f"{where}: {got!r} is no number"
        assert not isinstance(got, bool), f"{where}: {got!r} is no number"
    else:
        assert type(want) is type(got), f"{where}: {got!r} is no {type(want).__name__}"


@pytest.mark.parametrize("name", EXCHANGES)
def test_exchange_is_answered_in_the_documented_shape(name: str, start: Callable[..., Any]) -> None:
    exchange, case = EXCHANGES[name], CASES.get(name[:3], Case())
    if exchange["mark"] == "documented":
        assert not case.switches, "a documented exchange must hold under the defaults"
    plan = {"any": "starter", "starter (lapsed)": "starter"}.get(exchange["plan"], exchange["plan"])
    clock = SandboxClock(datetime(2026, 11, 2, 8, 15, 30, tzinfo=UTC), frozen=case.frozen)
    api = start(plan=plan, switches=Switches(**case.switches), clock=clock)
    api.add_key(DEFAULT_KEY, plan=plan, used=case.used)
    case.prepare(api)
    if case.fault:
        api.inject(case.fault)

    request, want = exchange["request"], exchange["response"]
    body = (
        {"content": request["raw"]}
        if request.get("raw")
        else {"json": request["json"]}
        if request["json"] is not None
        else {}
    )
    answer = httpx.request(request["method"], api.base_url + request["path"], headers=request["headers"], **body)

    assert answer.status_code == want["status"], answer.text
    for header, value in want["headers"].items():
        assert answer.headers[header] == value
    if want.get("json") is None:
        assert answer.content == b""
        return
    error = want["json"].get("error") if isinstance(want["json"], dict) else None
    if isinstance(error, dict) and "docs" in error:
        got = answer.json()["error"]
        assert {key: got[key] for key in error} == error
    same_shape(want["json"], answer.json(), abbreviated=name.startswith(ABBREVIATED))


def test_every_case_is_an_exchange_we_have() -> None:
    assert {name[:3] for name in EXCHANGES} >= set(CASES)
    assert len(EXCHANGES) > 80


def test_shapes_are_really_compared() -> None:
    for want, got in [
        ({"a": 1}, {}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ({"a": 1}, {"a": "1"}),
        ([1], []),
        ([], [1]),
        (None, {}),
    ]:
        with pytest.raises(AssertionError):
            same_shape(want, got)


@pytest.mark.parametrize(
    ("shape", "name"), [("guide", "002_classify_single_guide_shape"), ("home", "003_classify_single_home_shape")]
)
def test_the_guides_own_shapes_are_a_switch(shape: Any, name: str, start: Callable[..., Any]) -> None:
    api = start(switches=Switches(answer_shape=shape))
    exchange = EXCHANGES[name]
    same_shape(exchange["response"]["json"], api.post("/classify", exchange["request"]["json"]).json())
