"""What the person at the terminal sees: bars while it runs, one table at the end.

The law of this file: it prints numbers that others have counted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table as Grid
from rich.text import Text

if TYPE_CHECKING:
    from launchers import Event
    from tables import Labelled

BAR = 5
"""Blocks of the longest bar."""
SHOWN = 6
"""Labels that get a bar."""
NARROWEST = 80
"""Columns where there is no terminal to ask."""


@dataclass(frozen=True)
class Run:
    """One run of one platform, in numbers."""

    platform: str
    number: int
    unique: int
    """Different texts that are not blank."""
    billed: int
    """Requests charged while it ran."""
    starting: float
    """Seconds until the platform was ready; 0 after the first run."""
    running: float
    """Seconds of the run itself."""
    labelled: Labelled

    @property
    def reused(self) -> int:
        """Labels that cost nothing."""
        return max(self.labelled.count("completed") - self.billed, 0)


def new_console(*, stderr: bool = False) -> Console:
    """A console that stays wide enough for the table where there is no terminal."""
    # Texts and paths are printed as they are: a [word] in a log is no style.
    console = Console(stderr=stderr, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, NARROWEST)
    return console


def new_progress(console: Console) -> Progress:
    """Bars of the platforms, one below the other."""
    words = TextColumn("[bold]{task.description:<8}[/] {task.fields[state]}")
    count = (BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(SpinnerColumn(finished_text="✓"), words, *count, console=console)


class Line:
    """One platform's line among the bars."""

    def __init__(self, progress: Progress, platform: str, rows: int) -> None:
        self._progress, self._platform = progress, platform
        self._task = progress.add_task(platform, total=rows, state="starting…")

    def show(self, event: Event) -> None:
        """Move the bar by what a launcher said."""
        match event.event:
            case "ready":
                self._say("running")
                # Above the bars, and in a log file too.
                self._progress.console.print(f"{self._platform} is ready at {event.url}")
            case "progress":
                self._progress.update(self._task, completed=event.done, total=event.rows or None)
                self._say(f"run {event.run}")
            case "run_done":
                self._progress.update(self._task, completed=event.rows, total=event.rows)
                self._say(f"run {event.run} done")
            case _:
                pass

    def _say(self, state: str) -> None:
        self._progress.update(self._task, state=state)


def summary(runs: list[Run]) -> Grid:
    """The table of the demo, a row a run; it fits into 80 columns."""
    grid = Grid(box=box.SIMPLE_HEAD, padding=0, show_edge=False)
    grid.add_column("platform", style="bold")
    for column in ("rows", "unique", "billed", "reused", "skipped,\nfailed"):
        grid.add_column(column, justify="right")
    grid.add_column("labels")
    for column in ("review", "seconds"):
        grid.add_column(column, justify="right")
    several = any(run.number > 1 for run in runs)
    for run in runs:
        labelled = run.labelled
        grid.add_row(
            f"{run.platform} {run.number}" if several else run.platform,
            *(f"{count:,}" for count in (len(labelled.verdicts), run.unique, run.billed, run.reused)),
            f"{labelled.count('skipped')}, {labelled.count('failed', 'unknown', 'uncovered')}",
            _histogram(labelled.labels),
            f"{labelled.review:,}",
            f"{run.starting:.1f}+{run.running:.1f}" if run.starting else f"{run.running:.1f}",
        )
    return grid


LEGEND = (
    "unique: different texts that are not blank. billed: requests charged. reused: labels that cost nothing. "
    "review: no label, or a confidence below 0.60. seconds: to start the platform+to run."
)


def _histogram(labels: Counter[str]) -> Text:
    shown = labels.most_common(SHOWN)
    most = shown[0][1] if shown else 0
    width = max((len(label) for label, _ in shown), default=0)
    lines = [f"{label:<{width}} {'▇' * max(round(count / most * BAR), 1):<{BAR}} {count}" for label, count in shown]
    if len(labels) > SHOWN:
        lines.append(f"… and {len(labels) - SHOWN} more")
    return Text("\n".join(lines))
