"""A bulk run's progress, shown in a terminal.

    with TerminalProgress("tickets.csv") as progress:
        classify_table(client, "tickets.csv", text="body", output="labelled.csv", progress=progress)

The law of this file: it shows and never decides; where there is no terminal it writes a line now and then. Needs the
extra `cli`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

try:
    from rich.console import Console
    from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task, TextColumn
    from rich.progress import Progress as Bar
    from rich.text import Text
except ModuleNotFoundError as error:
    raise ImportError(
        f"the progress bar needs {error.name}: pip install 'classifaily-connectors[cli]'", name=error.name
    ) from error

from classifaily_connectors.tables.report import duration, progress_line

if TYPE_CHECKING:
    from classifaily_connectors.bulk.progress import Progress


LINE_EVERY = 10.0
"""Seconds between two lines where there is no terminal."""
_WIDE, _NARROW_BAR = 120, 10
"""Columns from which on a terminal has room for a long bar and the rate, and those of the bar where it has not."""


class TerminalProgress:
    """A bar with what was billed, reused, failed and is unknown, the rate and the time left; goes to stderr.

    A narrow terminal shows less of it; a log gets a line every ten seconds.
    """

    def __init__(self, title: str = "", *, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._title, self._console = title, console
        wide = console.width >= _WIDE
        self._line_due = time.monotonic() + LINE_EVERY
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),  # a file may be called "[draft].csv"
            BarColumn(bar_width=None if wide else _NARROW_BAR),
            TextColumn("{task.fields[share]}", justify="right"),
            _Counts(wide=wide),
            console=console,
            transient=True,
            expand=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(title, total=None, share="", moment=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def __call__(self, moment: Progress) -> None:
        """Show this moment; what `progress=` takes."""
        if not self._console.is_terminal:
            if time.monotonic() >= self._line_due:
                self._line_due = time.monotonic() + LINE_EVERY
                self._console.print(f"{self._title}: {progress_line(moment)}", markup=False, soft_wrap=True)
            return
        share = f"{moment.done:,}" if moment.total is None else f"{moment.done:,}/{moment.total:,}"
        self._bar.update(self._task, completed=moment.done, total=moment.total, share=share, moment=moment)


class _Counts(ProgressColumn):
    max_refresh = 0.2

    def __init__(self, *, wide: bool) -> None:
        super().__init__()
        self._wide = wide

    def render(self, task: Task) -> Text:
        moment: Progress | None = task.fields["moment"]
        if moment is None:
            return Text("")
        text = Text(no_wrap=True, overflow="ellipsis")  # on a narrow terminal the end is left out
        text.append(f"{moment.billed:,} billed", style="cyan")
        text.append(f"  {moment.reused + moment.duplicate:,} free", style="green")
        if moment.failed:
            text.append(f"  {moment.failed:,} failed", style="red")
        if moment.unknown:
            text.append(f"  {moment.unknown:,} unknown", style="yellow")
        if self._wide:
            text.append(f"  {moment.rate:,.0f}/s", style="dim")
        if moment.eta is not None:
            text.append(f"  {duration(moment.eta)} left", style="dim")
        return text
