"""Keys that somebody else paid for, is paying for, or may have paid for.

The law of this file: a claim of a live run is waited for; a claim of a run that is no more, and every lost answer, is
an open question that is never answered by paying again unless the caller said so. A job whose id was recorded is
picked up, whoever submitted it. What is done about an entry is decided in `decisions`; here it is done.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from classifaily_connectors.bulk.decisions import decide
from classifaily_connectors.bulk.reconcile import answers_of, by_job, examine, seconds_back
from classifaily_connectors.bulk.rows import Verdict, describe
from classifaily_connectors.errors import ClassifailyError, JobFailedError, NotFoundError
from classifaily_connectors.operations import jobs
from classifaily_connectors.operations.history import read_history

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from classifaily_connectors.bulk.decisions import Decision
    from classifaily_connectors.bulk.engine import Engine
    from classifaily_connectors.bulk.terms import Unit
    from classifaily_connectors.models import Job
    from classifaily_connectors.store import Entry

    Claimed = tuple[Unit, Entry]

_LOOK_AGAIN = 0.2
_PARKED = "it may have been paid by an earlier request whose answer was lost: settle it, or choose on_unknown"
_UNTOLD = "the history does not tell this request from others"


class Recovery:
    """What one run does about keys it cannot simply buy."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._choices = engine.options.choices
        self._waiting: dict[bytes, Unit] = {}
        self._doubtful: dict[bytes, tuple[Unit, float]] = {}
        self._busy = False
        self._stopped = False
        self._old = -math.inf
        self._resent: set[bytes] = set()
        self._sent: set[bytes] = set()
        """Keys that this run itself has sent, and whose answer was lost."""

    def stop(self) -> None:
        """Wait for nobody any more."""
        self._stopped = True
        self._waiting.clear()
        self._doubtful.clear()

    def place(self, unit: Unit, entry: Entry | None) -> None:
        """Send a unit on its way: to be bought, answered, or looked after here."""
        if entry is None:
            self.engine.put_in_basket(unit)
        elif entry.state == "done":
            self._replay(unit, entry)
        else:
            self.wait_for(unit)

    def _decide(self, unit: Unit, entry: Entry | None, *, is_live: bool = False, job_is_gone: bool = False) -> Decision:
        # Somebody else bought it anew while we were about to: that is new enough.
        renewed = entry is not None and unit.stale is not None and unit.stale.run_id != entry.run_id
        is_new = renewed or (entry is not None and self._is_ours(entry))
        is_old = entry is not None and entry.claimed_at <= self._old
        return decide(entry, self._choices, is_live=is_live, is_new=is_new, is_old=is_old, job_is_gone=job_is_gone)

    def _is_ours(self, entry: Entry) -> bool:
        return entry.run_id == self.engine.desk.run_id

    def _replay(self, unit: Unit, entry: Entry) -> None:
        if self._decide(unit, entry) == "buy":
            self._buy_over(unit, entry)
        else:
            self._reuse(unit, entry)

    def _reuse(self, unit: Unit, entry: Entry) -> None:
        verdict = Verdict.load(entry.answer or "")
        own = entry.state == "done" and self._is_ours(entry)
        self.engine.settle(unit.key, verdict, "duplicate" if own else "ledger")

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
        self._sent.update(keys)
        await desk.do(desk.book.park, keys)
        if choice in ("park", None) or self._stopped:
            for key in keys:
                self.engine.close_without(key, "unknown", reason)
        elif choice == "reconcile":
            self._doubt(units, self._soon())
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
                if self._choices.on_unknown is None:
                    self._old = await desk.do(desk.book.now) - self.engine.options.settle_after
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
        claimed: list[tuple[Claimed, Decision]] = []
        for key, unit in list(self._waiting.items()):
            entry = found.get(key)
            decision = self._decide(unit, entry, is_live=entry is not None and entry.run_id in live)
            if decision == "wait":
                continue
            del self._waiting[key]
            if entry is None:
                unit.stale, unit.doubtful = None, False
                self.engine.put_in_basket(unit)
            elif entry.state == "done":
                self._replay(unit, entry)
            else:
                claimed.append(((unit, entry), decision))
        await self._act(claimed)

    async def _act(self, claimed: Iterable[tuple[Claimed, Decision]]) -> None:
        """Do what was decided about claims that nobody is working on."""
        decided: dict[Decision, list[Claimed]] = {}
        for pair, decision in claimed:
            decided.setdefault(decision, []).append(pair)
        with_job = {entry.key: (unit, entry) for unit, entry in decided.get("fetch_job", ())}
        for job_id, members in by_job(entry for _unit, entry in with_job.values()).items():
            self.engine.watch(self._reattach(job_id, [with_job[entry.key] for entry in members]))
        for unit, entry in decided.get("reuse", ()):
            self._reuse(unit, entry)
        self._resend(decided.get("buy", ()), _PARKED)
        to_ask, unknown = decided.get("ask_history", []), decided.get("leave_unknown", [])
        open_keys = [entry.key for _unit, entry in (*to_ask, *unknown) if entry.state == "open"]
        if open_keys:
            desk = self.engine.desk
            await desk.do(desk.book.park, open_keys)
        self._doubt([unit for unit, _entry in to_ask])
        for unit, _entry in unknown:
            self.engine.close_without(unit.key, "unknown", _PARKED)

    async def _act_without_job(self, members: Iterable[Claimed]) -> None:
        await self._act([((unit, entry), self._decide(unit, entry, job_is_gone=True)) for unit, entry in members])

    def _resend(self, pairs: Iterable[Claimed], reason: str) -> None:
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

    async def _reattach(self, job_id: str, members: list[Claimed]) -> None:
        """Wait for a job that an earlier run submitted and did not see the end of."""
        try:
            job: Job = await self.engine.run(jobs.wait_for_job(self.engine.context, job_id))
        except JobFailedError as error:
            failed = Verdict((), describe(error), failed=True, job_id=job_id)
            await self.record({unit.key: failed for unit, _entry in members})
            return
        except NotFoundError:
            await self._act_without_job(members)
            return
        except ClassifailyError as error:
            for unit, _entry in members:
                self.engine.close_without(unit.key, "unknown", describe(error))
            return
        verdicts = answers_of(job, [unit.key for unit, _entry in members])
        await self.record(verdicts)
        await self._act_without_job([each for each in members if each[0].key not in verdicts])

    # --- reconciling --------------------------------------------------------------------------

    def _soon(self) -> float:
        return asyncio.get_running_loop().time() + self.engine.options.settle_after

    def _doubt(self, units: Sequence[Unit], since: float = 0.0) -> None:
        """Ask the history about `units`, not before the loop's time is `since`."""
        begin = not self._doubtful
        self._doubtful.update((unit.key, (unit, since)) for unit in units)
        if begin and self._doubtful:
            self.engine.watch(self._reconcile())

    async def _reconcile(self) -> None:
        """Ask the API's own history what became of the open questions."""
        await asyncio.sleep(0)  # let the others of this moment join
        desk, patience = self.engine.desk, self.engine.options.settle_after
        # A request whose answer was lost may still be running over there: its absence means nothing yet.
        found = await desk.lookup(list(self._doubtful))
        clock, loop = await desk.do(desk.book.now), asyncio.get_running_loop()
        # A claim from the future was made by a clock that is wrong: no moment is waited for longer than any other.
        waits = [min(patience, found[key].claimed_at + patience - clock) for key in self._doubtful if key in found]
        waits += [since - loop.time() for _unit, since in self._doubtful.values()]
        await asyncio.sleep(max(0.0, *waits))
        doubtful = {key: self._doubtful.pop(key)[0] for key in list(self._doubtful) if key in found}
        late, self._doubtful = self._doubtful, {}
        pairs = [(unit, found[key]) for key, unit in doubtful.items()]
        clock = await desk.do(desk.book.now)
        try:
            history = await self.engine.run(read_history(self.engine.context, seconds_back(pairs, clock)))
        except ClassifailyError as error:
            for key in doubtful:
                self.engine.close_without(key, "unknown", f"the history could not be read: {describe(error)}")
        else:
            findings = examine(history, pairs, clock, patience)
            await self.record(findings.answered)
            for entry in (*findings.unsure, *findings.too_early):
                self.engine.close_without(entry.key, "unknown", _UNTOLD)
            for entry in findings.absent:
                self._buy_over(doubtful[entry.key], entry)
        for unit, _since in late.values():
            self.wait_for(unit)

    async def record(self, verdicts: dict[bytes, Verdict]) -> None:
        """Keep answers that were paid earlier, and give their rows out."""
        await self.engine.desk.finish({key: verdict.dump() for key, verdict in verdicts.items()})
        for key, verdict in verdicts.items():
            self.engine.settle(key, verdict, "api" if key in self._sent else "ledger")
