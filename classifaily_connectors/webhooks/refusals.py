"""Deliveries that were refused, and why: counted, told by the health page, and said in the log while it is news.

The law of this file: whatever a stranger sends, the log grows by a few lines a minute at most, and holds nothing of
theirs; of a signature that does not fit it says as much as can be found out: that it is missing, that something
re-wrote the body on its way, or that another secret signed it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import logging
import time
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from classifaily_connectors.errors import SignatureError

if TYPE_CHECKING:
    from classifaily_connectors.webhooks.counters import Counters
    from classifaily_connectors.webhooks.signature import Keys

logger = logging.getLogger("classifaily_connectors")

_FIRST = 3
"""Refusals of one kind that are said at once; after them, one in `_PAUSE`."""
_PAUSE = 60.0
_LARGEST = 2**20
_WORDS = {
    "source": "no secret is known for the source that its path names",
    "method": "a delivery is a POST",
    "size": "the body has more than {max_body} bytes",
    "missing": "it carries no X-ClassifAIly-Signature header: it is not the API's, or a proxy dropped the header",
    "changed": "its body was changed on the way ({how}): let the proxy pass it on byte for byte",
    "other": "its signature was made with another secret than ours, or its body was changed on the way",
}


class Refusals:
    """What was refused since this process began."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._said: dict[str, float] = {}
        self.last: dict[str, Any] | None = None

    def note(self, reason: str, **details: Any) -> None:
        """Count one; details fill in the words, and what is `known` is for the log alone: health is a public page."""
        self._counters.refused[reason] += 1
        if reason in _WORDS:
            self._say(reason, reason, **details)
        elif reason != "cut":
            self.last = {"reason": reason, "at": time.time()}

    def unsigned(self, keys: Keys, body: bytes, signatures: list[bytes]) -> None:
        """Count one whose signature does not fit."""
        self._counters.refused["signature"] += 1
        how = ""
        if not any(each.strip() for each in signatures):
            cause = "missing"
        elif self._is_news("changed") or self._is_news("other"):  # finding out costs more than refusing
            how = changed(keys, body, signatures)
            cause = "changed" if how else "other"
        else:
            cause = "other"
        self._counters.unsigned[cause] += 1
        self._say("signature", cause, how=how)

    def told(self) -> dict[str, Any]:
        """The counts that are not zero, and the last one: its reason, and when it was."""
        counts = {reason: count for reason, count in self._counters.refused.items() if count}
        causes = {cause: count for cause, count in self._counters.unsigned.items() if count}
        return {"refused": counts, "unsigned": causes, "last_refusal": self.last}

    def _is_news(self, kind: str) -> bool:
        count = self._counters.said[kind]
        return count < _FIRST or time.monotonic() - self._said.get(kind, 0.0) >= _PAUSE

    def _say(self, reason: str, kind: str, *, known: str = "", **details: object) -> None:
        text = _WORDS[kind].format(**details)
        self.last = {"reason": reason, "at": time.time(), "detail": text}
        if self._is_news(kind):
            self._counters.said[kind] += 1
            self._said[kind] = time.monotonic()
            count, more = self._counters.refused[reason], f" (known are {known})" if known else ""
            logger.warning("a delivery was refused (%d so far): %s%s", count, text, more)


def changed(keys: Keys, body: bytes, signatures: list[bytes]) -> str:
    """How the body was changed after it was signed, as far as that can be found out; empty otherwise."""
    if len(body) > _LARGEST:
        return ""
    for how, before in _before(body):
        try:
            keys.verify(before, signatures)
        except SignatureError:
            continue
        return how
    return ""


def _before(body: bytes) -> Iterator[tuple[str, bytes]]:
    """What the body may have been when it was signed."""
    trimmed = body.strip()
    for each in (trimmed, trimmed + b"\n", body.removeprefix(b"\xef\xbb\xbf")):
        yield "blanks at its ends", each
    with contextlib.suppress(binascii.Error, ValueError):
        yield "it is in base64", base64.b64decode(trimmed, validate=True)
    with contextlib.suppress(zlib.error):
        yield "it is compressed", zlib.decompressobj(wbits=47).decompress(body, 4 * _LARGEST)
    try:
        wire: Any = json.loads(body)
    except (ValueError, RecursionError):
        return
    yield from (("its JSON was written anew", each) for each in _rewritten(wire))
    wrapped = cast("dict[str, Any]", wire).get("body") if isinstance(wire, dict) else None
    if isinstance(wrapped, str):
        yield "it is wrapped in an event of a gateway", wrapped.encode("utf-8", "replace")
        with contextlib.suppress(binascii.Error, ValueError):
            yield "it is wrapped in an event of a gateway, in base64", base64.b64decode(wrapped, validate=True)


def _rewritten(wire: Any) -> Iterator[bytes]:
    # As PHP, Python and JavaScript write JSON.
    for separators in ((",", ":"), (", ", ": ")):
        for ascii_only in (True, False):
            try:
                text = json.dumps(wire, ensure_ascii=ascii_only, separators=separators)
                yield text.encode()
                yield text.replace("/", "\\/").encode()
            except (ValueError, RecursionError):
                return
