"""The table on its way in and out: what is handed to the platforms, and what came back.

The law of this file: a labelled table that is not the input table, row for row and cell for cell, with a consistent
status in every row, raises DemoError. Nothing is corrected here.
"""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from classifaily_connectors import ClassifailyError
from classifaily_connectors.taxonomy import parse_categories

ADDED = (
    "label", "confidence", "labels", "explanation", "route", "status", "source", "decided_by", "policy", "error",
    "job_id",
)  # fmt: skip
STATUSES = ("completed", "failed", "unknown", "skipped", "uncovered")
ROUTES = ("act", "flag", "review")

csv.field_size_limit(sys.maxsize)  # one pasted log is longer than the module's own limit


class DemoError(Exception):
    """What went wrong, in words for the person who typed `make demo`."""


@dataclass(frozen=True)
class Table:
    """A CSV file's header and rows; `text` is the column to classify."""

    path: Path
    text: str
    header: list[str]
    rows: list[list[str]]

    @property
    def sendable(self) -> list[str]:
        """The texts that are worth a request: not blank."""
        texts = (row[self.header.index(self.text)] for row in self.rows)
        return [text for text in texts if text.strip()]

    def save(self, path: Path) -> Table:
        """The same table in another file."""
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([self.header, *self.rows])
        return Table(path, self.text, self.header, self.rows)


def read_table(path: Path, text: str, limit: int | None) -> Table:
    """The first `limit` rows (None: all) of any CSV file with a header."""
    header, rows = _read(path)
    if repeated := [name for name, times in Counter(header).items() if times > 1]:
        raise DemoError(f"{path} has two columns {repeated[0]!r}: rename one")
    if text not in header:
        raise DemoError(f"{path} has no column {text!r}: TEXT must be one of {', '.join(header)}")
    if taken := sorted(set(header) & set(ADDED)):
        raise DemoError(f"{path} has a column {taken[0]!r}, which the answer needs: rename it")
    if not rows:
        raise DemoError(f"{path} has no rows")
    return Table(path, text, header, rows[:limit])


def read_labels(path: Path) -> tuple[str, ...]:
    """The names in a file of categories."""
    try:
        return tuple(category.name for category in parse_categories(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, ClassifailyError) as error:
        raise DemoError(f"{path} is no list of categories: {error}") from None


@dataclass(frozen=True)
class Verdict:
    """What the answer columns say of one row."""

    status: str
    label: str | None
    confidence: float | None
    route: str


@dataclass(frozen=True)
class Labelled:
    """A labelled table, checked against its input."""

    verdicts: list[Verdict]

    @property
    def review(self) -> int:
        """Rows a human has to look at: no label, or not sure enough; a skipped one has nothing to look at."""
        return sum(verdict.route == "review" and verdict.status != "skipped" for verdict in self.verdicts)

    @property
    def labels(self) -> Counter[str]:
        """How often each label was given."""
        return Counter(verdict.label for verdict in self.verdicts if verdict.label is not None)

    def count(self, *statuses: str) -> int:
        """Rows with one of these statuses."""
        return sum(verdict.status in statuses for verdict in self.verdicts)


def read_labelled(path: Path, table: Table, labels: Sequence[str]) -> Labelled:
    """The labelled file, once it is certain that it is `table` with an answer beside every row."""
    header, rows = _read(path)
    if missing := [column for column in (*table.header, *ADDED) if column not in header]:
        raise DemoError(f"{path} lacks the column {missing[0]!r}")
    if len(rows) != len(table.rows):
        raise DemoError(f"{path} has {len(rows)} rows, the input has {len(table.rows)}")
    own = [header.index(column) for column in table.header]
    for number, (row, given) in enumerate(zip(rows, table.rows, strict=True), start=1):
        if [row[place] for place in own] != given:
            raise DemoError(f"{path}: row {number} is not row {number} of the input")
    return Labelled(
        [
            _verdict(dict(zip(header, row, strict=True)), labels, f"{path}: row {number}")
            for number, row in enumerate(rows, start=1)
        ]
    )


def first_difference(outputs: dict[str, Labelled]) -> str | None:
    """Where the platforms gave the same row different verdicts; None when they agree."""
    named = list(outputs.items())
    for (one, left), (other, right) in pairwise(named):
        for number, (mine, yours) in enumerate(zip(left.verdicts, right.verdicts, strict=True), start=1):
            if mine != yours:
                return f"row {number}: {one} says {_words(mine)}, {other} says {_words(yours)}"
    return None


def _read(path: Path) -> tuple[list[str], list[list[str]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            header, *rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DemoError(f"cannot read {path}: {error}") from None
    except ValueError:
        raise DemoError(f"{path} is empty: it needs a header") from None
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise DemoError(f"{path}: row {number} has {len(row)} cells, the header has {len(header)}")
    return header, rows


def _verdict(row: dict[str, str], labels: Sequence[str], where: str) -> Verdict:
    status, label, confidence = row["status"], row["label"] or None, row["confidence"] or None
    if status not in STATUSES:
        raise DemoError(f"{where} has the status {status!r}: it must be one of {', '.join(STATUSES)}")
    if label is not None and status != "completed":
        raise DemoError(f"{where} is {status} and yet wears the label {label!r}")
    if label is not None and label not in labels:
        raise DemoError(f"{where} has the label {label!r}, which is no category")
    if row["route"] not in ROUTES or (label is None and row["route"] != "review"):
        raise DemoError(f"{where} has the label {label!r} and the route {row['route']!r}")
    try:
        return Verdict(status, label, None if confidence is None else float(confidence), row["route"])
    except ValueError:
        raise DemoError(f"{where} has the confidence {confidence!r}, which is no number") from None


def _words(verdict: Verdict) -> str:
    return f"{verdict.label or 'no label'} ({verdict.status}, {verdict.confidence}, {verdict.route})"
