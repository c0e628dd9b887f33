"""The bar that `TerminalProgress` draws, and its silence where there is no terminal."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from classifaily_connectors import Progress
from classifaily_connectors.progress import TerminalProgress, duration

MOMENT = Progress(
    done=50, total=200, billed=30, reused=15, duplicate=5, failed=2, unknown=1, rate=25.0, eta=6.0, remaining=70
)


def drawn(*, terminal: bool, width: int = 160) -> str:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=terminal, width=width, color_system=None)
    with TerminalProgress("tickets.csv", console=console) as progress:
        progress(MOMENT)
        progress._bar.refresh()
    return screen.getvalue()


def test_the_bar_says_what_was_paid() -> None:
    text = drawn(terminal=True)
    for word in ("tickets.csv", "50/200", "30 billed", "20 free", "2 failed", "1 unknown", "25/s", "6.0 s left"):
        assert word in text


def test_a_short_run_is_silent_without_a_terminal() -> None:
    assert drawn(terminal=False).strip() == ""


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("classifaily_connectors.progress.time.monotonic", lambda: now[0])
    screen = io.StringIO()
    with TerminalProgress("[draft].csv", console=Console(file=screen, width=40)) as progress:
        for _ in range(300):
            now[0] += 0.1
            progress(MOMENT)
    lines = screen.getvalue().splitlines()
    assert len(lines) in (2, 3)
    assert set(lines) == {
        "[draft].csv: 50 of 200 rows: 30 billed, 15 reused, 5 duplicate, 2 failed, 1 unknown; 25 a second, 6 s left"
    }


@pytest.mark.parametrize("width", [100, 80, 60])
def test_a_narrow_terminal_keeps_what_it_costs_on_one_line(width: int) -> None:
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", drawn(terminal=True, width=width))
    lines = {line.rstrip() for line in text.replace("\r", "\n").splitlines() if "50/200" in line or "left" in line}
    (line,) = lines
    assert "30 billed" in line
    assert len(line) <= width


def test_durations_are_words() -> None:
    assert [duration(each) for each in (4.2, 59, 200, 7500)] == ["4.2 s", "59 s", "3 min 20 s", "2 h 05 min"]
