"""The account's job history, read once for many open questions.

"Every call to /classify and /batch creates a job record" (API reference, Jobs). All times are ages by the server's own
clock, as its `Date` tells it: our clock may be off by any amount. Without a `Date` no age is known, and everything is
read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from classifaily_connectors.operations import jobs

if TYPE_CHECKING:
    from classifaily_connectors.models import Classification, Job
    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.operations.effects import Operation


@dataclass(frozen=True, slots=True)
class Found:
    """A result of a batch: its `job_id`, and its age in seconds (None: not known)."""

    result: Classification
    job_id: str | None
    age: float | None


@dataclass(slots=True)
class History:
    """What the history holds: `results` by item id (the newest of each), `singles` (jobs of one input) and `running`
    jobs, whose items cannot be seen yet, both with their age in seconds (None: not known).

    `complete` says that everything of the time that was asked for has been read, and that the server told its time.
    """

    results: dict[str, Found] = field(default_factory=dict[str, Found])
    singles: list[tuple[Job, float | None]] = field(default_factory=list["tuple[Job, float | None]"])
    running: list[float | None] = field(default_factory=list["float | None"])
    complete: bool = False

    def add(self, job: Job, age: float | None) -> None:
        """Take in the results of a job of this age."""
        for result in job.results:
            if result.id is None:
                continue
            known = self.results.get(result.id)
            if known is None or (age is not None and (known.age is None or age < known.age)):
                self.results[result.id] = Found(result, job.id, age)


def read_history(context: Context, seconds: float) -> Operation[History]:
    """The jobs of the last `seconds`; free. Raises what reading raises."""
    history = History()
    pages = jobs.Pages()
    now: float | None = None
    ages: list[float] = []
    seen, total = 0, None
    while not pages.ended:
        page = yield from jobs.list_jobs(context, limit=jobs.MAX_PAGE, offset=pages.offset)
        if pages.offset == 0:
            now, total = _seconds(context.server_date), page.total
        fresh = pages.fresh(page)
        seen += len(fresh)
        recent = False
        for job in fresh:
            age = None if now is None or job.created_at is None else now - job.created_at.timestamp()
            if age is not None:
                ages.append(age)
                if age > seconds:
                    continue
            recent = True
            is_single = job.input_preview is not None and not job.results
            if is_single:
                history.singles.append((job, age))
            if not job.done:
                history.running.append(age)
            if is_single or not job.done:
                continue
            # A listing may leave a batch's results out.
            whole = job if job.results or job.id is None else (yield from jobs.get_job(context, job.id))
            history.add(whole, age)
        # The order is not documented: only a listing that is seen to go back in time may be left early.
        if fresh and not recent and ages[0] < ages[-1] and ages == sorted(ages):
            history.complete = now is not None
            return history
        # A page that only repeats others comes from a server that ignores the offset: there may be more.
        history.complete = now is not None and (not page or (total is not None and seen >= total))
    return history


def _seconds(date: str | None) -> float | None:
    try:
        return None if date is None else parsedate_to_datetime(date).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
