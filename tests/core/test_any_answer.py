"""Whatever the API answers ends in a model that can be kept, shown and written, or in one of our errors.

The answers are those of the contract with one thing changed: a value of another kind, half an emoji, bytes that are no
text, a piece cut off. The changes are drawn at random from a fixed seed, so a failure comes again.
"""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from pydantic import BaseModel

import classifaily_connectors as cc
from classifaily_connectors.bulk.rows import Verdict
from classifaily_connectors.webhooks import parse_event
from classifaily_connectors.webhooks.intake import read
from classifaily_connectors.wire import REPLACEMENT, read_json
from tests.core.test_contract import TO_API, invocation

if TYPE_CHECKING:
    from conftest import Canned

KEY = "cai_live_" + "0" * 40
CHANGES = 14
"""Changed answers of each exchange."""
HALF = "half \ud83d an emoji"
STRANGE: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    float("nan"),
    float("inf"),
    "",
    HALF,
    "\udc00",
    "\x00",
    "x" * 5000,
    [],
    {},
    [[]],
    [None],
    {"0": HALF, HALF: 1},
    {"label": HALF, "confidence": HALF},
    [{"label": 3, "confidence": "0.5"}, {"id": HALF}],
]


def nodes(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value: its container and its key."""
    if isinstance(value, dict):
        here = [(value, key) for key in value]
    elif isinstance(value, list):
        here = [(value, place) for place in range(len(value))]
    else:
        return []
    return here + [each for container, key in here for each in nodes(container[key])]


def changed(answer: Any, chance: random.Random) -> bytes:
    """The answer with something changed."""
    whole = [json.loads(json.dumps(answer))]
    container, key = chance.choice(nodes(whole))
    match chance.randrange(4):
        case 0 if isinstance(container, dict):
            del container[key]
        case 1:
            container[key] = [container[key], chance.choice(STRANGE)]
        case 2 if isinstance(container[key], str):
            container[key] = container[key][:3] + chance.choice((HALF, "\udfff", "\x00")) + container[key][3:]
        case _:
            container[key] = chance.choice(STRANGE)
    text = json.dumps(whole[0], ensure_ascii=chance.random() < 0.7)
    raw = text.encode("utf-8", "surrogatepass")
    match chance.randrange(12):
        case 0:
            return raw[: chance.randrange(len(raw) + 1)]
        case 1:
            place = chance.randrange(len(raw) + 1)
            return raw[:place] + chance.choice((b"\xff", b"\xed\xa0\xbd", b"\xc3", b"\\ud83d")) + raw[place:]
        case 2:
            return b"\xef\xbb\xbf" + raw
        case 3:
            return text.encode("utf-16", "surrogatepass")
        case 4:
            return b"[" * 20_000 + raw
        case _:
            return raw


def use(value: Any) -> None:
    """What is done with an answer: kept, shown, quoted into an address, written."""
    if isinstance(value, list | tuple):
        for each in value:
            use(each)
    elif isinstance(value, BaseModel):
        value.model_dump_json()
        json.dumps(value.model_dump(mode="json")).encode()
        str(value).encode()
        repr(value).encode()
        quote(str(getattr(value, "id", "")))
        if isinstance(value, cc.Classification):
            Verdict.load(Verdict.of(value, value.id).dump())
            use([value.label, value.confidence, value.explanation, value.margin])
        if isinstance(value, cc.Job | cc.BatchResult):
            use(value.results)
    elif value is not None:
        str(value).encode()


@pytest.mark.parametrize("name", TO_API)
def test_any_answer_is_a_model_or_an_error_of_ours(name: str, canned: Canned) -> None:
    exchange = TO_API[name]
    chance = random.Random(name)
    call, status = invocation(exchange), exchange["response"]["status"]
    settings: Any = {"retry": cc.RetryPolicy(attempts=1, max_wait=0.0), "timeout": 20}
    with cc.ClassifailyClient(KEY, base_url=canned.url, **settings) as client:
        for _ in range(CHANGES):
            raw = changed(exchange["response"].get("json"), chance)
            canned.respond = lambda _asked, raw=raw: (status, {"Content-Type": "application/json"}, raw)
            try:
                found = call(client)
                use(list(found) if hasattr(found, "__next__") else found)
            except cc.ClassifailyError as error:
                str(error).encode()
                repr(error).encode()


@pytest.mark.parametrize("name", ["list", "ensure"])
def test_a_listing_with_something_else_in_it_is_an_error_of_ours(name: str, canned: Canned) -> None:
    canned.respond = lambda _asked: (200, {}, b'{"schemas":[{"id":[],"name":{}}]}')
    with cc.ClassifailyClient(KEY, base_url=canned.url, retry=cc.RetryPolicy(attempts=1)) as client:
        call = client.schemas.list if name == "list" else lambda: client.schemas.ensure("x", ["a", "b"])
        with pytest.raises(cc.ServerError):
            call()


def test_any_delivery_is_read() -> None:
    chance = random.Random(7)
    event = {
        "event": "job.completed",
        "id": "84",
        "result": {"label": "a", "confidence": 0.9},
        "results": [{"id": "1"}],
    }
    for _ in range(3000):
        raw = changed({**event, "timestamp": "2026-11-02T08:15:36Z"}, chance)
        arrival = read("default", raw, 0.0)
        assert arrival.event.encode() is not None
        arrival.job_id.encode()
        try:
            told = parse_event(raw)
        except cc.InvalidRequestError:
            continue
        use(told)
        use(told.job)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (rb'"a\ud83d"', f"a{REPLACEMENT}"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
        (rb'"\ude00\ud83d"', REPLACEMENT * 2),
        (rb'"\\ud83d"', r"\ud83d"),
        (rb'"\\\ud83d"', f"\\{REPLACEMENT}"),
        (rb'{"\uD83D": 1}', {REPLACEMENT: 1}),
        (b'"a\xed\xa0\xbd"', f"a{REPLACEMENT}"),
        (b'\xef\xbb\xbf"a"', "a"),
        ('"ä"'.encode("utf-16"), "ä"),
        (b"[NaN, Infinity, -Infinity]", [None] * 3),
        (b"1" + b"0" * 5000, float("inf")),
    ],
)
def test_one_rule_for_what_is_no_text(raw: bytes, value: Any) -> None:
    assert read_json(raw) == value


def test_a_paid_answer_with_half_an_emoji_is_kept(canned: Canned) -> None:
    canned.respond = lambda _asked: (200, {}, rb'{"id":"1\ud83d","result":{"label":"a\udc00","confidence":0.9}}')
    with cc.ClassifailyClient(KEY, base_url=canned.url) as client:
        answer = client.classify("x", categories=["a", "b"])
    assert (answer.id, answer.label) == (f"1{REPLACEMENT}", f"a{REPLACEMENT}")


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.jobs.get("\ud83d"),
        lambda client: client.schemas.get("\ud83d"),
        lambda client: client.webhooks.delete("\ud83d"),
    ],
    ids=["jobs", "schemas", "webhooks"],
)
def test_half_an_emoji_in_an_id_is_refused(call: Any) -> None:
    with cc.ClassifailyClient(KEY) as client, pytest.raises(cc.InvalidRequestError, match="half a surrogate pair"):
        call(client)
