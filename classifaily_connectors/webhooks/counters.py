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
_CAUSES = ("missing", "changed", "other")


def _zeros(labels: tuple[str, ...]) -> Counter[str]:
    return Counter(dict.fromkeys(labels, 0))


@dataclass(slots=True)
class Counters:
    """Since this process began: `received` requests to a webhook path; `kept` by what became of them (new, repeat,
    conflict, dead); `refused` by reason, and `unsigned` by what is wrong with the signature; verified deliveries by the
    `header` their signature came in; `feed` answers given to waiters; and refusals that were `said` in the log."""

    received: int = 0
    kept: Counter[str] = field(default_factory=lambda: _zeros(_KINDS))
    refused: Counter[str] = field(default_factory=lambda: _zeros(_REASONS))
    unsigned: Counter[str] = field(default_factory=lambda: _zeros(_CAUSES))
    said: Counter[str] = field(default_factory=Counter[str])
    header: Counter[str] = field(default_factory=lambda: _zeros(_HEADERS))
    feed: int = 0

    def text(self, *, commits: int, waiting: int, last_commit: float | None, lags: Mapping[str, int]) -> str:
        """All of it, the deliveries that wait for their commit now, when the last one was (seconds since the epoch,
        0 before the first), and how many deliveries each consumer with a mark has before it."""
        lines = [
            *_counter("received", "Requests to a webhook path.", self.received),
            *_counter("kept", "Deliveries acknowledged after their commit.", self.kept, "kind"),
            *_counter("refused", "Requests that were not acknowledged.", self.refused, "reason"),
            *_counter("unsigned", "Deliveries refused for their signature, by what is wrong.", self.unsigned, "cause"),
            *_counter("signature_header", "Verified deliveries, by the header that signed them.", self.header, "name"),
            *_counter("commits", "Transactions that kept deliveries.", commits),
            *_counter("feed_answers", "Answers to waiters.", self.feed),
            *_gauge("waiting", "Deliveries that wait for their commit.", waiting),
            *_gauge("last_commit_timestamp_seconds", "When deliveries were last committed.", last_commit or 0),
            *_gauge("reader_lag", "Deliveries that a consumer has not read.", lags, "consumer"),
        ]
        return "\n".join(lines) + "\n"


def _counter(name: str, help: str, value: int | Mapping[str, int], label: str = "") -> Iterator[str]:
    return _metric("counter", f"{name}_total", help, value, label)


def _gauge(name: str, help: str, value: float | Mapping[str, int], label: str = "") -> Iterator[str]:
    return _metric("gauge", name, help, value, label)


def _metric(kind: str, name: str, help: str, value: float | Mapping[str, int], label: str) -> Iterator[str]:
    full = f"classifaily_webhook_{name}"
    yield f"# HELP {full} {help}"
    yield f"# TYPE {full} {kind}"
    if isinstance(value, Mapping):
        for key, number in value.items():
            yield f'{full}{{{label}="{_escaped(key)}"}} {number}'
    else:
        yield f"{full} {value}"


def _escaped(word: str) -> str:
    return word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
