"""What the ledger says about a key, a run and itself, and what it is told; needs no database to be imported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

State = Literal["open", "parked", "done"]

SUBMITTED = "submitted"
"""The namespace of jobs submitted one by one; that of rows has no name."""


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
    """What one commit writes: `answers` to claimed keys, claims to give back (`released`), `keys` to claim in this
    order, and `stale` entries to take over if they still are as they were.

    `again` says that the commit was tried before and may have come about, though nobody was told.

    Each claim counts one request under every name of `limits`, the shared counts and the most they may come to, less
    the `returned` ones of earlier claims that were not executed. Claims that find no room there, or that come after the
    first `at_most`, are won but not counted.
    """

    answers: dict[bytes, str] = field(default_factory=dict[bytes, str])
    released: set[bytes] = field(default_factory=set[bytes])
    keys: dict[bytes, None] = field(default_factory=dict[bytes, None])
    stale: dict[bytes, Entry] = field(default_factory=dict[bytes, Entry])
    limits: Mapping[str, int] = field(default_factory=dict[str, int])
    returned: int = 0
    at_most: int | None = None
    again: bool = False

    def claim(self, keys: Iterable[bytes], stale: Iterable[Entry] = ()) -> None:
        """Add claims."""
        self.keys.update(dict.fromkeys(keys))
        self.stale.update((each.key, each) for each in stale)

    def count(self, won: set[bytes], add: Callable[[str, int], int]) -> Committed:
        """Count the claims that were `won`, as far as there is room; `add` adds to a shared count and returns it."""
        number = len(won) if self.at_most is None else min(len(won), self.at_most)
        counts = {name: add(name, number - self.returned) for name in sorted(self.limits)}
        over = max((counts[name] - limit for name, limit in self.limits.items()), default=0)
        surplus = min(number, max(0, over))
        if surplus:
            counts = {name: add(name, -surplus) for name in sorted(self.limits)}
        return Committed(won, self._first(number - surplus, won), counts)

    def recount(self, won: set[bytes], add: Callable[[str, int], int]) -> Committed:
        """What the commit brought that came about unnoticed: its claims are counted. Where a limit is reached, some may
        have been taken back, and which is not known: then none is covered."""
        counts = {name: add(name, 0) for name in sorted(self.limits)}
        full = any(counts[name] >= limit for name, limit in self.limits.items())
        number = 0 if full else len(won) if self.at_most is None else min(len(won), self.at_most)
        return Committed(won, self._first(number, won), counts)

    def _first(self, number: int, won: set[bytes]) -> set[bytes]:
        return set(islice((key for key in (*self.keys, *self.stale) if key in won), number))


@dataclass(frozen=True, slots=True)
class Committed:
    """What a commit brought: the keys `won`, those of them that were `covered` by every limit and so are counted, and
    the shared `counts` as they are now."""

    won: set[bytes]
    covered: set[bytes]
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
    """How many entries are in each state. Of the open ones, `live` belong to a run that is alive, and `jobs` of the
    others have a job, whose answer is there to be fetched."""

    done: int
    parked: int
    open: int
    live: int
    jobs: int = 0

    @property
    def interrupted(self) -> int:
        """Open entries of runs that are no more, with no job known: perhaps paid, no answer, as the parked ones."""
        return self.open - self.live - self.jobs
