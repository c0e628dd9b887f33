"""What the receiver counts, in the text format that Prometheus reads.

The law of this file: a number is counted where the thing happens and never guessed; no label holds anything a
stranger can choose, so the number of lines is fixed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_HEADERS = ("x-classifaily-signature", "x-classifai-signature")
_KINDS = ("new", "repeat", "conflict", "dead")
_REASONS = ("signature", "source", "method", "size", "cut", "down", "behind", "full")


def _zeros(labels: tuple[str, ...]) -> Counter[str]:
    return Counter(dict.fromkeys(labels, 0))


@dataclass(slots=True)
class Counters:
    """Since this process began: `received` requests to a webhook path; `kept` by what became of them (new, repeat,
    conflict, dead); `refused` by reason; verified deliveries by the `header` their signature came in; `commits`; and
    `feed` answers given to waiters."""

    received: int = 0
    kept: Counter[str] = field(default_factory=lambda: _zeros(_KINDS))
    refused: Counter[str] = field(default_factory=lambda: _zeros(_REASONS))
    header: Counter[str] = field(default_factory=lambda: _zeros(_HEADERS))
    feed: int = 0

    def text(self, *, commits: int, waiting: int) -> str:
        """All of it, and the deliveries that wait for their commit now."""
        lines = [
            *_counter("received", "Requests to a webhook path.", self.received),
            *_counter("kept", "Deliveries acknowledged after their commit.", self.kept, "kind"),
            *_counter("refused", "Requests that were not acknowledged.", self.refused, "reason"),
            *_counter("signature_header", "Verified deliveries, by the header that signed them.", self.header, "name"),
            *_counter("commits", "Transactions that kept deliveries.", commits),
            *_counter("feed_answers", "Answers to waiters.", self.feed),
            "# HELP classifaily_webhook_waiting Deliveries that wait for their commit.",
            "# TYPE classifaily_webhook_waiting gauge",
            f"classifaily_webhook_waiting {waiting}",
        ]
        return "\n".join(lines) + "\n"


def _counter(name: str, help: str, value: int | Mapping[str, int], label: str = "") -> Iterator[str]:
    full = f"classifaily_webhook_{name}_total"
    yield f"# HELP {full} {help}"
    yield f"# TYPE {full} counter"
    if isinstance(value, int):
        yield f"{full} {value}"
    else:
        for key, number in value.items():
            yield f'{full}{{{label}="{key}"}} {number}'
