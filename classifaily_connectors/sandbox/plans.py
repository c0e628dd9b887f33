"""The plans and what each allows (API reference, Rate limits and Plan comparison; changelog for `growth`).

The law of this file: numbers of the vendor's tables, no behaviour.
"""

from __future__ import annotations

from dataclasses import dataclass

from classifaily_connectors.errors import ConfigurationError


@dataclass(frozen=True)
class Plan:
    """One column of the plan comparison; None is unlimited."""

    name: str
    requests: int | None
    """Inputs a calendar month (UTC)."""
    batch_size: int
    """Items per batch call."""
    schemas: int | None
    """Saved schemas; 0 is not available."""
    webhooks: int | None
    """Registered endpoints; 0 is not available."""
    history_days: int | None
    """Days a job can be read."""
    media: tuple[str, ...]
    """Input types besides text."""
    paid: bool = True

    @property
    def categories(self) -> bool:
        """Whether requests may bring their own categories."""
        return self.paid


_ALL_MEDIA = ("image", "audio", "video")

PLANS = {
    plan.name: plan
    for plan in (
        Plan("free", 100, 1, 0, 0, 7, (), paid=False),
        Plan("starter", 10_000, 50, 10, 0, 30, ("image",)),
        Plan("pro", 100_000, 500, None, 10, 365, _ALL_MEDIA),
        # The changelog's name for the third plan, with the changelog's batch size.
        Plan("growth", 100_000, 25, None, 10, 365, _ALL_MEDIA),
        Plan("enterprise", None, 500, None, None, None, _ALL_MEDIA),
    )
}


def plan_named(name: str) -> Plan:
    """The plan of that name; raises `ConfigurationError` naming the known ones."""
    try:
        return PLANS[name]
    except KeyError:
        raise ConfigurationError(f"plan must be one of {', '.join(PLANS)}, not {name!r}") from None
