"""Is it from ClassifAIly, and what does it say? (API reference, Verifying signatures)

The law of this file: it works on the bytes that arrived, before anything parses them, and compares bytes; whatever a
stranger sends, the only thing that is raised is a `SignatureError`. The reference names the header
X-ClassifAIly-Signature, its PHP sample reads X-ClassifAI-Signature: both are looked at, as each needs a full MAC.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

from pydantic import SecretStr, ValidationError

from classifaily_connectors.errors import InvalidRequestError, SignatureError
from classifaily_connectors.models import WebhookEvent
from classifaily_connectors.secret_text import bare
from classifaily_connectors.webhooks.reading import read_body

Headers = Mapping[Any, Any] | Iterable[tuple[Any, Any]]
"""Header names and values, each text or bytes: a mapping, or pairs (which may repeat a name)."""
Secret = str | bytes | SecretStr

SIGNATURE_HEADERS = (b"x-classifaily-signature", b"x-classifai-signature")
_SCHEME = b"sha256="
_MOST_VALUES = 8


def sign(body: bytes, secret: Secret) -> str:
    """The value of the signature header for `body`: `sha256=` and the hex HMAC-SHA256."""
    return _mac(hmac.new(_raw(secret), digestmod="sha256"), body).decode()


def verify(body: bytes, headers: Headers, secrets: Secret | Iterable[Secret]) -> None:
    """Return when `body` was signed with one of `secrets` (several while one is being rotated out).

    An empty secret never matches. The signature covers the body alone, so a delivery can be replayed: what acts on
    one must not mind seeing it twice.

    Raises SignatureError, and nothing else, whatever arrives.
    """
    if not isinstance(body, bytes | bytearray | memoryview):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise SignatureError("the body must be the bytes as they arrived, not parsed or decoded")
    Keys(secrets).verify(bytes(body), _signatures(headers))


class Keys:
    """Secrets made ready for many bodies: what a receiver verifies with."""

    def __init__(self, secrets: Secret | Iterable[Secret]) -> None:
        # Not `hmac.digest`: it lets go of the interpreter for every body, and a busy receiver waits to get it back.
        self._keys = [hmac.new(raw, digestmod="sha256") for raw in map(_raw, _each(secrets)) if raw]

    def verify(self, body: bytes, values: Iterable[bytes]) -> None:
        """See `verify`; `values` are those of the signature headers."""
        given = [_normal(part) for value in values for part in value.split(b",")]  # a proxy may have folded several
        if not given:
            raise SignatureError("no signature header (X-ClassifAIly-Signature: sha256=…)")
        # All pairs, without an early exit: how long it takes says nothing about which one nearly matched.
        matches = 0
        for key in self._keys:
            wanted = _mac(key, body)
            for value in given[:_MOST_VALUES]:
                matches += hmac.compare_digest(wanted, value)
        if not matches:
            raise SignatureError("the signature was not made with our secret, or the body was changed")


def parse_event(body: bytes) -> WebhookEvent:
    """The event in a delivery; `verify` it first.

    Raises InvalidRequestError when the body is no event.
    """
    event = _event(body)
    if event is None:
        raise InvalidRequestError("the delivery's body is no event", outcome="rejected")
    return event


def _event(body: bytes) -> WebhookEvent | None:
    try:
        wire = read_body(body)
        return WebhookEvent.model_validate({"id": wire.get("job_id"), **wire})
    except (ValueError, TypeError, RecursionError, ValidationError):
        return None


def _signatures(headers: Headers) -> Iterator[bytes]:
    for name, value in _pairs(headers):
        if _bytes(name).strip().lower() in SIGNATURE_HEADERS:
            yield _bytes(value)


def _pairs(headers: Headers) -> Iterator[tuple[Any, Any]]:
    mapping: Any = getattr(headers, "items", None)  # a mapping, or an HTTP library's own kind of one
    items: Any = mapping() if callable(mapping) else headers
    try:
        for each in items:
            name, value = each
            several = isinstance(value, list | tuple)
            for one in cast("list[Any]", value) if several else [value]:
                yield name, one
    except (TypeError, ValueError):
        return


def _normal(value: bytes) -> bytes:
    # Hex digits in either case; the scheme as documented, so that no weaker one can be asked for.
    stripped = value.strip()
    return stripped[: len(_SCHEME)] + stripped[len(_SCHEME) :].lower()


def _bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    return bytes(value) if isinstance(value, bytes | bytearray) else b""


def _each(secrets: Secret | Iterable[Secret]) -> Iterable[Secret]:
    return [secrets] if isinstance(secrets, str | bytes | SecretStr) else secrets


def _raw(secret: Secret) -> bytes:
    text = secret.get_secret_value() if isinstance(secret, SecretStr) else secret
    if isinstance(text, bytes):
        return text.strip()
    return _bytes(bare(text))


def _mac(key: hmac.HMAC, body: bytes) -> bytes:
    one = key.copy()
    one.update(body)
    return b"sha256=" + one.hexdigest().encode()
