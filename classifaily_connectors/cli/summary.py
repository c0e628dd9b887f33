"""What a run did, for people and for machines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from classifaily_connectors.cli.failing import DONE, FAILED, UNCOVERED, UNKNOWN
from classifaily_connectors.tables.report import duration, ranked

if TYPE_CHECKING:
    from rich.console import Console

    from classifaily_connectors.bulk.plan import Plan
    from classifaily_connectors.bulk.progress import BulkStats
    from classifaily_connectors.tables import TableResult

_BAR = 32
_MOST = 20
_STYLES = {"completed": "green", "failed": "red", "unknown": "yellow", "skipped": "dim", "uncovered": "magenta"}


def counted(number: int, noun: str) -> str:
    """`1 call`, `2,000 calls`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def exit_code(stats: BulkStats) -> int:
    """The exit code: what may have cost money for nothing outranks what the budget left out, and that what failed."""
    if stats.unknown:
        return UNKNOWN
    if stats.statuses["uncovered"]:
        return UNCOVERED
    return FAILED if stats.failed else DONE


def show(console: Console, result: TableResult) -> None:
    """The summary for people."""
    stats = result.stats
    speed = stats.rows / stats.seconds if stats.seconds else 0.0
    took = f"in {duration(stats.seconds)} ({speed:,.0f}/s)"
    console.print(f"[bold]{counted(stats.rows, 'row')}[/] {took} to {escape(str(result.output))}")
    parts = [
        f"[cyan]{stats.billed:,} billed[/]",
        f"[green]{stats.reused:,} reused[/]",
        f"{stats.duplicate:,} duplicate",
    ]
    if result.resumed:
        parts.append(f"{result.resumed:,} already landed")
    if stats.remaining is not None:
        parts.append(f"quota left about {stats.remaining:,}")
    console.print("  ".join(parts))
    counts = [f"[{_STYLES[name]}]{count:,} {name}[/]" for name, count in stats.statuses.items() if count]
    counts += [f"{count:,} to {name}" for name, count in sorted(stats.routes.items()) if count]
    console.print("  ".join(counts))
    if stats.labels:
        console.print(histogram(stats.labels))
    if stats.unknown:
        console.print(
            "[yellow]Some rows may have been paid without an answer.[/] See `classifaily ledger show`, or run again "
            "with --on-unknown reconcile."
        )
    if stats.statuses["uncovered"]:
        why = stats.limit or "the budget ended first"
        console.print(
            f"[magenta]Not all rows are covered:[/] {why}. Then the same command covers the others, and pays for them "
            "alone."
        )
    console.print(
        f"Answers are kept in {escape(stats.ledger)}" if stats.ledger else "No ledger: the same command pays again"
    )


def histogram(labels: dict[str, int]) -> Table:
    """The labels and how often each was given, most frequent first."""
    table = Table(box=None, show_header=False, padding=(0, 1))
    order = ranked(labels)
    total, most = sum(labels.values()), order[0][1]
    for label, count in order[:_MOST]:
        bar = "█" * max(1, round(_BAR * count / most))
        table.add_row(escape(label), f"[cyan]{bar}[/]", f"{count:,}", f"[dim]{count / total:.0%}[/]")
    if len(order) > _MOST:
        rest = order[_MOST:]
        table.add_row(f"[dim]{len(rest)} more[/]", "", f"{sum(count for _label, count in rest):,}", "")
    return table


def plan_json(plan: Plan) -> dict[str, Any]:
    """A plan as plain data."""
    names = (
        "rows", "unique", "already_paid", "parked", "skipped", "to_buy", "perhaps", "batches", "characters", "longest",
        "categories", "restrictions", "fits",
    )  # fmt: skip
    resets_at = plan.resets_at.isoformat() if plan.resets_at else None
    found = {name: getattr(plan, name) for name in names}
    return {**found, "remaining": plan.remaining, "resets_at": resets_at}


def show_plan(console: Console, plan: Plan) -> None:
    """A plan for people."""
    at_most = "at most " if plan.perhaps else ""
    console.print(
        f"[bold]{at_most}{counted(plan.to_buy, 'request')}[/] would be billed, in {counted(plan.batches, 'call')}; "
        "nothing was spent"
    )
    if plan.perhaps:
        console.print(
            f"[yellow]{plan.perhaps:,} of them need not be[/]: another run is at them, or the API cannot tell yet "
            "whether they were executed"
        )
    console.print(
        f"{counted(plan.rows, 'row')}  {plan.unique:,} unique  [green]{plan.already_paid:,} already paid[/]  "
        f"[yellow]{plan.parked:,} parked[/]  [dim]{plan.skipped:,} skipped[/]"
    )
    if plan.remaining is not None:
        when = f" until {plan.resets_at:%Y-%m-%d %H:%M} UTC" if plan.resets_at else ""
        verdict = "[green]fits[/]" if plan.has_quota else f"[red]{plan.to_buy - plan.remaining:,} too many[/]"
        console.print(f"quota left {plan.remaining:,}{when}: {verdict}")
    if plan.to_buy:
        console.print(f"{counted(plan.characters, 'character')} to send, the longest input {plan.longest:,}")
    if plan.categories:
        shown = ", ".join(plan.categories[:_MOST])
        more = f" and {len(plan.categories) - _MOST} more" if len(plan.categories) > _MOST else ""
        console.print(f"{counted(len(plan.categories), 'label')} may be answered: {escape(shown)}{more}")
    for restriction in plan.restrictions:
        console.print(f"[red]cannot be run:[/] {restriction}")
