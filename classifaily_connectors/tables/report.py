"""What becomes of a table, in a few lines: for a platform's log, its return value, and its page about the run.

The law of this file: counts, labels and the output's place; never a row, an id or a text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from classifaily_connectors.bulk.progress import BulkStats, Progress
    from classifaily_connectors.tables.endings import TableResult

_BAR = 24
_MOST = 50


def progress_line(moment: Progress) -> str:
    """Where a run is: "1,200 of 3,000 rows: 900 billed, 300 reused; 150 a second, 12 s left"."""
    share = f"{moment.done:,}" if moment.total is None else f"{moment.done:,} of {moment.total:,}"
    counts = {"billed": moment.billed, "reused": moment.reused, "duplicate": moment.duplicate}
    counts |= {"failed": moment.failed, "unknown": moment.unknown}
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count or name == "billed")
    left = f", {moment.eta:,.0f} s left" if moment.eta else ""
    return f"{share} rows: {told}; {moment.rate:,.0f} a second{left}"


def summary(result: TableResult) -> dict[str, Any]:
    """The result as plain data that every JSON serializer takes; all counts are of rows.

    `billed` were bought now; `reused` and `duplicate` cost nothing; `resumed` were landed by an earlier run;
    `labels` come most frequent first; `remaining` is the month's quota afterwards, None when unlimited or not asked.
    `ledger` keeps the answers, None when nothing does; `rerun_at_most` are the requests that the same call would pay
    for now; `limit` says what ended the buying early.
    """
    stats = result.stats
    return {
        "output": result.output,
        "rows": result.rows,
        "resumed": result.resumed,
        "billed": stats.billed,
        "reused": stats.reused,
        "duplicate": stats.duplicate,
        "statuses": dict(stats.statuses),
        "labels": dict(ranked(stats.labels)),
        "routes": dict(stats.routes),
        "remaining": stats.remaining,
        "seconds": round(stats.seconds, 3),
        "ledger": stats.ledger,
        "rerun_at_most": stats.rerun,
        "limit": stats.limit,
    }


def ending(stats: BulkStats | None) -> dict[str, Any]:
    """What a run had done when it ended early, as plain data; None where it had not begun to buy.

    `ledger` is where it keeps what it paid, None when it keeps nothing. `rerun_at_most` are the requests that the same
    run would still pay for; None when the rows were not counted beforehand. `stats.ending()` says it in words.
    """
    from classifaily_connectors.bulk.progress import BulkStats

    stats = BulkStats() if stats is None else stats
    return {
        "rows": stats.rows,
        "billed": stats.billed,
        "reused": stats.reused,
        "duplicate": stats.duplicate,
        "failed": stats.failed,
        "unknown": stats.unknown,
        "remaining": stats.remaining,
        "ledger": stats.ledger,
        "rerun_at_most": stats.rerun,
    }


def ranked(labels: dict[str, int]) -> list[tuple[str, int]]:
    """Labels and how often each was given, most frequent first."""
    return sorted(labels.items(), key=lambda each: (-each[1], each[0]))


def markdown(told: dict[str, Any]) -> str:
    """A `summary` as Markdown: what it cost, how the rows ended, and a histogram of the labels."""
    counts = {"rows": told["rows"], "billed": told["billed"], "reused": told["reused"], "duplicate": told["duplicate"]}
    if told["remaining"] is not None:
        counts["quota left"] = told["remaining"]
    parts = [_table(("", ""), [(name, f"{count:,}") for name, count in counts.items()])]
    ended = {**told["statuses"], **{f"to {route}": count for route, count in sorted(told["routes"].items())}}
    parts.append(_table(("status", "rows"), [(name, f"{count:,}") for name, count in ended.items() if count]))
    if told["labels"]:
        parts.append(histogram(told["labels"]))
    if told["limit"] is not None:
        parts.append(f"Not all rows are covered: {told['limit']}")
    if told["output"] is not None:
        parts.append(f"Output: `{told['output']}`")
    parts.append(f"Ledger: `{told['ledger']}`" if told["ledger"] else "No ledger: a rerun pays again")
    return "\n\n".join(parts)


def histogram(labels: dict[str, int]) -> str:
    """The labels as a Markdown table of bars, most frequent first; the rarest are summed up in one line."""
    order = ranked(labels)
    total, most = sum(labels.values()), order[0][1]
    rows = [
        (_escaped(label), f"{count:,}", f"{count / total:.0%}", "█" * max(1, round(_BAR * count / most)))
        for label, count in order[:_MOST]
    ]
    if rest := order[_MOST:]:
        rows.append((f"{len(rest)} more", f"{sum(count for _label, count in rest):,}", "", ""))
    return _table(("label", "rows", "share", ""), rows)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped(label: str) -> str:
    # A label is the server's word: it may hold what Markdown or a web page would take for its own.
    plain = " ".join(label.split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{each}" if each in "\\|`*_[]" else each for each in plain)


def duration(seconds: float) -> str:
    """Seconds in words: "4.2 s", "3 min 20 s", "2 h 05 min"."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
