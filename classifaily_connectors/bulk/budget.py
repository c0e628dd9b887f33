"""How much a run may spend.

The law of this file: stop *before* the limit, whoever set it: your own cap, the reserve you want left, or the month's
quota; and concurrent runs on one ledger count together.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from classifaily_connectors.errors import BudgetExceededError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from classifaily_connectors.bulk.desk import Desk
    from classifaily_connectors.errors import QuotaExceededError
    from classifaily_connectors.models import Usage

_PERIODS = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m"}


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits in requests (one per row that is bought).

    `max_requests` caps one call: each worker, partition or retry that makes a call of its own may spend it anew. With a
    `name` it caps all runs together that share the ledger and the name: for ever, or anew in each `per` (a day, an ISO
    week or a month in UTC; a run counts where it began). `reserve` is what must be left of the month's quota.
    `on_exceeded="raise"` refuses before the first paid call where the need can be known, and
    otherwise stops with BudgetExceededError once what was paid has landed; `"partial"` goes as far as the budget
    goes and gives the other rows the status `uncovered`.
    """

    max_requests: int | None = None
    reserve: int = 0
    on_exceeded: Literal["raise", "partial"] = "raise"
    name: str | None = None
    per: Literal["day", "week", "month"] | None = None

    def __post_init__(self) -> None:
        if self.max_requests is not None and self.max_requests < 0:
            raise ConfigurationError(f"max_requests is {self.max_requests}; it must be 0 or more")
        if self.reserve < 0:
            raise ConfigurationError(f"reserve is {self.reserve}; it must be 0 or more")
        if self.on_exceeded not in ("raise", "partial"):
            raise ConfigurationError(f"on_exceeded is {self.on_exceeded!r}; it must be raise or partial")
        if self.per is not None and self.per not in _PERIODS:
            raise ConfigurationError(f"per is {self.per!r}; it must be day, week or month")
        if self.per is not None and not self.name:
            raise ConfigurationError("per needs a name: without one, max_requests is a cap per call")

    def counter(self, now: float) -> str:
        """The name of the ledger's count of this budget, at `now` (seconds since the epoch); "" for none."""
        if not self.name:
            return ""
        period = f"|{datetime.fromtimestamp(now, UTC):{_PERIODS[self.per]}}" if self.per else ""
        return f"budget|{self.name}{period}"

    def exceeded(
        self, needed: int, available: int, usage: Usage | None, *, by_quota: bool, at_least: bool = False
    ) -> BudgetExceededError:
        """The error that says by how much and, if the quota was the limit and no cap of one's own, until when."""
        resets_at = usage.limits.resets_at if usage else None
        when = f"; the quota starts anew at {resets_at:%Y-%m-%d %H:%M} UTC" if resets_at and by_quota else ""
        return BudgetExceededError(
            f"{'at least ' if at_least else ''}{needed} requests are needed and {available} may be spent{when}",
            needed=needed,
            available=available,
            resets_at=resets_at,
        )


class Purse:
    """What one run may still spend.

    The ledger counts under two names: `account` for everything bought with one quota, and the budget's own name. A
    claim is counted in the commit that makes it, and only as far as there is room: the desk knows the limits.
    """

    def __init__(self, budget: Budget, desk: Desk, account: str) -> None:
        self.budget = budget
        self.usage: Usage | None = None
        self._desk = desk
        self._account = f"requests|{account}"
        self._cap = ""
        self.foreseen: int | None = None
        """Requests that the whole run needs, where that is known."""

    async def open(self, usage: Callable[[], Awaitable[Usage | None]]) -> None:
        """Read the counts, then the quota: what others buy in between is counted twice rather than missed.

        So are claims that others have not settled yet: the API may not have counted them.
        """
        desk, most = self._desk, self.budget.max_requests
        self._cap = self.budget.counter(await desk.do(desk.book.now) if self.budget.per else 0.0)
        self.usage, limit = await self._quota(usage)
        if limit is not None:
            desk.limits[self._account] = limit
        if most is not None and self._cap:
            desk.limits[self._cap] = most
        elif most is not None:
            desk.cap = most

    async def _quota(
        self, usage: Callable[[], Awaitable[Usage | None]], in_flight: int = 0
    ) -> tuple[Usage | None, int | None]:
        """The usage, and how far the ledger's count of the account may go (None: no limit is known).

        `in_flight` are requests of this run that have not ended.
        """
        under_way = await self._desk.look_at_counts([self._account, *([self._cap] if self._cap else [])])
        settled = self._desk.counts[self._account] - under_way - in_flight
        told = await usage()
        if told is None or told.remaining is None:
            return told, None
        return told, settled + told.remaining - self.budget.reserve

    async def renew(self, usage: Callable[[], Awaitable[Usage | None]], in_flight: int) -> bool:
        """Ask for the quota again, as the month may have turned or the plan may be another; whether there is more."""
        known = self._desk.limits.get(self._account)
        told, limit = await self._quota(usage, in_flight)
        if told is None or known is None:
            return False
        if limit is None:
            del self._desk.limits[self._account]
        elif limit > known:
            self._desk.limits[self._account] = limit
        else:
            return False
        self.usage = told
        return self.available != 0

    @property
    def available(self) -> int | None:
        """Requests that may yet be bought; None means no limit."""
        room = self._room
        return max(0, min(room.values())) if room else None

    @property
    def _room(self) -> dict[str, int]:
        desk = self._desk
        room = {name: limit - desk.counts[name] for name, limit in desk.limits.items()}
        return room if desk.cap is None else {**room, "": desk.cap - desk.spent}

    def exhaust(self) -> None:
        """Buy nothing more: the API says that the quota is used up."""
        self._desk.cap = 0

    @property
    def end(self) -> str:
        """What ended the buying, and when it may go on."""
        quota, available = self._room.get(self._account), self.available
        if quota is None or available is None or quota > available:
            return f"the budget of {self.budget.max_requests} requests is used up"
        reserve = f" but for the reserve of {self.budget.reserve}" if self.budget.reserve else ""
        return f"the month's quota is used up{reserve}{self._again_at(None)}"

    def _again_at(self, resets_at: datetime | None) -> str:
        resets_at = resets_at or (self.usage.limits.resets_at if self.usage else None)
        return f"; it starts anew at {resets_at:%Y-%m-%d %H:%M} UTC" if resets_at else ""

    def end_by(self, error: QuotaExceededError) -> str:
        """The same where the API says that the month's quota is used up."""
        return f"the month's quota is used up{self._again_at(error.resets_at)}"

    def exceeded(self, needed: int, *, at_least: bool = False) -> BudgetExceededError:
        """The error for a run that needs `needed` inputs in all."""
        available, quota = self.available or 0, self._room.get(self._account)
        by_quota = quota is not None and quota <= available
        return self.budget.exceeded(
            needed, self._desk.spent + available, self.usage, by_quota=by_quota, at_least=at_least
        )

    def exceeded_by(self, number: int) -> BudgetExceededError:
        """The error for a run that found no room for `number` more inputs, and may need more than these."""
        return self.exceeded(max(self._desk.spent + number, self.foreseen or 0), at_least=self.foreseen is None)
