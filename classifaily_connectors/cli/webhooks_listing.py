"""`classifaily webhooks list | show | redrive | reread | prune`: what was received, and handing it out again.

The law of this file: with `--json`, one object a line, each with at least `source`, `event` and `job_id`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from classifaily_connectors.cli.common import Json, ledger_url
from classifaily_connectors.cli.failing import DONE, UNKNOWN
from classifaily_connectors.cli.ledger import seconds
from classifaily_connectors.cli.webhooks import StorePlace, webhooks
from classifaily_connectors.errors import refuse

if TYPE_CHECKING:
    from classifaily_connectors.store import Delivery, Inbox
    from classifaily_connectors.webhooks.position import Position

_PAGE = 500
_LINE = "{seq:>8}  {when:19}  {state:9}  {source:12}  {event:16}  {job_id:20}  {notes}"

Source = Annotated[str | None, typer.Option(help="Only this source.")]
Number = Annotated[int, typer.Argument(help="The delivery's number (seq), as `list` shows it.", show_default=False)]


@contextmanager
def open_inbox(given: str | None) -> Generator[Inbox]:
    """The inbox, closed afterwards."""
    from classifaily_connectors.store import Inbox

    inbox = Inbox(ledger_url(given))
    try:
        yield inbox
    finally:
        inbox.close()


@webhooks.command("list")
def list_deliveries(
    *,
    source: Source = None,
    event: Annotated[str | None, typer.Option(help="Only this event, such as job.completed.")] = None,
    job_id: Annotated[str | None, typer.Option(help="Only this job.")] = None,
    state: Annotated[str | None, typer.Option(help="Only this state: ok, conflict, refuted, dead.")] = None,
    after: Annotated[
        str, typer.Option(help="Only those after this place: a number, or better the `cursor` of a line of --json.")
    ] = "0",
    waiting: Annotated[bool, typer.Option("--waiting", help="The jobs that are waited for, instead.")] = False,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """List what was received, in the order of the feed; without bodies."""
    with open_inbox(store) as inbox:
        if waiting:
            rows = _expected(inbox, source)
        else:
            wanted = {"source": source, "event": event, "job_id": job_id, "state": state}
            place = _begin(inbox, after)
            rows = (_plain(each, place.store) for each in _pages(inbox, place.seq, wanted))
        for row in rows:
            print(json.dumps(row, ensure_ascii=False) if as_json else _line(row))


@webhooks.command()
def show(number: Number, *, store: StorePlace = None, as_json: Json = False) -> None:
    """Show one delivery with its body."""
    with open_inbox(store) as inbox:
        found = inbox.get(number)
    if found is None:
        raise refuse(f"there is no delivery {number}: `classifaily webhooks list` shows their numbers")
    row = _plain(found)
    body = None if found.body is None else found.body.decode("utf-8", "replace")
    if as_json:
        print(json.dumps({**row, "body": body}, ensure_ascii=False))
    else:
        print(_line(row))
        print("(the body was pruned)" if body is None else body)


@webhooks.command()
def redrive(
    numbers: Annotated[
        list[int] | None, typer.Argument(help="Numbers (seq) of deliveries.", show_default=False)
    ] = None,
    *,
    job_id: Annotated[str | None, typer.Option(help="All deliveries of this job.")] = None,
    event: Annotated[str | None, typer.Option(help="All deliveries of this event.")] = None,
    state: Annotated[str | None, typer.Option(help="All in this state: ok, conflict, refuted, dead.")] = None,
    since: Annotated[str | None, typer.Option(help="All that came in the last 90d, 12h or 2w.")] = None,
    source: Source = None,
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Put deliveries into the feed again: sensors and sinks see them as new, waiters do not mind. Filters narrow each
    other; a dead letter that can be read by now is read."""
    from classifaily_connectors.webhooks import redriving

    filters = {"job_id": job_id, "event": event, "state": state, "source": source}
    wanted = any(value is not None for value in (*filters.values(), since))
    if not numbers and not wanted:
        raise refuse("name deliveries by their numbers, or by --job-id, --event, --state, --since or --source")
    with open_inbox(store) as inbox:
        listed = list(numbers or [])
        if missing := [each for each in listed if inbox.get(each) is None]:
            raise refuse(f"there is no such delivery: {', '.join(map(str, missing))}")
        if wanted:
            moment = None if since is None else time.time() - seconds(since)
            listed += [each.seq for each in redriving.chosen(inbox, since=moment, **filters)]
        if not listed:
            raise refuse("there is no such delivery: `classifaily webhooks list` shows them")
        for each in dict.fromkeys(listed):
            if found := redriving.redrive(inbox, each):
                _show(found, as_json=as_json)


@webhooks.command()
def reread(*, source: Source = None, store: StorePlace = None, as_json: Json = False) -> None:
    """Read dead letters again: those that this version can read come into the feed. Exit code 4 when some stay."""
    from classifaily_connectors.webhooks import redriving

    left = 0
    with open_inbox(store) as inbox:
        for letter in redriving.chosen(inbox, source=source, state=redriving.DEAD):
            if found := redriving.reread(inbox, letter):
                _show(found, as_json=as_json)
            else:
                left += 1
    if left:
        typer.echo(f"{left:,} dead letters cannot be read: `classifaily webhooks show NUMBER` shows them", err=True)
    raise typer.Exit(UNKNOWN if left else DONE)


def _show(found: Delivery, *, as_json: bool) -> None:
    print(json.dumps(_plain(found), ensure_ascii=False) if as_json else _line(_plain(found)))


@webhooks.command()
def prune(
    *,
    older_than: Annotated[str, typer.Option(help="Age such as 90d, 12h or 2w.")],
    store: StorePlace = None,
    as_json: Json = False,
) -> None:
    """Drop the bodies of old deliveries; that they came is remembered for 400 days, so that a replay is known."""
    with open_inbox(store) as inbox:
        dropped = inbox.prune(seconds(older_than))
    print(json.dumps({"dropped": dropped}) if as_json else f"{dropped:,} bodies dropped")


def _begin(inbox: Inbox, after: str) -> Position:
    from classifaily_connectors.webhooks.position import Position

    wanted = Position.parse(after)
    place = wanted.in_feed(inbox.end())
    if place.seq < wanted.seq:
        typer.echo(f"delivery {wanted.seq} is none of this store's: listed from the first one on", err=True)
    return place


def _pages(inbox: Inbox, after: int, wanted: dict[str, str | None]) -> Iterator[Delivery]:
    while page := inbox.entries(after=after, limit=_PAGE, **wanted):
        yield from page
        after = page[-1].seq


def _plain(found: Delivery, store: str = "") -> dict[str, Any]:
    cursor = {"cursor": f"{found.seq}@{store}"} if store else {}
    return {
        "seq": found.seq,
        **cursor,
        "source": found.source,
        "event": found.event,
        "job_id": found.job_id,
        "state": found.state,
        "received_at": found.received_at,
        "sent_at": found.sent_at,
        "repeats": found.repeats,
        "redriven": found.redriven,
        "digest": found.digest.hex(),
    }


def _expected(inbox: Inbox, source: str | None) -> Iterator[dict[str, Any]]:
    for each in inbox.expected(source, limit=1_000_000):
        yield {
            "seq": None,
            "source": each.source,
            "event": None,
            "job_id": each.job_id,
            "state": "expected",
            "expected_at": each.expected_at,
            "owner": each.owner,
        }


def _line(row: dict[str, Any]) -> str:
    when = datetime.fromtimestamp(row.get("received_at") or row["expected_at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
    notes = [f"{row[name]} {name}" for name in ("repeats", "redriven") if row.get(name)]
    notes += [f"by {row['owner']}"] if row.get("owner") else []
    known = {
        name: str(row[name] if row[name] is not None else "-") for name in ("seq", "source", "event", "job_id", "state")
    }
    return _LINE.format(when=when, notes=", ".join(notes), **known).rstrip()
