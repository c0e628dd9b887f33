"""`classifaily ledger`: what was paid, what is open, and how to settle it."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from classifaily_connectors.cli.common import (
    BaseUrl,
    Json,
    LedgerPlace,
    Submitted,
    console,
    ledger_url,
    open_client,
    open_ledger,
    print_json,
)
from classifaily_connectors.cli.failing import DONE, UNKNOWN
from classifaily_connectors.errors import refuse
from classifaily_connectors.store.address import shown
from classifaily_connectors.tables.report import duration

if TYPE_CHECKING:
    from classifaily_connectors.store import Entry

ledger = typer.Typer(help="What was paid, what is open, and how to settle it.", no_args_is_help=True)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


@ledger.command()
def stats(*, place: LedgerPlace = None, submitted: Submitted = False, as_json: Json = False) -> None:
    """Count the entries by state."""
    with open_ledger(place, submitted=submitted) as book:
        counts = book.stats()
    if as_json:
        found = {each: getattr(counts, each) for each in ("done", "parked", "interrupted", "jobs", "live")}
        print_json({"ledger": _shown(place), **found})
        return
    screen = console()
    screen.print(f"[bold]{_shown(place)}[/]")
    screen.print(f"[green]{counts.done:,} answered[/]  {counts.live:,} being paid now  {counts.jobs:,} jobs to fetch")
    screen.print(f"[yellow]{counts.parked:,} parked  {counts.interrupted:,} interrupted[/]  (perhaps paid, no answer)")


@ledger.command()
def show(
    *,
    limit: Annotated[int, typer.Option(help="At most so many.")] = 50,
    place: LedgerPlace = None,
    submitted: Submitted = False,
    as_json: Json = False,
) -> None:
    """List what has no answer, though it was or may have been paid, oldest first; exit code 4 when there is any."""
    with open_ledger(place, submitted=submitted) as book:
        entries = book.unsettled()
    now = time.time()
    if as_json:
        print_json([_plain(entry, now) for entry in entries[:limit]])
    elif entries:
        table = Table(box=None)
        for heading in ("key", "state", "age", "job"):
            table.add_column(heading)
        for entry in entries[:limit]:
            row = _plain(entry, now)
            table.add_row(row["key"], row["state"], duration(row["age"]), row["job_id"] or "")
        console().print(table)
        console().print(f"{len(entries):,} unsettled: `classifaily ledger settle` asks the API's history, for free")
    else:
        console().print("[green]nothing is open[/]")
    raise typer.Exit(UNKNOWN if entries else DONE)


@ledger.command()
def settle(
    *,
    resend: Annotated[
        bool, typer.Option("--resend", help="Drop the entries, so that the next run buys them; may pay twice.")
    ] = False,
    reconcile: Annotated[bool, typer.Option("--reconcile", help="Ask the API's history; free (the default).")] = False,
    place: LedgerPlace = None,
    submitted: Submitted = False,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Settle what may have been paid without an answer.

    The ledger holds no inputs, so this settles what the API's history tells by job id or by a batch's item ids. What
    was sent one by one needs its rows: run `classifaily classify` again with --on-unknown reconcile.
    """
    if resend and reconcile:
        raise refuse("--resend and --reconcile exclude each other")
    with open_ledger(place, submitted=submitted) as book:
        if resend:
            # What has a job is not bought anew: the next run fetches its answer.
            lost = [entry for entry in book.unsettled() if entry.state == "parked" or entry.job_id is None]
            found = {"answered": 0, "dropped": book.forget(lost), "left": 0}
        else:
            from classifaily_connectors.bulk import settling

            with open_client(base_url) as client:
                done = settling.reconcile(client, book)
            found = {"answered": done.answered, "dropped": done.dropped, "left": done.left}
    if as_json:
        print_json(found)
    else:
        text = "[green]{answered:,} answered[/]  {dropped:,} dropped, to be bought anew  [yellow]{left:,} left[/]"
        console().print(text.format(**found))
        if found["left"]:
            console().print("For those left, run the table again with --on-unknown reconcile.")
    raise typer.Exit(UNKNOWN if found["left"] else DONE)


@ledger.command()
def prune(
    *,
    older_than: Annotated[str, typer.Option(help="Age such as 90d, 12h or 2w.")],
    place: LedgerPlace = None,
    submitted: Submitted = False,
    as_json: Json = False,
) -> None:
    """Forget old answers, whose rows would then be paid again; open questions stay."""
    with open_ledger(place, submitted=submitted) as book:
        dropped = book.prune(seconds(older_than))
    if as_json:
        print_json({"dropped": dropped})
    else:
        console().print(f"{dropped:,} answers forgotten")


def seconds(age: str) -> float:
    """Seconds in an age such as "90d".

    Raises InvalidRequestError for anything else.
    """
    match = re.fullmatch(r"(\d+)\s*([smhdw])", age.strip())
    if match is None:
        raise refuse(f"--older-than {age!r}: write a number and s, m, h, d or w, such as 90d")
    return float(match[1]) * _SECONDS[match[2]]


def _plain(entry: Entry, now: float) -> dict[str, Any]:
    state = entry.state if entry.state != "open" else "job" if entry.job_id else "interrupted"
    age = round(max(0.0, now - entry.claimed_at), 1)
    return {"key": entry.key.hex(), "state": state, "age": age, "job_id": entry.job_id, "run_id": entry.run_id}


def _shown(place: str | None) -> str:
    return shown(ledger_url(place))
