"""Paying: a batch is claimed, sent, read and recorded.

The law of this file: claimed before it leaves, recorded before it is shown, and never sent again unless it surely did
not run. One bad item never sinks its batch: a refused batch costs nothing, so it is halved until the bad item stands
alone, and its mates are paid once.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

from classifaily_connectors.bulk.answers import Answers, by_id, is_over_quota
from classifaily_connectors.bulk.budget import Budget, Purse
from classifaily_connectors.bulk.contact import Contact
from classifaily_connectors.bulk.plan_limits import restrictions, shared_features
from classifaily_connectors.bulk.rows import Verdict, describe
from classifaily_connectors.errors import (
    APIError,
    ClassifailyError,
    InvalidRequestError,
    JobFailedError,
    JobTimeoutError,
    NotSentError,
    OutcomeUnknownError,
    PlanRestrictionError,
    QuotaExceededError,
    RateLimitedError,
    ServerError,
    StoreError,
)
from classifaily_connectors.models import Job
from classifaily_connectors.operations import account, classify

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from classifaily_connectors.bulk.engine import Engine
    from classifaily_connectors.bulk.terms import Unit
    from classifaily_connectors.models import Usage

_TRIES = 3
_PASSING = (NotSentError, ServerError, RateLimitedError)
_SUFFERING = (ServerError, RateLimitedError, OutcomeUnknownError)


class Sender:
    """Sends the batches of one run."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.under_way = 0
        self.prepared = False
        account = f"{engine.terms.base_url}|{engine.terms.namespace}"
        self.purse = Purse(engine.options.budget or Budget(), engine.desk, account)
        self.foreseeable = False
        """Whether the rows can be gone through beforehand, and what is too much is to be refused."""
        self.undecided = False
        """Whether nothing may be bought before somebody has gone through the rows."""
        self._opening: asyncio.Future[None] | None = None
        self._singly = engine.terms.shared.get("mode") == "top_n"
        self._refusals = 0
        self._probing = False
        self._contact = Contact(engine.terms.base_url, engine.context.policy.max_elapsed)
        self._landed = 0
        self._landed_at_renewal = -1
        self._renewed_at = 0.0
        self._renewing: asyncio.Future[bool] | None = None
        if self._singly:
            engine.batch_size = 1

    # --- before the first purchase ------------------------------------------------------------

    async def prepare(self) -> None:
        """Ask for the usage once, before anything is bought; a run that buys nothing never asks."""
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._prepare())
        await asyncio.shield(self._opening)

    async def _prepare(self) -> None:
        await self.purse.open(self._usage)
        self.engine.quota(self.purse.usage)
        if self._singly:
            self.engine.batch_size = 1

    async def get_ready(self) -> None:
        """Ask for the usage, and find out whether somebody has to go through the rows before anything is bought."""
        if self.prepared:
            return
        await self.check_plan()
        if self.foreseeable and await self.is_scarce():
            self.undecided = True
        else:
            self.prepared = True

    async def check_plan(self) -> None:
        """Raise PlanRestrictionError when every request would ask for what the account's plan does not include."""
        await self.prepare()
        usage = self.purse.usage
        missing = restrictions(usage.plan if usage else None, shared_features(self.engine.terms))
        if missing:
            raise PlanRestrictionError("; ".join(missing), code="plan_restriction", outcome="not_sent")

    async def is_scarce(self) -> bool:
        """Whether the rows may need more than may be bought; False where they cannot, even if all are new."""
        await self.prepare()
        available, total = self.purse.available, self.engine.options.total
        return available is not None and (total is None or total > available)

    async def _usage(self) -> Usage | None:
        usage: Usage | None = None
        try:
            usage = await self.engine.run(account.usage(self.engine.context))
        except _PASSING as error:
            self._contact.failed(error)
        else:
            self._contact.answered()
        return usage

    # --- a batch ------------------------------------------------------------------------------

    async def send(self, batch: Sequence[Unit]) -> None:
        """Claim, send and settle `batch`, and let the next one leave."""
        try:
            units = await self._claim(batch)
            if self.engine.ending:
                await self._return(units)
            elif units:
                self.under_way += len(units)
                try:
                    await self._deliver(units)
                finally:
                    self.under_way -= len(units)
        finally:
            self.engine.limiter.give()

    async def _claim(self, batch: Sequence[Unit]) -> list[Unit]:
        """Those of the batch that are ours to pay for and that the budget has room for."""
        begun = time.monotonic()
        fresh = [unit.key for unit in batch if unit.stale is None]
        stale = [unit.stale for unit in batch if unit.stale is not None]
        done = await self.engine.desk.claim(fresh, stale)
        left: list[Unit] = []
        for unit in batch:
            if unit.key not in done.won:
                self.engine.recovery.wait_for(unit)
            elif unit.key not in done.covered:
                left.append(unit)
        if left:
            await self._uncover(left, begun)
        return [unit for unit in batch if unit.key in done.covered]

    async def _uncover(self, units: Sequence[Unit], begun: float) -> None:
        await self._release(units)
        if await self._has_more_quota(begun):
            await self._queue_again(units)
            return
        self.engine.stats.limit = self.purse.end
        if self.purse.budget.on_exceeded == "raise":
            self.engine.fail(self.purse.exceeded_by(len(units) + len(self.engine.basket)))
        for unit in units:
            self.engine.close_without(unit.key, "uncovered", f"not bought: {self.purse.end}")

    async def _has_more_quota(self, begun: float) -> bool:
        """Whether the quota has grown since the work that found none left was `begun`.

        The API is asked once more before a run stops for want of quota, and again only after something was bought.
        """
        if self._renewed_at > begun:
            return True
        if self._renewing is None or self._renewing.done():
            if self.engine.ending or self._landed == self._landed_at_renewal:
                return False
            self._renewing = asyncio.ensure_future(self._renew())
        return await asyncio.shield(self._renewing)

    async def _renew(self) -> bool:
        self._landed_at_renewal = self._landed
        try:
            grown = await self.purse.renew(self._usage, max(0, self.engine.desk.spent - self._landed))
        except ClassifailyError:
            return False
        if grown:
            self._renewed_at = time.monotonic()
            self.engine.stats.remaining = self.purse.usage.remaining if self.purse.usage else None
        return grown

    async def _queue_again(self, units: Sequence[Unit]) -> None:
        """Queue units whose claims were given back."""
        desk = self.engine.desk
        found = await desk.lookup([unit.key for unit in units])
        for unit in units:
            entry = found.get(unit.key)
            unit.stale = entry if entry is not None and entry.run_id == desk.run_id else None
            self.engine.put_in_basket(unit)

    async def _deliver(self, units: Sequence[Unit]) -> None:
        """Send until it is settled."""
        tries, begun = 0, time.monotonic()
        while True:
            if self.engine.ending:
                await self._return(units)  # until now it has surely not been executed
                return
            started = time.monotonic()
            try:
                answer = await self._post(units)
            except ClassifailyError as error:
                problem = error
            else:
                # A part of a batch is quicker than a whole one, and a queued one says nothing of the load.
                is_typical = len(units) >= self.engine.batch_size and not answer.queued
                seconds = time.monotonic() - started if is_typical else None
                self._contact.served()
                self._landed += len(units)
                # Beside the next batch, which can leave at once: the request has ended.
                self.engine.pay(self._record(units, answer, seconds))
                return
            if isinstance(problem, _SUFFERING):
                self.engine.limiter.suffer()
            tries += 1
            if not self._passing(problem, tries):
                await self._settle_trouble(units, problem, begun)
                return
            await self.engine.pause(self.engine.context.policy.delay(tries + 1))

    def _passing(self, error: ClassifailyError, tries: int) -> bool:
        """Whether `error` is an outage worth sitting out: the request certainly did not run, and patience is left."""
        if not isinstance(error, _PASSING) or self.engine.ending:
            return False
        self._contact.failed(error)
        # While others are served, a batch that keeps failing has its own fault: do not wait for better times.
        alone = isinstance(error, ServerError) and tries >= _TRIES and self._contact.served_lately
        return not alone and self._contact.patient

    async def _post(self, units: Sequence[Unit]) -> Answers:
        engine = self.engine
        if self._singly and len(units) == 1:
            unit = units[0]
            unit.alone = True
            one = await engine.run(classify.send_one(engine.context, {**unit.item, **self._shared(unit)}))
            queued = isinstance(one, Job) and not one.failed
            if isinstance(one, Job) and queued:
                one = await self._followed(units, one)
            return Answers({unit.item_id: one}, one.id, queued)
        items = [{"id": unit.item_id, **unit.item} for unit in units]
        answer = await engine.run(classify.send_batch(engine.context, {"items": items, **engine.terms.shared}))
        queued = isinstance(answer, Job)
        if isinstance(answer, Job):
            answer = await self._followed(units, answer)
        return Answers(by_id(answer), answer.id, queued)

    def _shared(self, unit: Unit) -> dict[str, Any]:
        return {name: value for name, value in self.engine.terms.shared.items() if name not in unit.item}

    async def _followed(self, units: Sequence[Unit], job: Job) -> Job:
        # Committed before the wait: whoever comes after a crash waits for this job and pays for nothing.
        if job.id is not None:
            desk = self.engine.desk
            await desk.do(desk.book.attach, desk.run_id, [unit.key for unit in units], job.id)
        done: Job = await self.engine.run(classify.follow(self.engine.context, job))
        return done

    async def _record(self, units: Sequence[Unit], answers: Answers, seconds: float | None) -> None:
        """Commit what was answered, park what was not, then give the rows out.

        `seconds` are those of a typical request: more requests may be under way once its answers are kept, not before.
        """
        number = len(units)
        self.under_way += number
        try:
            by_item = answers.by_item
            over = [unit for unit in units if is_over_quota(by_item.get(unit.item_id))]
            if over:
                await self._turn_back(over)
                units = [unit for unit in units if unit not in over]
            results = ((unit.key, by_item.get(unit.item_id)) for unit in units)
            verdicts = {key: Verdict.of(result, answers.job_id) for key, result in results if result is not None}
            try:
                await self.engine.desk.finish({key: verdict.dump() for key, verdict in verdicts.items()})
            except StoreError:  # paid for, and to be given out all the same
                self._settle(verdicts)
                raise
            if seconds is not None:
                self.engine.limiter.observe(seconds)
            self._settle(verdicts)
            missing = [unit for unit in units if unit.key not in verdicts]
            if missing:
                await self.engine.recovery.lost(missing, "the answer left it out")
        finally:
            self.under_way -= number

    async def _turn_back(self, units: Sequence[Unit]) -> None:
        """Items that the API left undone, as the month's quota ended within their batch: they were not billed."""
        self._landed -= len(units)
        await self._settle_trouble(
            units, QuotaExceededError("the month's quota ended within a batch"), time.monotonic()
        )

    def _settle(self, verdicts: Mapping[bytes, Verdict]) -> None:
        for key, verdict in verdicts.items():
            self.engine.settle(key, verdict, "api")

    # --- what went wrong ----------------------------------------------------------------------

    async def _settle_trouble(self, units: Sequence[Unit], error: ClassifailyError, begun: float) -> None:
        if isinstance(error, OutcomeUnknownError | JobTimeoutError | JobFailedError):
            self._landed += len(units)
        if isinstance(error, OutcomeUnknownError | JobTimeoutError):
            await self.engine.recovery.lost(units, describe(error))
        elif isinstance(error, JobFailedError):
            failed = Verdict((), describe(error), failed=True, job_id=error.job_id)
            await self.engine.desk.finish({unit.key: failed.dump() for unit in units})
            for unit in units:
                self.engine.settle(unit.key, failed, "api")
        # From here on: certainly not executed, so nothing was paid.
        elif isinstance(error, InvalidRequestError | PlanRestrictionError):
            await self._refused(units, error)
        elif isinstance(error, ServerError) and not self.engine.ending:
            await self._failing(units, error)
        else:
            await self._return(units)
            if isinstance(error, QuotaExceededError) and await self._has_more_quota(begun):
                await self._queue_again(units)
            elif isinstance(error, QuotaExceededError) and self.purse.budget.on_exceeded == "partial":
                self.engine.stats.limit = self.purse.end_by(error)
                self.purse.exhaust()
                for unit in units:
                    self.engine.close_without(unit.key, "uncovered", describe(error))
            else:
                self.engine.fail(error)

    async def _failing(self, units: Sequence[Unit], error: ServerError) -> None:
        """A server that fails for these alone fails for one of them; one that fails for everybody ends the run."""
        if self._contact.ever_served and len(units) > 1:
            await self._halves(units)
        elif len(units) > 1 and not self._probing and self.under_way == len(units):
            self._probing = True  # nothing was ever served and nothing else is left to try: once, try the halves
            await self._halves(units)
        else:
            await self._return(units)
            if self._contact.ever_served:
                self.engine.close_without(units[0].key, "failed", describe(error))
            else:
                self.engine.fail(error)

    async def _halves(self, units: Sequence[Unit]) -> None:
        middle = len(units) // 2
        for half in (units[:middle], units[middle:]):
            if self.engine.ending:
                await self._return(half)
            else:
                await self._deliver(half)

    async def _refused(self, units: Sequence[Unit], error: APIError) -> None:
        """Too many items, or one bad one: halves tell which, and refusals are free."""
        if len(units) > 1:
            before = self._refusals
            await self._halves(units)
            if self._refusals == before and not self.engine.ending:  # no item was at fault, so it was their number
                self.engine.batch_size = max(1, min(self.engine.batch_size, len(units) // 2))
            return
        (unit,) = units
        if isinstance(error, PlanRestrictionError) and not unit.alone:
            self._singly = True  # the Free plan may have no batches at all, but it has /classify
            self.engine.batch_size = 1
            await self._deliver(units)
            return
        self._refusals += 1
        await self._return(units)
        if isinstance(error, PlanRestrictionError) and not unit.own_terms:
            self.engine.fail(error)
        else:
            self.engine.close_without(unit.key, "failed", describe(error))

    async def _return(self, units: Sequence[Unit]) -> None:
        """Give back what was claimed and counted for requests that were not executed."""
        await self._release(units, returned=len(units))

    async def _release(self, units: Sequence[Unit], *, returned: int = 0) -> None:
        desk = self.engine.desk
        await desk.release([unit.key for unit in units if not unit.doubtful], returned)
        doubtful = [unit.key for unit in units if unit.doubtful]
        if doubtful:  # this request was not executed, but an earlier one for the same input may have been
            await desk.do(desk.book.park, doubtful)
