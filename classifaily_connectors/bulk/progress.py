"""Counting: what a run has done, and what it says of itself meanwhile.

The law of this file: the status buckets sum to the rows, or the run fails.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from classifaily_connectors.bulk.rows import STATUSES

if TYPE_CHECKING:
    from classifaily_connectors.bulk.rows import Row

_EVERY = 0.1


def counted(requests: int) -> str:
    """`1 request`, `20 requests`."""
    return f"{requests} request{'' if requests == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run; counts are rows, `rate` is rows a second, `eta` seconds (None when the total is unknown).

    `done` is all rows settled; `billed` those bought now, `reused` those answered before, `duplicate` those equal to a
    row bought now; `unknown` may have been paid without an answer. `remaining` is the month's quota.
    """

    done: int
    total: int | None
    billed: int
    reused: int
    duplicate: int
    failed: int
    unknown: int
    rate: float
    eta: float | None
    remaining: int | None


@dataclass(slots=True)
class BulkStats:
    """What a run did, by row. `billed` were bought; `reused` were answered before this run and `duplicate` are equal to
    a row that this run bought, both cost nothing; `unknown` may have cost.

    `remaining` estimates the month's quota afterwards, None when unlimited or not asked for. `ledger` is the address of
    the ledger that keeps the answers, without a password, None when only memory does; `output` the table beside which
    rows that came back are kept until it is complete, None when there is none. `foreseen` is how many requests the run
    was found to need where that had to be known before its first purchase. `limit` says what ended the buying early.
    """

    total: int | None = None
    rows: int = 0
    statuses: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STATUSES, 0))
    labels: dict[str, int] = field(default_factory=dict[str, int])
    routes: dict[str, int] = field(default_factory=dict[str, int])
    billed: int = 0
    reused: int = 0
    duplicate: int = 0
    remaining: int | None = None
    ledger: str | None = None
    output: str | None = None
    foreseen: int | None = None
    limit: str | None = None
    pays_anew: bool = False
    """Whether the same call pays again for what the ledger knows, as with `refresh=True`."""
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    _reported: float = 0.0

    @property
    def unknown(self) -> int:
        """Rows that may have been paid without an answer."""
        return self.statuses["unknown"]

    @property
    def failed(self) -> int:
        """Rows the API could not classify."""
        return self.statuses["failed"]

    @property
    def errors(self) -> int:
        """Rows that have no answer: failed or unknown."""
        return self.failed + self.unknown

    @property
    def error_ratio(self) -> float:
        """The share of rows that have no answer, from 0 to 1."""
        return self.errors / self.rows if self.rows else 0.0

    @property
    def rerun(self) -> int | None:
        """The most requests that the same call would pay for again; None when that cannot be told."""
        bought, answered = self.foreseen, self.reused + self.statuses["skipped"]
        if self.ledger is None and self.output is None:  # everything again
            return self._rows_left(self.statuses["skipped"]) if bought is None else bought
        settled = self.billed + self.unknown
        if bought is not None and self.ledger is not None:
            return bought if self.pays_anew else max(0, bought - settled)
        return self._rows_left(answered if self.pays_anew else answered + settled + self.duplicate)

    def _rows_left(self, answered: int) -> int | None:
        return None if self.total is None else max(0, self.total - answered)

    def ending(self, unkept: int = 0) -> str:
        """What a run that ended now has billed, where its answers are kept, and what running the same again costs.

        `unkept` of the billed answers are not in the ledger.
        """
        doubt = f", and {counted(self.unknown)} may have been billed without an answer" if self.unknown else ""
        if doubt and self.ledger is not None:
            doubt += " (`classifaily ledger settle` asks the API)"
        rerun = self.rerun
        if not self.billed:
            return f"Nothing was billed{doubt}"
        bill = f"{counted(self.billed)} {'was' if self.billed == 1 else 'were'} billed{doubt}"
        if self.ledger is None and self.output is None:
            cost = "for everything again" if rerun is None else f"again, for {rerun} at most"
            return f"{bill}. Their answers are not kept, as there is no ledger: running the same again pays {cost}"
        place = f"kept beside {self.output}" if self.ledger is None else f"kept in {self.ledger}"
        whose = f"The answers of {self.billed - unkept}" if unkept else "Their answers"
        if self.pays_anew:
            return f"{bill}. {whose} are {place}, but with refresh=True running the same again pays again"
        cost = "the rest" if rerun is None else f"{rerun} more at most"
        return f"{bill}. {whose} are {place}: running the same again pays for {cost}"

    def count(self, row: Row) -> None:
        """Add one settled row."""
        self.rows += 1
        self.statuses[row.status] += 1
        self.routes[row.route] = self.routes.get(row.route, 0) + 1
        if row.label is not None:
            self.labels[row.label] = self.labels.get(row.label, 0) + 1
        if row.source == "api":
            self.billed += 1
            if self.remaining is not None:
                self.remaining = max(0, self.remaining - 1)
        elif row.source == "ledger":
            self.reused += 1
        elif row.source == "duplicate":
            self.duplicate += 1
        self.seconds = time.monotonic() - self.started

    def check(self) -> None:
        """Raise RuntimeError unless every row is in exactly one bucket."""
        if sum(self.statuses.values()) != self.rows:
            raise RuntimeError(f"{self.rows} rows, but the statuses say {self.statuses}")

    def report(self, progress: Callable[[Progress], None] | None, now: float, *, last: bool = False) -> None:
        """Tell `progress`, at most ten times a second, and at the `last` moment."""
        if progress is None or (now - self._reported < _EVERY and not last):
            return
        self._reported = now
        progress(self.now())

    def now(self) -> Progress:
        """This moment."""
        rate = self.rows / self.seconds if self.seconds else 0.0
        eta = (self.total - self.rows) / rate if self.total is not None and rate else None
        return Progress(
            self.rows, self.total, self.billed, self.reused, self.duplicate, self.failed, self.unknown,
            rate, eta, self.remaining,
        )  # fmt: skip
