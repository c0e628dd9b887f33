"""What a table's run comes to, and when that is an error although the output is complete."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from classifaily_connectors.errors import ErrorRatioExceededError, UnsettledRowsError

if TYPE_CHECKING:
    from classifaily_connectors.bulk.progress import BulkStats


@dataclass(frozen=True, slots=True)
class TableResult:
    """A labelled table. `stats` counts all rows of the output; `billed` only what this run bought.

    `resumed` rows were landed by an earlier run that did not end; they count as `reused`. `output` is where the file
    is, `frame` the frame or list where none was asked for. `columns` are all of the labelled table's, in its order;
    `added` are those that are ours.
    """

    stats: BulkStats
    rows: int
    resumed: int = 0
    output: str | None = None
    frame: Any = None
    columns: tuple[str, ...] = ()
    added: tuple[str, ...] = ()


def check_ending(result: TableResult, ratio: float | None, *, parked: bool, remembered: bool, axes: bool) -> None:
    """Raise ErrorRatioExceededError when more than `ratio` of the rows have no answer, and UnsettledRowsError when
    some may have been paid without one, unless they are to be `parked`. They are settled later where a ledger
    `remembered` them.

    A frame raises the first alone: it is in the caller's hands, and nowhere else.
    """
    stats, output = result.stats, result.output
    if ratio is not None and stats.error_ratio > ratio:
        lacking = "answers are missing" if axes else "rows have no answer"
        raise ErrorRatioExceededError(
            f"{stats.errors} of {stats.rows} {lacking}, more than max_error_ratio={ratio:g} allows; "
            f"the others are in {output or 'the ledger'}",
            errors=stats.errors,
            rows=stats.rows,
            output=output,
        )
    if stats.unknown and output is not None and not parked:
        way = (
            'Run it again after a minute, or with on_unknown="reconcile", and the API\'s history settles them'
            if remembered
            else "No ledger remembers them: running it again pays for every row anew"
        )
        raise UnsettledRowsError(
            f"{stats.unknown} of {stats.rows} rows may have been paid without an answer; the others are in {output}. "
            f'{way}; on_unknown="park" accepts them as they are',
            unknown=stats.unknown,
            rows=stats.rows,
            output=output,
            result=result,
            mends=remembered,
        )
