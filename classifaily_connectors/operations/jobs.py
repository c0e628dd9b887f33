"""Jobs: looked up, listed, awaited (API reference, Jobs).

The law of this file: it only reads, so it may ask again as often as it likes, and a wait gives up on the deadline
alone, never on one bad answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar
from urllib.parse import quote

from classifaily_connectors.errors import (
    ClassifailyError,
    JobFailedError,
    JobTimeoutError,
    MethodNotAllowedError,
    NotFoundError,
    NotSentError,
    RateLimitedError,
    ServerError,
    refuse,
)
from classifaily_connectors.fields import as_list, as_map
from classifaily_connectors.media import HALF_A_PAIR, is_unicode
from classifaily_connectors.models import Job
from classifaily_connectors.operations.call import call
from classifaily_connectors.operations.effects import Send, Sleep, Stopwatch
from classifaily_connectors.operations.payloads import whole

if TYPE_CHECKING:
    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.operations.effects import Operation

T = TypeVar("T")
Read = TypeVar("Read")
MAX_PAGE = 100
_NEWBORN = 15.0
"""Seconds after a submission in which "not found" may only mean "not yet"."""


class Page(list[T], Generic[T]):
    """One page of a listing; `total` counts all entries when the server says so."""

    total: int | None = None

    def read(self, entry: Callable[[T], Read]) -> Page[Read]:
        """The same page, with every entry read by `entry`."""
        page: Page[Read] = Page(map(entry, self))
        page.total = self.total
        return page


class Pages:
    """Where an iteration over all jobs stands.

    New jobs push older ones to later pages, so one may be seen twice; and a server that ignores the offset sends the
    same page again: a page without anything new is the end.
    """

    def __init__(self) -> None:
        self.offset = 0
        self.ended = False
        self._seen: set[str] = set()

    def fresh(self, page: Page[Job]) -> list[Job]:
        """The jobs of `page` not seen before."""
        self.offset += len(page)
        new = [job for job in page if job.id not in self._seen]
        ids = {job.id for job in new if job.id is not None}
        self._seen |= ids
        # Entries without an id look new on every page, so they do not keep the iteration going.
        self.ended = not ids or (page.total is not None and self.offset >= page.total)
        return new


def page_of(wire: object, name: str) -> Page[Any]:
    """The entries of `{name: […]}`, `{"data": […]}` or a bare list; anything else is a ValueError."""
    page: Page[Any] = Page()
    envelope = as_map(wire)
    found = next((each for each in (name, "data") if each in envelope), None)
    if found is not None:
        page.extend(as_list(envelope[found]))
        total = envelope.get("total")
        page.total = total if isinstance(total, int) else None
    elif as_list(wire) and all(key.isdecimal() for key in envelope):
        page.extend(as_list(wire))
    elif wire == []:
        pass
    else:
        raise ValueError("not a listing")
    return page


def checked_job_id(job_id: object) -> str:
    """A job's id as text: digits mostly, and opaque.

    Raises InvalidRequestError for what names no job, such as None, or the text that a template makes of it: waiting
    for it would never end.
    """
    if isinstance(job_id, bool) or not isinstance(job_id, str | int):
        kind = "None" if job_id is None else f"of type {type(job_id).__name__}"
        raise refuse(f"job id is {kind}: there is no such job")
    wanted = str(job_id).strip()
    if not is_unicode(wanted):
        raise refuse(f"job id {HALF_A_PAIR}")
    if wanted.lower() in ("", "none", "null", "undefined"):
        raise refuse(f"job id is {wanted!r}: there is no such job" if wanted else "job id is empty")
    return wanted


def get_job(context: Context, job_id: str | int) -> Operation[Job]:
    """The job, whichever of the two addresses the server knows; remembers which one worked."""
    wanted = checked_job_id(job_id)
    by_query = Send("GET", "/jobs", {"id": wanted})
    by_path = Send("GET", f"/jobs/{quote(wanted, safe='')}")
    forms: tuple[tuple[Literal["query", "path"], Send], ...] = (("query", by_query), ("path", by_path))
    missing: ClassifailyError | None = None
    for form, send in forms:
        if context.job_by not in (None, form):
            continue
        try:
            job = yield from call(context, send, lambda wire: _pick(wire, wanted))
        except (NotFoundError, MethodNotAllowedError) as error:
            missing = missing or error
            continue
        if job is not None:
            context.job_by = form
            return job
    raise missing or NotFoundError(f"the server lists no job {wanted}", status=404)


def _pick(wire: object, job_id: str) -> Job | None:
    """The job in an answer: alone, or as the one entry of a listing (a filter may answer as a list)."""
    fields = as_map(wire)
    if {"id", "job_id", "status"} & fields.keys():
        return Job.model_validate({"id": job_id, **fields})
    jobs = [Job.model_validate(each) for each in page_of(wire, "jobs")]
    return next((job for job in jobs if job.id == job_id), None)


def list_jobs(
    context: Context,
    *,
    limit: int = 20,
    offset: int = 0,
    status: str | None = None,
    input_type: str | None = None,
) -> Operation[Page[Job]]:
    """One page of jobs, as the server orders them."""
    params = {"limit": str(whole(limit, "limit", 1, MAX_PAGE)), "offset": str(whole(offset, "offset", 0))}
    if status is not None:
        params["status"] = status
    if input_type is not None:
        params["input_type"] = input_type
    return (yield from call(context, Send("GET", "/jobs", params), _read_page))


def _read_page(wire: object) -> Page[Job]:
    return page_of(wire, "jobs").read(Job.model_validate)


def wait_for_job(
    context: Context, job_id: str | int, *, timeout: float | None = None, newborn: bool = False
) -> Operation[Job]:
    """The job once it has completed.

    Looks at once (a newborn job first after the policy's `poll_interval`), then ever more rarely, and one last time at
    the deadline: `timeout` seconds, else the policy's `max_wait`. Passing trouble is sat out.

    Raises JobFailedError, and JobTimeoutError with the job's id.
    """
    patience = context.policy.max_wait if timeout is None else timeout
    if isinstance(patience, bool) or not isinstance(patience, int | float) or not patience >= 0:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise refuse(f"timeout is {timeout!r}; it must be 0 or more seconds")
    watch = Stopwatch()
    status: str | None = None
    trouble = ""
    look = 0
    while True:
        if newborn or look:
            pause = min(context.policy.poll_delay(max(look, 1)), patience - watch.seconds)
            yield from watch.timing(_pause(pause))
        look += 1
        last = watch.seconds >= patience
        try:
            job = yield from watch.timing(get_job(context, job_id))
        except (ServerError, NotSentError, RateLimitedError) as error:
            trouble = error.message
        except NotFoundError:
            if not newborn or watch.seconds > _NEWBORN:
                raise
        else:
            if job.done:
                return settled(job)
            status, trouble = job.status, ""
        if last or watch.seconds >= patience:
            raise not_seen_to_end(str(job_id), f"within {watch.seconds:.0f} s", status=status, trouble=trouble)


def not_seen_to_end(job_id: str, limit: str, *, status: str | None = None, trouble: str = "") -> JobTimeoutError:
    """The error for a job that was waited for in vain; `trouble` says why the API could not be asked in the end."""
    message = f"job {job_id} has not ended {limit} and runs on; wait for it again by its id"
    if trouble:
        message = f"job {job_id} was not seen to end {limit}, as the API cannot be asked; wait for it again: {trouble}"
    return JobTimeoutError(message, job_id=job_id, status=status)


def _pause(seconds: float) -> Operation[None]:
    yield Sleep(max(0.0, seconds))


def settled(job: Job) -> Job:
    """`job`, unless it failed.

    Raises JobFailedError with the server's reason.
    """
    if job.failed:
        reason = job.error.message if job.error else "the server gave no reason"
        code = job.error.code if job.error else None
        raise JobFailedError(f"job {job.id} failed: {reason}", job_id=job.id, code=code)
    return job
