"""The verifier: both header spellings, rotation, public vectors, and one typed error whatever arrives."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from classifaily_connectors import InvalidRequestError, SignatureError
from classifaily_connectors.webhooks import parse_event, sign, verify

EXCHANGES = [json.loads(path.read_text()) for path in sorted((Path(__file__).parents[2] / "contract").glob("*.json"))]
DELIVERIES = [each for each in EXCHANGES if each["direction"] == "api->receiver"]
SECRET = "whsec-of-the-tests"


@pytest.mark.parametrize("exchange", DELIVERIES, ids=lambda each: each["name"])
def test_every_delivery_of_the_contract(exchange: dict[str, Any]) -> None:
    request = exchange["request"]
    body = request["raw"].encode()
    if exchange["response"]["status"] == 401:
        with pytest.raises(SignatureError):
            verify(body, request["headers"], exchange["secret"])
        return
    verify(body, request["headers"], exchange["secret"])
    event = parse_event(body)
    wire = request["json"]
    assert (event.event, event.id, event.schema) == (wire["event"], wire["id"], wire.get("schema"))
    if isinstance(wire.get("result"), dict) and "label" in wire["result"]:
        assert event.job.label == wire["result"]["label"]
    assert len(event.job.results) == len(wire.get("results", []))


@pytest.mark.parametrize(
    ("secret", "body", "mac"),
    [
        # https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries
        (
            "It's a Secret to Everybody",
            b"Hello, World!",
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ),
        # octokit/webhooks-methods.js
        ("mysecret", b'{"foo":"bar"}', "4864d2759938a15468b5df9ade20bf161da9b4f737ea61794142f3484236bda3"),
    ],
)
def test_public_vectors(secret: str, body: bytes, mac: str) -> None:
    assert sign(body, secret) == f"sha256={mac}"
    verify(body, {"X-ClassifAIly-Signature": f"sha256={mac.upper()}"}, secret)


@pytest.mark.parametrize("name", ["X-ClassifAIly-Signature", "x-classifaily-signature", "X-CLASSIFAI-SIGNATURE"])
@pytest.mark.parametrize("form", ["mapping", "pairs", "bytes", "folded", "list"])
def test_every_form_of_the_headers(name: str, form: str) -> None:
    value = sign(b"{}", SECRET)
    forms: dict[str, Any] = {
        "mapping": {name: f" {value} "},
        "pairs": [("Content-Type", "x"), (name, "sha256=0"), (name, value)],
        "bytes": [(name.encode(), value.encode())],
        "folded": {name: f"sha256=0, {value}"},
        "list": {name: ["sha256=0", value]},
    }
    verify(b"{}", forms[form], SECRET)


def test_several_secrets_while_one_is_rotated_out() -> None:
    for secret in ("old", "new"):
        verify(b"{}", {"X-ClassifAIly-Signature": sign(b"{}", secret)}, ["new", SecretStr("old"), b"older"])
    with pytest.raises(SignatureError):
        verify(b"{}", {"X-ClassifAIly-Signature": sign(b"{}", "other")}, ["new", "old"])


@pytest.mark.parametrize("empty", ["", b"", " ", SecretStr(""), [], ["", b""]])
def test_an_empty_secret_never_matches(empty: Any) -> None:
    with pytest.raises(SignatureError):
        verify(b"{}", {"X-ClassifAIly-Signature": sign(b"{}", "")}, empty)


@pytest.mark.parametrize("scheme", ["sha1=", "md5=", "SHA256=", "", "sha256:", "v1,"])
def test_no_other_scheme(scheme: str) -> None:
    digits = sign(b"{}", SECRET).removeprefix("sha256=")
    with pytest.raises(SignatureError):
        verify(b"{}", {"X-ClassifAIly-Signature": scheme + digits}, SECRET)


ANY_TEXT = st.text(st.characters(exclude_categories=()))
ANY_HEADER = st.one_of(ANY_TEXT, st.binary(), st.none(), st.integers(), st.lists(ANY_TEXT, max_size=2))
NAME = st.sampled_from(["X-ClassifAIly-Signature", b"x-classifai-signature", "Other"])


@settings(max_examples=3000, deadline=None)
@given(body=st.binary(), headers=st.lists(st.tuples(st.one_of(NAME, ANY_HEADER), ANY_HEADER), max_size=9))
@example(body=b"", headers=[("X-ClassifAIly-Signature", "sha256=é")])
@example(body=b"", headers=[("X-ClassifAIly-Signature", "sha256=\ud800")])
def test_whatever_arrives_raises_nothing_but_signature_errors(body: bytes, headers: list[Any]) -> None:
    for form in (headers, {name: value for name, value in headers if not isinstance(name, list)}):
        with pytest.raises(SignatureError):
            verify(body, form, SECRET)


MORSELS = [
    b"sha256=",
    b"SHA256=",
    b"sha1=",
    b",",
    b" ",
    b"\t",
    b"\x00",
    b"=",
    b"0" * 64,
    b"\xe9",
    b"\xff\xfe",
    b"'",
    b'"',
]


def hostile(chance: random.Random, good: bytes) -> Any:
    """A signature header's value that is not the good one: near it, or far from it."""
    kind = chance.randrange(5)
    if kind == 0:  # some bytes of it changed
        changed = bytearray(good)
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(7, len(good))
            changed[place] = (changed[place] + chance.randint(1, 9)) % 256
        value = bytes(changed)
    elif kind == 1:  # cut
        value = good[: chance.randrange(len(good))]
    elif kind == 2:  # put together from what a signature is made of
        value = b"".join(chance.choices(MORSELS, k=chance.randint(0, 9)))
    elif kind == 3:
        value = chance.randbytes(chance.randint(0, 80))
    else:  # words of any alphabet, halves of characters among them
        return "".join(chr(chance.randrange(0x110000)) for _ in range(chance.randint(0, 12)))
    return value if chance.random() < 0.5 else value.decode("latin-1")


@pytest.mark.parametrize("seed", range(10))
def test_100_000_hostile_headers_raise_nothing_but_signature_errors(seed: int) -> None:
    """10,000 for each seed; made by hand, because hypothesis takes its time over each one."""
    chance = random.Random(seed)
    names = ["X-ClassifAIly-Signature", b"x-classifai-signature", "x-CLASSIFAILY-signature ", b"\xff", "Other", None, 7]
    for _ in range(10_000):
        body = chance.randbytes(chance.randint(0, 60))
        good = sign(body, SECRET).encode()
        pairs = [(chance.choice(names), hostile(chance, good)) for _ in range(chance.randint(0, 4))]
        headers = pairs if chance.random() < 0.5 else dict(pairs)
        if any(str(value).strip().lower() == good.decode() for _name, value in pairs):
            continue  # by chance: changed back, or in the case of its digits only
        try:
            verify(body, headers, SECRET)
        except SignatureError:
            continue
        raise AssertionError((body, headers))


@pytest.mark.parametrize("size", [1, 2, 64, 335])
def test_any_changed_byte_fails(size: int) -> None:
    """Every byte of the body, and every digit of the signature, to every other value."""
    body = bytes(n % 251 for n in range(size))
    good = sign(body, SECRET)
    for place in range(size):
        for value in range(256):
            if value != body[place]:
                changed = body[:place] + bytes([value]) + body[place + 1 :]
                with pytest.raises(SignatureError):
                    verify(changed, {"X-ClassifAIly-Signature": good}, SECRET)
    for place in range(len(good)):
        changed_signature = good[:place] + ("0" if good[place] != "0" else "1") + good[place + 1 :]
        with pytest.raises(SignatureError):
            verify(body, {"X-ClassifAIly-Signature": changed_signature}, SECRET)


@pytest.mark.parametrize("junk", [None, 7, [1], [("a",)], "text", {"X-ClassifAIly-Signature": None}])
def test_junk_for_headers_or_body(junk: Any) -> None:
    with pytest.raises(SignatureError):
        verify(b"{}", junk, SECRET)
    with pytest.raises(SignatureError):
        verify(junk, {"X-ClassifAIly-Signature": sign(b"{}", SECRET)}, SECRET)


@settings(max_examples=500, deadline=None)
@given(body=st.binary(min_size=1), place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_any_flipped_bit_fails(body: bytes, place: int, bit: int) -> None:
    headers = {"X-ClassifAIly-Signature": sign(body, SECRET)}
    verify(body, headers, SECRET)
    changed = bytearray(body)
    changed[place % len(body)] ^= 1 << bit
    with pytest.raises(SignatureError):
        verify(bytes(changed), headers, SECRET)


@settings(max_examples=500, deadline=None)
@given(body=st.one_of(st.binary(), st.recursive(st.none(), st.lists).map(lambda each: json.dumps(each).encode())))
@example(body=b"[" * 100_000)
@example(body=b'{"event": {}, "id": []}')
def test_a_body_that_is_no_event(body: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        parse_event(body)
