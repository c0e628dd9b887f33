"""Jobs, as the API tells of them: the slow and certain way to learn that one has ended.

The law of this file: it asks rarely and for many at once. A round is a few pages of the listing however many wait;
single questions are for the few that the pages left open, and their number in a round is bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from classifaily_connectors.errors import ClassifailyError, NotFoundError, NotSentError, RateLimitedError, ServerError
from classifaily_connectors.operations import jobs
from classifaily_connectors.operations.context import Context
from classifaily_connectors.transport import AsyncTransport

if TYPE_CHECKING:
    from classifaily_connectors.models import Job
    from classifaily_connectors.settings import Settings

logger = logging.getLogger("classifaily_connectors")

PASSING = (ServerError, NotSentError, RateLimitedError)
"""Trouble that a later round may not have."""

_FEW = 5
"""Up to so many questions are asked one by one."""
_MANY = 100
"""At most so many are asked one by one in a round; the next round, `_SOON` seconds later, asks the others."""
_SOON = 1.0
_GATHERING = 0.05
_UNKNOWN = 4
"""How often the API may say it knows no such job before that is believed: a newborn may not be there yet."""
_CONNECTIONS = 8
_OPEN = ("pending", "processing")
_ENDED = ("completed", "failed")


class Pace(NamedTuple):
    """Seconds between two questions about one job: `first`, doubled each time, at most `longest`."""

    first: float
    longest: float


class Question:
    """Has this job ended? `answer` is the job once it has."""

    __slots__ = ("answer", "asked", "due", "interval", "job_id", "looked", "missing", "must_exist", "pace")

    def __init__(self, job_id: str, pace: Pace, *, must_exist: bool) -> None:
        loop = asyncio.get_running_loop()
        self.job_id, self.pace, self.must_exist = job_id, pace, must_exist
        self.answer: asyncio.Future[Job] = loop.create_future()
        self.looked: asyncio.Future[None] | None = None
        self.asked = self.missing = 0
        self.interval = 0.0
        self.due = loop.time()

    def resolve(self, job: Job) -> None:
        """Say how it ended."""
        if not self.answer.done():
            self.answer.set_result(job)

    def refuse(self, error: ClassifailyError) -> None:
        """Say that there will be no answer."""
        if not self.answer.done():
            self.answer.set_exception(error)


class Asker:
    """The open questions to one account, and the task that asks them."""

    def __init__(self, settings: Settings) -> None:
        self._transport = AsyncTransport(settings, max_connections=_CONNECTIONS, application="waiting")
        self._context = Context(timeout=settings.timeout)
        self._questions: dict[str, set[Question]] = {}
        self._stirred = asyncio.Event()
        self.trouble = ""
        """Why the API could not be asked in the last round; empty when it could."""
        self._task = asyncio.create_task(self._work())

    @contextmanager
    def asking(self, job_id: str, pace: Pace, *, must_exist: bool) -> Generator[Question]:
        """Ask now, and then at this pace, inside the block.

        With `must_exist`, a job that the API goes on not knowing ends in NotFoundError.
        """
        question = Question(job_id, pace, must_exist=must_exist)
        self._questions.setdefault(job_id, set()).add(question)
        self._stirred.set()
        try:
            yield question
        finally:
            self._drop(question)
            if not question.answer.cancel() and not question.answer.cancelled():
                question.answer.exception()  # read, or asyncio reports it: the one who asked may have gone

    def again(self, question: Question) -> asyncio.Future[None]:
        """Ask once more now, whatever the pace; done when that is."""
        question.due = asyncio.get_running_loop().time()
        question.looked = asyncio.get_running_loop().create_future()
        self._stirred.set()
        return question.looked

    async def get(self, job_id: str) -> Job:
        """The job as it stands; raises what `jobs.get` raises."""
        return await self._transport.run(jobs.get_job(self._context, job_id))

    async def close(self) -> None:
        """End the task and the connections."""
        self._task.cancel()
        await asyncio.wait({self._task})
        await self._transport.close()

    async def _work(self) -> None:
        while True:
            self._stirred.clear()
            now = asyncio.get_running_loop().time()
            soonest = min((question.due for question in self._all()), default=None)
            if soonest is not None and soonest <= now:
                # Whoever comes in the same moment, and who is due soon, comes along: many waiters make few rounds.
                await asyncio.sleep(_GATHERING)
                await self._round([each for each in self._all() if each.due <= now + each.interval / 4 + _GATHERING])
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if soonest is None else soonest - now):
                    await self._stirred.wait()

    def _all(self) -> Iterable[Question]:
        return chain.from_iterable(self._questions.values())

    def _drop(self, question: Question) -> None:
        same = self._questions.get(question.job_id, set())
        same.discard(question)
        if not same:
            self._questions.pop(question.job_id, None)

    async def _round(self, questions: Collection[Question]) -> None:
        left: set[str] = set()
        trouble = ""
        try:
            left = await self._ask({question.job_id for question in questions})
        except PASSING as error:
            trouble = error.message
            logger.info("the API cannot be asked about jobs just now: %s", trouble)
        except Exception as error:  # nobody else would hear of it, and everybody would wait for ever
            logger.warning("asking about jobs failed: %s", type(error).__name__, exc_info=True)
        self.trouble = trouble
        jitter = random.uniform(0.8, 1.2)  # noqa: S311  # one for the round, so that those in it stay together
        now = asyncio.get_running_loop().time()
        for question in questions:
            if question.answer.done():
                self._drop(question)
            elif question.job_id in left:
                question.due = now + _SOON
                continue
            else:
                pause = question.pace.first * 2 ** min(question.asked, 30)
                question.interval = min(pause, question.pace.longest) * jitter
                question.due = now + question.interval
                question.asked += 1
            if question.looked and not question.looked.done():
                question.looked.set_result(None)

    async def _ask(self, job_ids: set[str]) -> set[str]:
        """Ask about these, and resolve those that have ended; the ids that there was no room for."""
        left = set(job_ids)
        if len(left) > _FEW:
            left -= await self._listed(left, _OPEN, resolve=False)
        if len(left) > _FEW:
            left -= await self._listed(left, _ENDED, resolve=True)
        # One first, alone: when the API is down, that is enough to know.
        for some in islice(left, 1), islice(left, 1, _MANY):
            ended = await asyncio.gather(*map(self._single, some), return_exceptions=True)
            for error in filter(None, ended):
                raise error
        return set(islice(left, _MANY, None))

    async def _listed(self, job_ids: set[str], statuses: Collection[str], *, resolve: bool) -> set[str]:
        """Those found in the listings of these statuses, as many pages of each as all of them could fill."""
        found: set[str] = set()
        for status in statuses:
            pages = jobs.Pages()
            while not pages.ended and found != job_ids and pages.offset <= len(job_ids) + jobs.MAX_PAGE:
                try:
                    page = await self._page(status, pages.offset)
                except PASSING:
                    raise
                except ClassifailyError:  # no listings here: single questions will tell
                    return found
                for job in pages.fresh(page):
                    if job.id in job_ids and (not resolve or _told(job)):
                        found.add(job.id)
                        self._resolve(job)
        return found

    async def _page(self, status: str, offset: int) -> jobs.Page[Job]:
        listing = jobs.list_jobs(self._context, limit=jobs.MAX_PAGE, offset=offset, status=status)
        return await self._transport.run(listing)

    async def _single(self, job_id: str) -> None:
        try:
            self._resolve(await self.get(job_id))
        except PASSING:
            raise
        except NotFoundError as error:
            for question in self._about(job_id):
                question.missing += 1
                if question.must_exist and question.missing >= _UNKNOWN:
                    question.refuse(error)
        except ClassifailyError as error:
            for question in self._about(job_id):
                question.refuse(error)

    def _resolve(self, job: Job) -> None:
        if job.done and job.id is not None:
            for question in self._about(job.id):
                question.resolve(job)

    def _about(self, job_id: str) -> Collection[Question]:
        return self._questions.get(job_id, ())


def _told(job: Job) -> bool:
    # A listing may be an outline: a job that ended without saying how is asked for by itself.
    return job.done and bool(job.labels or job.results or job.error)
