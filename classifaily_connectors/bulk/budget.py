"""How much a run may spend.

The law of this file: stop *before* the limit, whoever set it: your own cap, the reserve you want left, or the month's
quota; and concurrent runs on one ledger count together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from classifaily_connectors.errors import BudgetExceededError, ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from classifaily_connectors.bulk.desk import Desk
    from classifaily_connectors.models import Usage


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits in requests (one per row that is bought).

    `max_requests` caps this run, or all runs that share the ledger and the `name`; `reserve` is what must be left of
    the month's quota. `on_exceeded="raise"` refuses before the first paid call where the need can be known, and
    otherwise stops with BudgetExceededError once what was paid has landed; `"partial"` goes as far as the budget
    goes and gives the other rows the status `uncovered`.
    """

    max_requests: int | None = None
    reserve: int = 0
    on_exceeded: Literal["raise", "partial"] = "raise"
    name: str | None = None

    def __post_init__(self) -> None:
        if self.max_requests is not None and self.max_requests < 0:
            raise ConfigurationError(f"max_requests is {self.max_requests}; it must be 0 or more")
        if self.reserve < 0:
            raise ConfigurationError(f"reserve is {self.reserve}; it must be 0 or more")
        if self.on_exceeded not in ("raise", "partial"):
            raise ConfigurationError(f"on_exceeded is {self.on_exceeded!r}; it must be raise or partial")

    def exceeded(self, needed: int, available: int, usage: Usage | None) -> BudgetExceededError:
        """The error that says by how much, and when the quota starts anew."""
        resets_at = usage.limits.resets_at if usage else None
        when = f"; the quota starts anew at {resets_at:%Y-%m-%d %H:%M} UTC" if resets_at else ""
        return BudgetExceededError(
            f"{needed} requests are needed and {available} may be spent{when}",
            needed=needed,
            available=available,
            resets_at=resets_at,
        )


class Purse:
    """What one run may still spend: its own spending is known exactly, that of other runs as of the last commit.

    The ledger counts under two names: `account` for everything bought with one quota, and the budget's own name.
    """

    def __init__(self, budget: Budget, desk: Desk, account: str) -> None:
        self.budget = budget
        self.usage: Usage | None = None
        self.spent = 0
        self._desk = desk
        self._account = f"requests|{account}"
        self._cap = f"budget|{budget.name}" if budget.name else ""
        self._limits: dict[str, int] = {}
        self._start: dict[str, int] = {}

    async def open(self, usage: Callable[[], Awaitable[Usage | None]]) -> None:
        """Read the counts, then the quota: what others buy in between is counted twice rather than missed."""
        await self._desk.count([self._account, *([self._cap] if self._cap else [])])
        self._start = dict(self._desk.counts)
        self.usage = await usage()
        if self.usage is not None and self.usage.remaining is not None:
            self._limits[self._account] = self.usage.remaining - self.budget.reserve
        if self.budget.max_requests is not None:
            self._limits[self._cap] = self.budget.max_requests - self._start.get(self._cap, 0)

    @property
    def available(self) -> int | None:
        """Requests that may yet be bought; None means no limit."""
        if not self._limits:
            return None
        return max(0, min(limit - self._by_others(name) for name, limit in self._limits.items()) - self.spent)

    def spending(self, number: int) -> dict[str, int]:
        """What to count on the ledger before `number` inputs are bought."""
        return {name: number for name in self._limits if name}

    def take(self, number: int, wanted: int) -> int:
        """How many of `number` inputs may be bought; `wanted` were counted, and what is not needed is given back."""
        available = self.available
        room = number if available is None else min(number, available)
        self.spent += room
        self._desk.give_back(self.spending(wanted - room))
        return room

    def put_back(self, number: int) -> None:
        """`number` inputs were not bought after all."""
        self.spent -= number
        self._desk.give_back(self.spending(number))

    def exhaust(self) -> None:
        """Buy nothing more: the API says that the quota is used up."""
        self._limits[""] = self.spent

    def _by_others(self, name: str) -> int:
        counts, booked = self._desk.counts.get(name, 0), self._desk.booked.get(name, 0)
        return max(0, counts - self._start.get(name, 0) - booked)

    def exceeded(self, needed: int) -> BudgetExceededError:
        """The error for a run that needs `needed` inputs in all."""
        return self.budget.exceeded(needed, self.spent + (self.available or 0), self.usage)
