"""The sandbox's time: the machine's own, moved or stopped as a test needs.

The law of this file: quotas, job delays and job history read this clock and no other.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Anything that tells the time, in UTC."""

    def now(self) -> datetime:
        """The current time, with a timezone."""
        ...


class SandboxClock:
    """A clock one can move.

    `start` is the time it shows first (default: now); `frozen` keeps it there until `advance` or `set` moves it.
    """

    def __init__(self, start: datetime | None = None, *, frozen: bool = False) -> None:
        self._frozen_at: datetime | None = None
        self._offset = timedelta()
        if frozen:
            self._frozen_at = _utc(start) if start else datetime.now(UTC)
        elif start:
            self._offset = _utc(start) - datetime.now(UTC)

    def now(self) -> datetime:
        """The current time in UTC."""
        return self._frozen_at or datetime.now(UTC) + self._offset

    def advance(self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0) -> None:
        """Move forward (or back, with negative numbers)."""
        self.set(self.now() + timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds))

    def set(self, moment: datetime) -> None:
        """Show `moment` from now on; without a timezone it is read as UTC."""
        if self._frozen_at is not None:
            self._frozen_at = _utc(moment)
        else:
            self._offset = _utc(moment) - datetime.now(UTC)


def _utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def stamp(seconds: float) -> str:
    """Seconds since the epoch as the API writes times: `2026-11-02T08:15:30Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
