"""`classifaily usage` and `classifaily doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.markup import escape
from rich.table import Table

from classifaily_connectors.cli.common import BaseUrl, Json, LedgerPlace, console, ledger_url, open_client, print_json
from classifaily_connectors.cli.failing import DONE, TROUBLE

if TYPE_CHECKING:
    from classifaily_connectors.doctor import Finding

_MARKS = {"good": "[green]ok[/]", "warning": "[yellow]look[/]", "bad": "[red]bad[/]"}


def usage(
    *,
    month: Annotated[str | None, typer.Option(help="YYYY-MM; else the current one.")] = None,
    base_url: BaseUrl = None,
    as_json: Json = False,
) -> None:
    """Show what the plan allows and what is used; free."""
    with open_client(base_url) as client:
        report = client.usage(month)
    if as_json:
        print_json({**report.model_dump(mode="json"), "remaining": report.remaining})
        return
    limits, used = report.limits, report.usage
    screen = console()
    allowed = "unlimited" if limits.requests is None else f"{limits.requests:,}"
    screen.print(f"[bold]{report.plan or 'plan unknown'}[/] {report.period or ''}")
    left = "" if report.remaining is None else f"  [green]{report.remaining:,} left[/]"
    screen.print(f"{used.requests:,} of {allowed} requests used{left}")
    if limits.resets_at:
        screen.print(f"starts anew at {limits.resets_at:%Y-%m-%d %H:%M} UTC")
    for name, count in used.by_type.items():
        screen.print(f"  {escape(str(name)):8}{count:>12}")


def doctor(*, place: LedgerPlace = None, base_url: BaseUrl = None, as_json: Json = False) -> None:
    """Check key, address, plan, quota, clock and ledger; spends nothing. Exit code 1 when something is bad."""
    from classifaily_connectors.doctor import examine

    print_findings(examine(base_url, partial(ledger_url, place)), as_json=as_json)


def print_findings(findings: Iterable[Finding], *, as_json: bool) -> NoReturn:
    """Print what was found; exit code 1 when something is bad."""
    found = list(findings)
    if as_json:
        print_json([{"name": each.name, "level": each.level, "detail": each.detail} for each in found])
    else:
        table = Table(box=None, show_header=False)
        for each in found:
            table.add_row(_MARKS[each.level], each.name, escape(each.detail))
        console().print(table)
    raise typer.Exit(TROUBLE if any(each.level == "bad" for each in found) else DONE)
