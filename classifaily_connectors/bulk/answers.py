"""What one paid call brought back, by item."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from classifaily_connectors.models import BatchResult, Classification, Job

_OVER_QUOTA = "rate_limit_exceeded"
"""The code of an item that a batch had no quota for (API reference, Errors)."""


class Answers(NamedTuple):
    """The results of one call by item id, and the job it became."""

    by_item: Mapping[str, Classification]
    job_id: str | None
    queued: bool


def by_id(answer: BatchResult | Job) -> dict[str, Classification]:
    """The results by the id they name; one that names none, or names one twice, is nobody's."""
    found: dict[str, Classification] = {}
    twice: set[str] = set()
    for result in answer.results:
        if result.id is not None:
            first = found.setdefault(result.id, result)
            if first is not result and first != result:
                twice.add(result.id)
    return {item_id: result for item_id, result in found.items() if item_id not in twice}


def is_over_quota(result: Classification | None) -> bool:
    """Whether this item was left undone, and not billed, because the month's quota ended within its batch."""
    return result is not None and result.error is not None and result.error.code == _OVER_QUOTA
