"""What comes in and what goes out, as plain values; and how an answer becomes bytes.

The law of this file: it knows JSON and the error envelope (API reference, Errors), no endpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeGuard, cast

if TYPE_CHECKING:
    from .switches import Switches

DOCS = "https://classifaily.com/docs.php#errors"


@dataclass(frozen=True, slots=True)
class Call:
    """One request; `path` is the part below the base URL, header names are lower case."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict[str, str])
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(slots=True)
class Answer:
    """One answer: `body` is a JSON value, or None for no body at all."""

    status: int
    body: Any = None
    delay: float = 0.0
    """Real seconds to wait before it is sent."""


class Refusal(Exception):  # noqa: N818 (what the API does, not what went wrong here)
    """A request refused, in the API's own words; `extra` goes beside code and message (quota errors)."""

    def __init__(self, status: int, code: str, message: str, extra: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.extra = status, code, message, dict(extra or {})

    def answer(self, switches: Switches) -> Answer:
        """The refusal as an answer."""
        error = {"code": self.code, "message": self.message, "docs": DOCS}
        beside: dict[str, Any] = {}
        if switches.quota_fields == "in_error":
            error |= self.extra
        elif switches.quota_fields == "top_level":
            beside = self.extra
        return Answer(self.status, {"error": self.message if switches.error_shape == "string" else error, **beside})


def invalid(message: str) -> Refusal:
    """400 invalid_request."""
    return Refusal(400, "invalid_request", message)


def restricted(message: str) -> Refusal:
    """403 plan_restriction."""
    return Refusal(403, "plan_restriction", message)


def read_json(call: Call) -> dict[str, Any]:
    """The body as a JSON object; refuses what the API calls invalid_json (API reference, Errors)."""
    content_type = call.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type != "application/json":
        raise Refusal(400, "invalid_json", "Content-Type must be application/json.")
    try:
        data: Any = json.loads(call.body.decode(), parse_constant=_no_constant)
        if b"\\u" in call.body:
            # A lone surrogate is no text: PHP refuses it, and nothing could hash or store it.
            json.dumps(data, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise Refusal(400, "invalid_json", "Request body is not valid JSON.") from None
    if not isinstance(data, dict):
        raise invalid("Request body must be a JSON object.")
    return cast("dict[str, Any]", data)


def _no_constant(word: str) -> Any:
    raise ValueError(f"{word} is not JSON")


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Whether a JSON value is an array."""
    return isinstance(value, list)


def encode(value: Any, *, php_quirks: bool = False) -> bytes:
    """JSON as the API writes it; with `php_quirks` as PHP's json_encode does by default."""
    if not php_quirks:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    return json.dumps(_php(value), separators=(",", ":")).replace("/", "\\/").encode()


def _php(value: Any) -> Any:
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value)
        return {key: _php(inner) for key, inner in pairs.items()} or []
    if isinstance(value, (list, tuple)):
        return [_php(inner) for inner in cast("list[Any]", value)]
    return value
