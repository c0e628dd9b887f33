"""Everything the sandbox remembers.

The law of this file: plain records and where they are kept; no rule of the API and no clock. Whoever changes a record
says so with `State.touch`, so that a store can write exactly what changed.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple


class Bill(NamedTuple):
    """What was charged: inputs in all, and how often each, by the sha256 hex of its UTF-8 bytes."""

    charged: int
    by_input: dict[str, int]


class RequestRecord(NamedTuple):
    """One request the sandbox took; `status` is None when a fault ended it without an answer."""

    method: str
    path: str
    status: int | None


@dataclass(slots=True)
class Month:
    """What one account used in one calendar month."""

    requests: int = 0
    tokens: int = 0
    by_type: dict[str, int] = field(default_factory=dict[str, int])


@dataclass(slots=True)
class Account:
    """One API key and its plan; in the sandbox a key is an account."""

    key: str = field(repr=False)
    plan: str
    standing: Literal["active", "lapsed", "revoked"] = "active"
    months: dict[str, Month] = field(default_factory=dict[str, Month])
    """By period, `YYYY-MM`."""


@dataclass(slots=True)
class Schema:
    """A saved category set; `categories` as they were sent."""

    id: int
    account: str = field(repr=False)
    name: str
    description: str | None
    type: str
    mode: str
    categories: list[Any]
    created: float
    total_uses: int = 0


@dataclass(slots=True)
class Webhook:
    """A registered endpoint."""

    id: int
    account: str = field(repr=False)
    url: str
    events: list[str]
    secret: str = field(repr=False)
    created: float


@dataclass(slots=True)
class Outcome:
    """The verdict on one input; `error` set means it failed."""

    id: str | None = None
    result: Any = None
    error: dict[str, str] | None = None


@dataclass(slots=True)
class Job:
    """One call to /classify (one outcome) or /batch (many). Times are seconds since the epoch."""

    id: str
    account: str = field(repr=False)
    input_type: str
    input_preview: str = field(repr=False)
    categories: list[Any] | None
    schema_id: int | None
    mode: str
    tokens: int
    latency_ms: int
    created: float
    ready: float
    outcomes: list[Outcome] = field(repr=False)
    batch: bool = False
    notify: bool = False
    """Whether an event is still owed to webhooks."""


@dataclass
class State:
    """All records, and which of them changed since they were last stored."""

    seed: int = 0
    accounts: dict[str, Account] = field(default_factory=dict[str, Account], repr=False)
    schemas: dict[int, Schema] = field(default_factory=dict[int, Schema])
    webhooks: dict[int, Webhook] = field(default_factory=dict[int, Webhook])
    jobs: dict[str, Job] = field(default_factory=dict[str, Job])
    billed: dict[str, int] = field(default_factory=dict[str, int])
    counters: dict[str, int] = field(default_factory=dict[str, int])
    dirty: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])

    def touch(self, kind: str, id: object) -> None:
        """Say that a record of `kind` (a field's name) was made, changed or removed."""
        self.dirty.add((kind, str(id)))

    def next(self, counter: str, first: int = 1) -> int:
        """The next number of a series that starts at `first`."""
        number = self.counters.get(counter, first)
        self.counters[counter] = number + 1
        self.touch("counters", counter)
        return number

    def next_job_id(self) -> str:
        """An integer as a string, as the API gives them; the first depends on the seed."""
        return str(self.next("jobs", 1000 + int(self.token("jobs", 4), 16) % 90_000))

    def next_batch_id(self) -> str:
        """An id like `batch_6612abc`."""
        number = self.next("batches")
        return f"batch_{self.token(f'batch {number}', 7)}"

    def token(self, purpose: str, length: int) -> str:
        """Hex digits that depend on the seed and the purpose only, up to 64 of them."""
        return hashlib.sha256(f"{self.seed}/{purpose}".encode()).hexdigest()[:length]

    def charge(self, input: str) -> None:
        """Put one input on the bill."""
        digest = hashlib.sha256(input.encode()).hexdigest()
        self.billed[digest] = self.billed.get(digest, 0) + 1
        self.touch("billed", digest)

    def bill(self) -> Bill:
        """The bill so far, as a copy."""
        return Bill(sum(self.billed.values()), dict(self.billed))
