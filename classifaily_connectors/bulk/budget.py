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

    def exceeded(self, needed: int, available: int, usage: Usage | None, *, by_quota: bool) -> BudgetExceededError:
        """The error that says by how much and, if the quota was the limit and no cap of one's own, until when."""
        resets_at = usage.limits.resets_at if usage else None
        when = f"; the quota starts anew at {resets_at:%Y-%m-%d %H:%M} UTC" if resets_at and by_quota else ""
        return BudgetExceededError(
            f"{needed} requests are needed and {available} may be spent{when}",
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
        self._cap = f"budget|{budget.name}" if budget.name else ""

    async def open(self, usage: Callable[[], Awaitable[Usage | None]]) -> None:
        """Read the counts, then the quota: what others buy in between is counted twice rather than missed.

        So is what others have claimed and not settled yet: it is counted here, but perhaps not yet over there.
        """
        desk, most = self._desk, self.budget.max_requests
        under_way = await desk.look_at_counts([self._account, *([self._cap] if self._cap else [])])
        settled = desk.counts[self._account] - under_way
        self.usage = await usage()
        if self.usage is not None and self.usage.remaining is not None:
            desk.limits[self._account] = settled + self.usage.remaining - self.budget.reserve
        if most is not None and self._cap:
            desk.limits[self._cap] = most
        elif most is not None:
            desk.cap = most

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

    def exceeded(self, needed: int) -> BudgetExceededError:
        """The error for a run that needs `needed` inputs in all."""
        available, quota = self.available or 0, self._room.get(self._account)
        by_quota = quota is not None and quota <= available
        return self.budget.exceeded(needed, self._desk.spent + available, self.usage, by_quota=by_quota)

    def exceeded_by(self, number: int) -> BudgetExceededError:
        """The error for a run that found no room for `number` more inputs."""
        return self.exceeded(self._desk.spent + number)
