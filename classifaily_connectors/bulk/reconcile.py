"""What the API's history says about requests whose answers were lost.

"Every call to /classify and /batch creates a job record" (API reference, Jobs), so an answer can be fetched for free,
and a request that left no record did not run. The law of this file: an answer is taken only when it is certainly the
one: a batch's by the item id, which is our key; a single one's by a preview that fits this request and no other.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from classifaily_connectors.bulk.rows import Verdict
from classifaily_connectors.operations import jobs

if TYPE_CHECKING:
    from classifaily_connectors.bulk.terms import Unit
    from classifaily_connectors.models import Classification, Job
    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.operations.effects import Operation
    from classifaily_connectors.store import Entry

Pair = tuple["Unit", "Entry"]
_SKEW = 120.0
"""Seconds by which the server's clock may be off ours."""
_KEPT = 6 * 86_400.0
"""Seconds of history every plan has (API reference, Plan comparison: 7 days at least), less a day to be sure."""
_LONGEST = 3600.0
"""Seconds after its claim by which a request has certainly reached the server, or never will."""
_ELLIPSES = ("...", "…")


@dataclass
class Findings:
    """`answered` were executed, `absent` were not, and of `unsure` the history does not tell."""

    answered: dict[bytes, Verdict] = field(default_factory=dict[bytes, Verdict])
    absent: list[Pair] = field(default_factory=list[Pair])
    unsure: list[Pair] = field(default_factory=list[Pair])


class Reconciler:
    """Reads the job history once for many open questions."""

    def __init__(self, run: Callable[[Operation[Any]], Awaitable[Any]], context: Context) -> None:
        self._run = run
        self._context = context

    async def look(self, pairs: list[Pair]) -> Findings:
        """What became of each."""
        findings = Findings()
        if not pairs:
            return findings
        since = min(entry.claimed_at for _unit, entry in pairs) - _SKEW
        by_item, singles, running = await self._history(since)
        candidates = {unit.key: [job for job in singles if self._fits(job, unit)] for unit, _entry in pairs}
        claims: dict[str | None, int] = {}
        for fitting in candidates.values():
            for job in fitting:
                claims[job.id] = claims.get(job.id, 0) + 1
        for unit, entry in pairs:
            result = by_item.get(unit.item_id)
            fitting = candidates[unit.key]
            if result is not None:
                findings.answered[unit.key] = Verdict.of(*result)
            elif len(fitting) == 1 and claims[fitting[0].id] == 1 and _whole(fitting[0]):
                findings.answered[unit.key] = Verdict.of(fitting[0], fitting[0].id)
            elif fitting or _may_be_among(running, entry) or entry.claimed_at < time.time() - _KEPT:
                findings.unsure.append((unit, entry))
            else:
                findings.absent.append((unit, entry))
        return findings

    async def _history(self, since: float) -> tuple[dict[str, tuple[Classification, str | None]], list[Job], list[Job]]:
        """Results by item id, single jobs, and jobs that are still running."""
        by_item: dict[str, tuple[Classification, str | None]] = {}
        singles: list[Job] = []
        running: list[Job] = []
        dates: list[float] = []
        pages = jobs.Pages()
        while not pages.ended:
            page = await self._run(jobs.list_jobs(self._context, limit=jobs.MAX_PAGE, offset=pages.offset))
            fresh = pages.fresh(page)
            recent = [job for job in fresh if job.created_at is None or job.created_at.timestamp() >= since]
            for job in recent:
                if not job.done:
                    running.append(job)
                if job.input_preview is not None and not job.results:
                    singles.append(job)
                    continue
                whole = job if job.results else await self._run(jobs.get_job(self._context, job.id or ""))
                by_item.update((result.id, (result, job.id)) for result in whole.results if result.id is not None)
            dates += [job.created_at.timestamp() for job in fresh if job.created_at is not None]
            # The order is not documented: only a listing that is seen to go back in time may be left early.
            if fresh and not recent and dates[0] > dates[-1] and dates == sorted(dates, reverse=True):
                break
        return by_item, singles, running

    def _fits(self, job: Job, unit: Unit) -> bool:
        """Whether `job` may be this unit's: its type and categories, and a preview that its input begins with."""
        text, preview = unit.item["input"], job.input_preview or ""
        cut = next((each for each in _ELLIPSES if preview.endswith(each)), None)
        same_text = text == preview if cut is None else text.startswith(preview.removesuffix(cut))
        names = frozenset(each.name for each in job.categories)
        same_set = not names or unit.allowed in (None, names)
        return bool(same_text) and same_set and job.input_type in (None, unit.item.get("type", "text"))


def _may_be_among(running: list[Job], entry: Entry) -> bool:
    """Whether one of the `running` jobs, whose items cannot be seen yet, may hold this entry's."""
    times = (job.created_at.timestamp() if job.created_at else entry.claimed_at for job in running)
    return any(-_SKEW <= created - entry.claimed_at <= _LONGEST for created in times)


def _whole(job: Job) -> bool:
    return job.done and not (job.input_preview or "").endswith(_ELLIPSES)
