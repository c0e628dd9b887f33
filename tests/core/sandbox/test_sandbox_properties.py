"""Whatever is sent: a known status, JSON that says why, and a charge exactly when the input was accepted."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifaily_connectors.sandbox import SandboxClock, Switches
from classifaily_connectors.sandbox.plans import plan_named
from classifaily_connectors.sandbox.service import Service
from classifaily_connectors.sandbox.state import State
from classifaily_connectors.sandbox.wire import Answer, Call, encode

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["billing", "règlement", "other", "x"])
CATEGORY = NAMES | st.fixed_dictionaries(
    {"name": NAMES}, optional={"description": st.text(max_size=9), "examples": st.lists(st.text())}
)
GOOD: dict[str, st.SearchStrategy[Any]] = {
    "input": st.text(min_size=1, max_size=30),
    "type": st.sampled_from(["text", "image"]),
    "categories": st.lists(CATEGORY, min_size=1, max_size=4),
    "schema": st.sampled_from([1, 2]),
    "mode": st.sampled_from(["single", "multi", "top_n"]),
    "top_n": st.integers(1, 10),
    "threshold": st.floats(0, 1),
    "explain": st.booleans(),
    "async": st.booleans(),
    "id": st.text(max_size=4),
}
MIXED = st.fixed_dictionaries({}, optional={name: values | JSON for name, values in GOOD.items()})
BATCH = st.fixed_dictionaries(
    {"items": st.lists(MIXED | JSON, max_size=4) | JSON}, optional={n: v for n, v in GOOD.items() if n != "input"}
)
SWITCHES = st.builds(
    Switches,
    php_quirks=st.booleans(),
    below_threshold=st.sampled_from(["null", "null_label", "empty_list", "empty_labels"]),
    label_order=st.sampled_from(["descending", "ascending", "given"]),
    batch_over_quota=st.sampled_from(["reject", "partial"]),
    counts=st.sampled_from(["accepted", "completed"]),
    unasked_async=st.sampled_from(["never", "both"]),
    failure_body=st.sampled_from(["object", "string", "absent"]),
)


def ask(service: Service, method: str, path: str, body: Any = None) -> Answer:
    headers = {"authorization": "Bearer key", "content-type": "application/json"}
    return service.handle(Call(method, path, {}, headers, json.dumps(body).encode()))


def serving(plan: str, used: int, switches: Switches) -> Service:
    service = Service(State(), switches, SandboxClock(frozen=True))
    service.add_account("key", plan_named(plan), used)
    ask(service, "POST", "/schemas", {"name": "s", "categories": ["billing", {"name": "other"}], "mode": "multi"})
    return service


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    plan=st.sampled_from(["free", "starter", "enterprise"]),
    left=st.integers(0, 5),
    switches=SWITCHES,
    path=st.sampled_from(["/classify", "/batch"]),
    data=st.data(),
)
def test_charged_exactly_when_accepted(
    plan: str, left: int, switches: Switches, path: str, data: st.DataObject
) -> None:
    service = serving(plan, (plan_named(plan).requests or 10) - left, switches)
    before = ask(service, "GET", "/usage").body["usage"]["requests"]
    answer = ask(service, "POST", path, data.draw(MIXED | JSON if path == "/classify" else BATCH | JSON))
    charged = service.state.bill().charged
    assert ask(service, "GET", "/usage").body["usage"]["requests"] - before == charged
    encode(answer.body, php_quirks=switches.php_quirks)
    if answer.status in (200, 202):
        jobs = list(service.state.jobs.values())
        assert len(jobs) == 1
        accepted = [one for one in jobs[0].outcomes if not one.error or one.error["code"] != "rate_limit_exceeded"]
        if switches.counts == "completed":
            accepted = [one for one in accepted if not one.error]
        assert charged == len(accepted)
    else:
        assert answer.status in (400, 403, 404, 429)
        assert answer.body["error"]["message"]
        assert charged == 0
        assert not service.state.jobs


@settings(max_examples=300, deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE"]),
    path=st.sampled_from(
        ["/schemas", "/schemas/1", "/schemas/x", "/webhooks", "/webhooks/1", "/jobs", "/jobs/1", "/jobs/²"]
    ),
    body=st.fixed_dictionaries(
        {},
        optional={
            "name": st.text(max_size=4) | JSON,
            "categories": GOOD["categories"] | JSON,
            "url": st.sampled_from(["https://e.org", "http://127.0.0.1:1/x"]) | JSON,
            "events": st.lists(st.sampled_from(["*", "job.failed"]), min_size=1) | JSON,
            "mode": JSON,
            "type": JSON,
            "description": JSON,
            "secret": JSON,
        },
    )
    | JSON,
)
def test_resources_refuse_in_json(method: str, path: str, body: Any) -> None:
    service = serving("pro", 0, Switches())
    answer = ask(service, method, path, body)
    assert answer.status in (200, 201, 204, 400, 404, 405)
    assert (answer.body is None) == (answer.status == 204)
    if answer.status >= 400:
        assert answer.body["error"]["code"]


@pytest.mark.parametrize("value", [1.0, 0.5, {}, [], {"a": {}}, "a/é", None, True, [1.0, "x"], 2])
def test_php_encoding_is_still_json(value: Any) -> None:
    decoded = json.loads(encode(value, php_quirks=True))
    assert decoded == ({"a": []} if value == {"a": {}} else [] if value == {} else value)
