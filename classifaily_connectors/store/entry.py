"""What the ledger says about a key, a run and itself, and what it is told; needs no database to be imported."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["open", "parked", "done"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of the ledger; times are seconds since the epoch, `answer` is the JSON text the engine stored.

    An entry that is being bought anew keeps the answer from before until the new one comes.
    """

    key: bytes
    state: State
    run_id: str
    claimed_at: float
    settled_at: float | None = None
    job_id: str | None = None
    answer: str | None = None


@dataclass(slots=True)
class Changes:
    """What one commit writes: `answers` to claimed keys, `keys` to claim, `stale` entries to take over if they still
    are as they were, and requests to add to the shared counts (`spending`, by name; negative gives back)."""

    answers: dict[bytes, str] = field(default_factory=dict[bytes, str])
    keys: set[bytes] = field(default_factory=set[bytes])
    stale: dict[bytes, Entry] = field(default_factory=dict[bytes, Entry])
    spending: dict[str, int] = field(default_factory=dict[str, int])

    def __bool__(self) -> bool:
        return bool(self.answers or self.keys or self.stale or any(self.spending.values()))

    def claim(self, keys: Iterable[bytes], stale: Iterable[Entry] = ()) -> None:
        """Add claims."""
        self.keys.update(keys)
        self.stale.update((each.key, each) for each in stale)

    def spend(self, spending: Mapping[str, int]) -> None:
        """Add to what is spent."""
        for name, number in spending.items():
            self.spending[name] = self.spending.get(name, 0) + number


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit brought: the keys `won`, and the shared `counts` as they are now."""

    won: set[bytes]
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class RunInfo:
    """A run that has claimed keys: `process` says where it ran, `beat_at` when it last showed life."""

    id: str
    process: str
    started_at: float
    beat_at: float
    ended_at: float | None


@dataclass(frozen=True, slots=True)
class LedgerStats:
    """How many entries are in each state, and how many of the open ones belong to a run that is alive."""

    done: int
    parked: int
    open: int
    live: int
