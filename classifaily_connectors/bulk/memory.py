"""A book that lasts as long as the run.

The law of this file: it keeps the promises of the SQL ledger for one run (one claimant to a key, a lost answer stays
an open question, an answer is there once it is finished), and forgets everything afterwards.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace

from classifaily_connectors.store.entry import Changes, Committed, Entry

_RUN = "memory"


class MemoryBook:
    """Equal rows are paid once within the run, and nothing is remembered afterwards."""

    lease = 3600.0
    namespace = ""
    durable = False
    place = None

    def __init__(self) -> None:
        # Most keys are done: their answer alone is kept, because a run may have millions.
        self._done: dict[bytes, str] = {}
        self._claimed: dict[bytes, Entry] = {}
        self._counts: Counter[str] = Counter()

    def now(self) -> float:
        """The time that claims are given, in seconds since the epoch."""
        return time.time()

    def lookup(self, keys: Collection[bytes]) -> dict[bytes, Entry]:
        """The entries of those `keys` that have one."""
        done = ((key, self._done.get(key)) for key in keys)
        found = {key: Entry(key, "done", _RUN, 0.0, answer=answer) for key, answer in done if answer is not None}
        claimed = ((key, self._claimed.get(key)) for key in keys)
        return found | {key: entry for key, entry in claimed if entry is not None}

    def live_runs(self, run_ids: Collection[str]) -> set[str]:
        """All of them: there is only this one."""
        return set(run_ids)

    def start_run(self) -> str:
        """The one run."""
        return _RUN

    def beat(self, run_id: str) -> None:
        """Nothing to tell anyone."""

    def end_run(self, run_id: str) -> None:
        """Nothing to tell anyone."""

    def commit(self, run_id: str, changes: Changes) -> Committed:
        """Keep the answers, claim what nobody has."""
        for key, answer in changes.answers.items():
            self._done[key] = answer
            self._claimed.pop(key, None)
        for key in changes.released:
            self._claimed.pop(key, None)
        won = {key for key in changes.keys if key not in self._done and key not in self._claimed}
        won |= {key for key, stale in changes.stale.items() if self.lookup([key]).get(key) == stale}
        now = time.time()
        for key in won:
            self._claimed[key] = Entry(key, "open", run_id, now)
        return changes.count(won, self._add)

    def counts(self, run_id: str, names: Collection[str]) -> tuple[dict[str, int], int]:  # noqa: ARG002  # as the ledger has it
        """What this run has spent: nobody else counts here."""
        return {name: self._counts[name] for name in names}, 0

    def _add(self, name: str, requests: int) -> int:
        self._counts[name] += requests
        return self._counts[name]

    def attach(self, run_id: str, keys: Collection[bytes], job_id: str) -> None:
        """Nothing outlives the run."""

    def park(self, keys: Collection[bytes]) -> None:
        """They stay open questions."""
        for key in keys:
            if key in self._claimed:
                self._claimed[key] = replace(self._claimed[key], state="parked")

    def rescue(self, run_id: str, answers: Mapping[bytes, str]) -> str | None:
        """Nothing: memory takes every answer."""
