"""Races: contenders measured in turn, round after round, and compared inside each round.

This machine is shared, so no absolute time means anything: what slows one contender of a round slows them all, and
only the ratios are judged. Each race prints its least, middle and greatest figures.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

KEY = "cai_live_0123456789abcdef0123456789abcdef01234567"
TEXT = "My invoice shows a double charge this month."
CATEGORIES = ["billing", "technical", "account", "general"]


@dataclass(frozen=True)
class Spread:
    least: float
    middle: float
    most: float

    @classmethod
    def of(cls, figures: list[float]) -> Spread:
        return cls(min(figures), statistics.median(figures), max(figures))

    def show(self, form: str) -> str:
        return " ".join(format(each, form).rjust(8) for each in (self.least, self.middle, self.most))


Measure = Callable[[], float]


class Race:
    def __init__(self, title: str, contenders: Mapping[str, Measure], *, rounds: int) -> None:
        self.title = title
        self.figures: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(rounds):
            for name, measure in contenders.items():
                self.figures[name].append(measure())

    def best(self, name: str, base: str) -> float:
        """The greatest figure of one against the greatest of the other: other work on the machine only lowers them."""
        return max(self.figures[name]) / max(self.figures[base])

    def ratio(self, name: str, base: str) -> Spread:
        pairs = zip(self.figures[name], self.figures[base], strict=True)
        return Spread.of([ours / theirs for ours, theirs in pairs])

    def show(self, base: str, form: str = ".0f") -> None:
        rounds = len(self.figures[base])
        columns = "least   middle     most".rjust(26)
        print(f"\n\n{self.title}; {rounds} rounds\n{'':34}{columns}   {f'x {base}':>26}")
        for name, figures in self.figures.items():
            print(f"  {name:32}{Spread.of(figures).show(form)}   {self.ratio(name, base).show('.2f')}")


@pytest.fixture(scope="session")
def race() -> type[Race]:
    return Race


@pytest.fixture(scope="session")
def responder() -> Iterator[str]:
    """The base URL of a server in a process of its own, so that its work is not counted as the client's."""
    command = [sys.executable, str(Path(__file__).with_name("responder.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        process.communicate(timeout=10)


@pytest.fixture
def body() -> dict[str, object]:
    """The POST that everyone sends who can choose what to send."""
    return {"input": TEXT, "categories": CATEGORIES}


@pytest.fixture
def key() -> str:
    return KEY
