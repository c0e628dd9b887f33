"""What a step spent, counted where it is spent.

The law of this file: requests are counted once they were sent and answered; what an answer says of its own cost wins.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Generator


@dataclass
class Spent:
    """What was spent since the counting began: `requests` of the month's quota, and `calls` that cost some."""

    calls: int = 0
    requests: int = 0
    reused: int = 0

    def metadata(self) -> dict[str, Any]:
        """The numbers, to plot from run to run."""
        return {f"classifaily/{name}": value for name, value in vars(self).items()}


@dataclass
class Meter:
    """Counts for everybody who is counting just now; for all threads."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _open: list[Spent] = field(default_factory=list[Spent])

    def count(self, requests: int, *, reused: int = 0) -> None:
        """One more call, which cost so many requests, and had so many answers from the ledger."""
        with self._lock:
            for spent in self._open:
                spent.calls += 1
                spent.requests += requests
                spent.reused += reused

    @contextmanager
    def counting(self) -> Generator[Spent]:
        """What is spent meanwhile."""
        spent = Spent()
        with self._lock:
            self._open.append(spent)
        try:
            yield spent
        finally:
            with self._lock:
                self._open = [each for each in self._open if each is not spent]


class Counted:
    """A client whose submissions are counted; all else is the client's own."""

    def __init__(self, client: Any, meter: Meter) -> None:
        self._client, self._meter = client, meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def submit(self, input: Any, **options: Any) -> Any:
        """The client's."""
        job = self._client.submit(input, **options)
        self._meter.count(1)
        return job


class AsyncCounted(Counted):
    """See `Counted`."""

    async def submit(self, input: Any, **options: Any) -> Any:
        """The client's."""
        job = await self._client.submit(input, **options)
        self._meter.count(1)
        return job
