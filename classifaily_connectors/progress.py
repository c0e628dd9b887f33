"""A bulk run's progress, shown in a terminal.

    with TerminalProgress("tickets.csv") as progress:
        classify_table(client, "tickets.csv", text="body", output="labelled.csv", progress=progress)

The law of this file: it shows and never decides; where there is no terminal it is silent. Needs the extra `cli`.
"""

from __future__ import annotations

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

if TYPE_CHECKING:
    from classifaily_connectors.bulk.progress import Progress


class TerminalProgress:
    """A bar with what was billed, reused, failed and is unknown, the rate and the time left; goes to stderr."""

    def __init__(self, title: str = "", *, console: Console | None = None) -> None:
        console = console or Console(stderr=True)
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),  # a file may be called "[draft].csv"
            BarColumn(bar_width=None),
            TextColumn("{task.fields[share]}", justify="right"),
            _Counts(),
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
        share = f"{moment.done:,}" if moment.total is None else f"{moment.done:,}/{moment.total:,}"
        self._bar.update(self._task, completed=moment.done, total=moment.total, share=share, moment=moment)


class _Counts(ProgressColumn):
    max_refresh = 0.2

    def render(self, task: Task) -> Text:
        moment: Progress | None = task.fields["moment"]
        if moment is None:
            return Text("")
        text = Text(f"{moment.billed:,} billed", style="cyan")
        text.append(f"  {moment.reused + moment.duplicate:,} free", style="green")
        if moment.failed:
            text.append(f"  {moment.failed:,} failed", style="red")
        if moment.unknown:
            text.append(f"  {moment.unknown:,} unknown", style="yellow")
        text.append(f"  {moment.rate:,.0f}/s", style="dim")
        if moment.eta is not None:
            text.append(f"  {duration(moment.eta)} left", style="dim")
        return text


def duration(seconds: float) -> str:
    """Seconds in words: "4.2 s", "3 min 20 s", "2 h 05 min"."""
    if seconds < 10:  # noqa: PLR2004
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
