"""The receiver's own word on how it is, asked at its public address; it carries no secret and no key."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from classifaily_connectors.fields import as_map
from classifaily_connectors.settings import checked_address
from classifaily_connectors.webhooks.receiver import PATH

_TIMEOUT = 15.0
_LARGEST = 2**20


@dataclass(frozen=True, slots=True)
class Health:
    """What the health page tells: `status` is `ok`, `behind` or `down: …`; times are seconds since the epoch.

    `refused` counts by reason, `unsigned` by what is wrong with the signature, since the process began that answered;
    `readers` says how many deliveries a consumer has before it; `secrets` is `ok`, or why a file of secrets cannot be
    read any more.
    """

    status: str
    last_commit: float | None = None
    refused: Mapping[str, int] = field(default_factory=dict[str, int])
    unsigned: Mapping[str, int] = field(default_factory=dict[str, int])
    last_refusal: Mapping[str, Any] = field(default_factory=dict[str, Any])
    readers: Mapping[str, int] = field(default_factory=dict[str, int])
    secrets: str = "ok"

    @property
    def refusals(self) -> int:
        """Deliveries that were refused, other than for a sender's own mistake in the method or by hanging up."""
        return sum(count for reason, count in self.refused.items() if reason not in ("method", "cut"))


def health_address(url: str) -> str:
    """The address of the health page of the receiver at `url`, which may end in a source."""
    address = checked_address(url)
    before, found, _source = address.partition(PATH)
    if found:
        return f"{before}{PATH}/-/health"
    return f"{address}/-/health"


def ask_health(url: str) -> Health | str:
    """How the receiver at `url` is; or, in a few words, why that cannot be found out.

    Raises ConfigurationError unless the address is https (http on loopback).
    """
    request = urllib.request.Request(health_address(url))  # noqa: S310  # checked
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            body = answer.read(_LARGEST)
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(_LARGEST)
            if error.code != 503:  # noqa: PLR2004  # it tells of its trouble
                return f"HTTP {error.code}"
    except OSError as error:
        return str(getattr(error, "reason", error))
    return _read(body) or "it answers something else"


def ago(moment: float) -> str:
    """How long ago a moment was, in the largest unit that fits."""
    seconds = max(0.0, time.time() - moment)
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _read(body: bytes) -> Health | None:
    try:
        told = as_map(json.loads(body))
        last = told.get("last_commit")
        return Health(
            status=str(told["status"]),
            last_commit=None if last is None else float(last),
            refused=_counts(told.get("refused")),
            unsigned=_counts(told.get("unsigned")),
            last_refusal=as_map(told.get("last_refusal")),
            readers=_counts(told.get("readers")),
            secrets=str(told.get("secrets") or "ok"),
        )
    except (KeyError, TypeError, ValueError, RecursionError):
        return None


def _counts(value: object) -> dict[str, int]:
    return {str(name): int(count) for name, count in as_map(value).items()}
