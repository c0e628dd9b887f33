"""A delivery of our own, sent the way the API's come.

The law of this file: it goes to the public address, through whatever stands before the receiver, and carries nothing
but a signature: never the API key. A job does not hang on it: its event is `classifaily.ping`.
"""

from __future__ import annotations

import json
import secrets
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifaily_connectors.settings import checked_address
from classifaily_connectors.webhooks.signature import sign

if TYPE_CHECKING:
    from pydantic import SecretStr

EVENT = "classifaily.ping"
_TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class Pong:
    """What came of a ping: `status` is None when nobody answered, and `reason` then says why; `elapsed` is seconds."""

    id: str
    status: int | None
    reason: str
    elapsed: float


def ping(url: str, secret: SecretStr) -> Pong:
    """Deliver a ping to `url`. Raises ConfigurationError unless it is https (http on loopback)."""
    address = checked_address(url)
    id = f"ping_{secrets.token_hex(8)}"
    body = json.dumps({"event": EVENT, "id": id, "result": None}).encode()
    headers = {"Content-Type": "application/json", "X-ClassifAIly-Signature": sign(body, secret)}
    request = urllib.request.Request(address, body, headers, method="POST")  # noqa: S310  # checked above
    started = time.monotonic()
    status, reason = _send(request)
    return Pong(id, status, reason, time.monotonic() - started)


def _send(request: urllib.request.Request) -> tuple[int | None, str]:
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:  # noqa: S310
            return int(answer.status), ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, str(error.reason)
    except OSError as error:  # a URLError, too
        return None, str(getattr(error, "reason", error))
