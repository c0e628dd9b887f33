"""The bar that `TerminalProgress` draws, and its silence where there is no terminal."""

from __future__ import annotations

import io

from rich.console import Console

from classifaily_connectors import Progress
from classifaily_connectors.progress import TerminalProgress, duration

MOMENT = Progress(
    done=50, total=200, billed=30, reused=15, duplicate=5, failed=2, unknown=1, rate=25.0, eta=6.0, remaining=70
)


def drawn(*, terminal: bool) -> str:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=160, color_system=None)
    with TerminalProgress("tickets.csv", console=console) as progress:
        progress(MOMENT)
        progress._bar.refresh()
    return screen.getvalue()


def test_the_bar_says_what_was_paid() -> None:
    text = drawn(terminal=True)
    for word in ("tickets.csv", "50/200", "30 billed", "20 free", "2 failed", "1 unknown", "25/s", "6.0 s left"):
        assert word in text


def test_silent_without_a_terminal() -> None:
    assert drawn(terminal=False).strip() == ""


def test_durations_are_words() -> None:
    assert [duration(each) for each in (4.2, 59, 200, 7500)] == ["4.2 s", "59 s", "3 min 20 s", "2 h 05 min"]
