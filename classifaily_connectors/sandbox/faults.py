"""What can go wrong, on demand: which request is hit, and how.

The law of this file: it decides, it does nothing; the app breaks the connection, the deliverer loses the webhook.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, get_args

from classifaily_connectors.errors import ConfigurationError

FaultKind = Literal[
    "delay",
    "reset",
    "cut",
    "500",
    "html_502",
    "429",
    "wrong_size_batch",
    "answer",
    "drop_webhook",
    "duplicate_webhook",
    "late_webhook",
]
_WEBHOOK_KINDS = ("drop_webhook", "duplicate_webhook", "late_webhook")
_AFTER_WORK = ("delay", "reset", "cut", "wrong_size_batch")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong, and the requests it happens to.

    `delay` waits `seconds` before answering; `reset` ends the connection with a TCP RST and no answer; `cut` sends
    the answer's head and half of its body; `500`, `html_502` and `429` (with Retry-After) answer so; `answer` gives
    `status`, `headers` and `body` as told; `wrong_size_batch` answers /batch with `size` results too many (negative:
    too few). `drop_webhook`, `duplicate_webhook` and `late_webhook` (by `seconds`) meet deliveries instead of requests.
    """

    kind: FaultKind
    method: str | None = None
    """HTTP method it is for; None is any."""
    path: str | None = None
    """Path below the base URL, such as `/classify`; also meets what lies below it. None is any."""
    contains: str | None = None
    """Text that one of the request's inputs must contain."""
    event: str | None = None
    """Event a webhook fault is for, such as `job.completed`; None is any."""
    nth: int | None = None
    """Only the nth request that matches (from 1), and `times - 1` after it."""
    times: int | None = 1
    """How many matching requests are hit; None is all of them."""
    after_work: bool | None = None
    """Whether the work is done and billed before the answer is lost. None is True for delay, reset, cut and
    wrong_size_batch, False for the others."""
    seconds: float = 1.0
    """Length of a delay, or lateness of a webhook, in real seconds."""
    retry_after: float | None = 1.0
    """Retry-After of a `429`, in seconds; None leaves the header out."""
    status: int = 503
    """Status of an `answer`."""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    """Headers of an `answer`; Content-Type is JSON unless given."""
    body: Any = None
    """Body of an `answer`: str as it is, None empty, anything else as JSON."""
    size: int = -1
    """How many results too many `wrong_size_batch` answers."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(FaultKind):
            raise ConfigurationError(f"fault kind must be one of {', '.join(get_args(FaultKind))}, not {self.kind!r}")

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Fault:
        """A fault from JSON; raises `ConfigurationError` for a field there is not."""
        unknown = set(data) - {known.name for known in fields(cls)}
        if unknown or "kind" not in data:
            raise ConfigurationError(f"a fault needs a kind and knows no {', '.join(sorted(unknown)) or 'other kind'}")
        return cls(**data)

    @property
    def works_first(self) -> bool:
        """Whether the request is executed (and billed) although its answer suffers."""
        return self.kind in _AFTER_WORK if self.after_work is None else self.after_work

    @property
    def meets_webhooks(self) -> bool:
        """Whether this one is for deliveries, not for requests."""
        return self.kind in _WEBHOOK_KINDS

    def matches_request(self, method: str, path: str, inputs: Iterable[str]) -> bool:
        """Whether this request is one of those it is for, `nth` and `times` aside."""
        return (
            not self.meets_webhooks
            and self.method in (None, method)
            and (self.path is None or path == self.path or path.startswith(f"{self.path}/"))
            and (self.contains is None or any(self.contains in text for text in inputs))
        )

    def matches_event(self, event: str) -> bool:
        """Whether this delivery is one of those it is for, `nth` and `times` aside."""
        return self.meets_webhooks and self.event in (None, event)


@dataclass
class _Armed:
    fault: Fault
    seen: int = 0
    hits: int = 0

    def due(self) -> bool:
        """Count one more match and say whether it is this fault's turn."""
        self.seen += 1
        return self.seen >= (self.fault.nth or 1) and (self.fault.times is None or self.hits < self.fault.times)


class FaultPlan:
    """The faults in force. At most one meets a request: the first injected whose turn it is."""

    def __init__(self) -> None:
        self._armed: list[_Armed] = []

    def __len__(self) -> int:
        return len(self._armed)

    def inject(self, fault: Fault) -> None:
        """Put one more fault in force."""
        self._armed.append(_Armed(fault))

    def clear(self) -> None:
        """Remove every fault."""
        self._armed.clear()

    def for_request(self, method: str, path: str, inputs: Iterable[str]) -> Fault | None:
        """The fault that meets this request, counted as used; None for most."""
        texts = list(inputs)
        return self._first(armed for armed in self._armed if armed.fault.matches_request(method, path, texts))

    def for_delivery(self, event: str) -> Fault | None:
        """The fault that meets this delivery, counted as used; None for most."""
        return self._first(armed for armed in self._armed if armed.fault.matches_event(event))

    @staticmethod
    def _first(matching: Iterable[_Armed]) -> Fault | None:
        # Every matching fault counts the request, or `nth` would depend on the others in force.
        due = [armed for armed in matching if armed.due()]
        if not due:
            return None
        due[0].hits += 1
        return due[0].fault
