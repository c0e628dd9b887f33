"""Keys that somebody else paid for, is paying for, or may have paid for.

The law of this file: a claim of a live run is waited for; a claim of a run that is no more, and every lost answer, is
an open question that is never answered by paying again unless the caller said so. A job whose id was recorded is
picked up, whoever submitted it.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from classifaily_connectors.bulk.reconcile import Pair, Reconciler
from classifaily_connectors.bulk.rows import Verdict, describe
from classifaily_connectors.errors import ClassifailyError, JobFailedError, NotFoundError
from classifaily_connectors.operations import jobs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from classifaily_connectors.bulk.engine import Engine
    from classifaily_connectors.bulk.terms import Unit
    from classifaily_connectors.models import Job
    from classifaily_connectors.store import Entry

_LOOK_AGAIN = 0.2
_PARKED = "it may have been paid by an earlier request whose answer was lost: settle it, or choose on_unknown"


class Recovery:
    """What one run does about keys it cannot simply buy."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._waiting: dict[bytes, Unit] = {}
        self._doubtful: dict[bytes, tuple[Unit, float | None]] = {}
        self._busy = False
        self._stopped = False
        self._resent: set[bytes] = set()

    def stop(self) -> None:
        """Wait for nobody any more."""
        self._stopped = True
        self._waiting.clear()
        self._doubtful.clear()

    def replay(self, unit: Unit, entry: Entry) -> None:
        """Use the answer that is there, unless the caller wants to pay for a new one."""
        verdict = Verdict.load(entry.answer or "")
        ours = entry.run_id == self.engine.desk.run_id
        # Somebody else bought it anew while we were about to: that is new enough.
        renewed = unit.stale is not None and unit.stale.run_id != entry.run_id
        refresh = self.engine.options.refresh
        if (refresh is True or (refresh == "failed" and verdict.failed)) and not ours and not renewed:
            self._buy_over(unit, entry)
        else:
            self.engine.settle(unit.key, verdict, "duplicate" if ours else "ledger")

    def wait_for(self, unit: Unit) -> None:
        """Watch a key that another run has claimed, or that is parked."""
        if self._stopped:
            return
        self._waiting[unit.key] = unit
        if not self._busy:
            self._busy = True
            self.engine.watch(self._watch())

    async def lost(self, units: Sequence[Unit], reason: str) -> None:
        """What to do about requests of our own whose outcome is unknown."""
        desk, choice = self.engine.desk, self.engine.options.on_unknown
        keys = [unit.key for unit in units]
        await desk.do(desk.book.park, keys)
        if choice == "park" or self._stopped:
            for key in keys:
                self.engine.close_without(key, "unknown", reason)
        elif choice == "reconcile":
            self._doubt(units, time.time())
        else:
            found = await desk.lookup(keys)
            self._resend([(unit, found[unit.key]) for unit in units if unit.key in found], reason)
            for key in set(keys) - found.keys():  # somebody made the ledger forget it meanwhile
                self.engine.close_without(key, "unknown", reason)

    # --- watching -----------------------------------------------------------------------------

    async def _watch(self) -> None:
        desk = self.engine.desk
        try:
            while self._waiting:
                found = await desk.lookup(list(self._waiting))
                owners = {each.run_id for each in found.values() if each.state == "open"} - {desk.run_id}
                live = await desk.do(desk.book.live_runs, owners) if owners else set[str]()
                await self._look(await self._final(found, live), live)
                if self._waiting:
                    await asyncio.sleep(_LOOK_AGAIN)
        finally:
            self._busy = False

    async def _final(self, found: dict[bytes, Entry], live: set[str]) -> dict[bytes, Entry]:
        """The entries as their owners left them: who is gone now may have answered since they were looked up."""
        desk = self.engine.desk
        left = {key for key, each in found.items() if each.state == "open" and each.run_id not in live}
        if not left:
            return found
        again = await desk.lookup(list(left))
        # Whoever has taken one over meanwhile is at work.
        live.update(each.run_id for key, each in again.items() if each.run_id != found[key].run_id)
        return {key: entry for key, entry in found.items() if key not in left} | again

    async def _look(self, found: dict[bytes, Entry], live: set[str]) -> None:
        interrupted: list[Pair] = []
        for key, unit in list(self._waiting.items()):
            entry = found.get(key)
            if entry is not None and entry.state == "open" and entry.run_id in live:
                continue  # its owner is at work: wait
            del self._waiting[key]
            if entry is None:
                unit.stale, unit.doubtful = None, False
                self.engine.put_in_basket(unit)
            elif entry.state == "done":
                self.replay(unit, entry)
            else:
                interrupted.append((unit, entry))
        if interrupted:
            await self._settle(interrupted)

    async def _settle(self, interrupted: list[Pair]) -> None:
        by_job: dict[str, list[Pair]] = {}
        for unit, entry in interrupted:
            if entry.job_id is not None:
                by_job.setdefault(entry.job_id, []).append((unit, entry))
        for job_id, members in by_job.items():
            self.engine.watch(self._reattach(job_id, members))
        await self._open_question([pair for pair in interrupted if pair[1].job_id is None])

    async def _open_question(self, pairs: list[Pair]) -> None:
        if not pairs:
            return
        desk, options = self.engine.desk, self.engine.options
        if options.refresh is True:
            self._resend(pairs, _PARKED)
            return
        # A purchase on purpose was interrupted, but the answer from before it is still there.
        for unit, entry in pairs:
            if entry.answer is not None:
                self.engine.settle(unit.key, Verdict.load(entry.answer), "ledger")
        pairs = [pair for pair in pairs if pair[1].answer is None]
        if options.on_unknown == "resend":
            self._resend(pairs, _PARKED)
            return
        await desk.do(desk.book.park, [unit.key for unit, entry in pairs if entry.state == "open"])
        if options.on_unknown == "reconcile":
            self._doubt([unit for unit, _entry in pairs])
        else:
            for unit, _entry in pairs:
                self.engine.close_without(unit.key, "unknown", _PARKED)

    def _resend(self, pairs: list[Pair], reason: str) -> None:
        """Pay, perhaps again, but once more at most: it is what the caller chose."""
        for unit, entry in pairs:
            if unit.key in self._resent:
                self.engine.close_without(unit.key, "unknown", reason)
            else:
                self._resent.add(unit.key)
                self._buy_over(unit, entry, doubtful=True)

    def _buy_over(self, unit: Unit, entry: Entry, *, doubtful: bool = False) -> None:
        unit.stale, unit.doubtful = entry, doubtful
        self.engine.put_in_basket(unit)

    async def _reattach(self, job_id: str, members: list[Pair]) -> None:
        """Wait for a job that an earlier run submitted and did not see the end of."""
        try:
            job: Job = await self.engine.run(jobs.wait_for_job(self.engine.context, job_id))
        except JobFailedError as error:
            failed = Verdict((), describe(error), failed=True, job_id=job_id)
            await self.record({unit.key: failed for unit, _entry in members})
            return
        except NotFoundError:
            await self._open_question(members)
            return
        except ClassifailyError as error:
            for unit, _entry in members:
                self.engine.close_without(unit.key, "unknown", describe(error))
            return
        results = {result.id: result for result in job.results}
        alone = len(members) == 1 and not job.results
        verdicts = {
            unit.key: Verdict.of(job if alone else results[unit.item_id], job_id)
            for unit, _entry in members
            if alone or unit.item_id in results
        }
        await self.record(verdicts)
        await self._open_question([each for each in members if each[0].key not in verdicts])

    # --- reconciling --------------------------------------------------------------------------

    def _doubt(self, units: Sequence[Unit], lost_at: float | None = None) -> None:
        begin = not self._doubtful
        self._doubtful.update((unit.key, (unit, lost_at)) for unit in units)
        if begin and self._doubtful:
            self.engine.watch(self._reconcile())

    async def _reconcile(self) -> None:
        """Ask the API's own history what became of the open questions."""
        await asyncio.sleep(0)  # let the others of this moment join
        desk, options = self.engine.desk, self.engine.options
        # A request whose answer was lost may still be running over there: its absence means nothing yet.
        found = await desk.lookup(list(self._doubtful))
        moments = [lost or found[key].claimed_at for key, (_unit, lost) in self._doubtful.items() if key in found]
        await asyncio.sleep(max(0.0, max(moments, default=0.0) + options.settle_after - time.time()))
        doubtful = {key: self._doubtful.pop(key)[0] for key in list(self._doubtful) if key in found}
        late, self._doubtful = self._doubtful, {}
        pairs = [(unit, found[key]) for key, unit in doubtful.items()]
        try:
            findings = await Reconciler(self.engine.run, self.engine.context).look(pairs)
        except ClassifailyError as error:
            for key in doubtful:
                self.engine.close_without(key, "unknown", f"the history could not be read: {describe(error)}")
        else:
            await self.record(findings.answered)
            for unit, _entry in findings.unsure:
                self.engine.close_without(unit.key, "unknown", "the history does not tell this request from others")
            for unit, entry in findings.absent:
                self._buy_over(unit, entry)
        for unit, _lost in late.values():
            self.wait_for(unit)

    async def record(self, verdicts: dict[bytes, Verdict]) -> None:
        """Keep answers that were paid earlier, and give their rows out."""
        await self.engine.desk.finish({key: verdict.dump() for key, verdict in verdicts.items()})
        for key, verdict in verdicts.items():
            self.engine.settle(key, verdict, "ledger")
