"""How a CSV file is written: its encoding, its delimiter, and where its rows begin and end.

The law of this file: one row that cannot be read costs one row. Reading goes on with the next line of the file, not
where a quote that should not be there happens to be closed.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

_DELIMITERS = ",;\t|"
_QUOTED = re.compile(r'"(?:[^"]|"")*"?')
_EXCELS_OWN = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def encoding_of(beginning: bytes) -> str:
    """The encoding that a file's first bytes say; UTF-8 where they say nothing."""
    # utf-8-sig, because Excel puts a byte order mark before the first column's name.
    return "utf-16" if beginning.startswith(_UTF16) else "utf-8-sig"


def declared_delimiter(line: str) -> str | None:
    """The delimiter in a line `sep=;`, which Excel writes before the header and reads as no row."""
    found = _EXCELS_OWN.fullmatch(line)
    return found[1] if found else None


def delimiter_of(header: str) -> str:
    """The delimiter that a header line shows outside its quotes: the most frequent, a comma where there is none."""
    bare = _QUOTED.sub("", header)
    return max(_DELIMITERS, key=lambda each: (bare.count(each), each == ","))


@dataclass
class Record:
    """Cells, the number of the line they begin in, and why they are none."""

    line: int
    cells: list[str]
    problem: str | None = None


class _Lines:
    """Lines that may be given back; `taken` are those of the record at hand."""

    def __init__(self, lines: Iterable[str]) -> None:
        self._lines = iter(lines)
        self._back: deque[str] = deque()
        self.taken: list[str] = []
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._back.popleft() if self._back else next(self._lines)
        self.taken.append(line)
        return line

    def begin(self) -> None:
        """The next line is the first of a record."""
        self.number += len(self.taken)
        self.taken = []

    def give_back(self) -> None:
        """All lines but the first are of records of their own."""
        self._back.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]


def records(text: Iterable[str], delimiter: str, *, quoted: bool = True) -> Iterator[Record]:
    """The records of a CSV text; one that cannot be read ends with its first line. Empty lines are none.

    With `quoted=False` a quote is a letter like any other, and every line a record.
    """
    lines = _Lines(text)
    if quoted:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    else:
        reader = csv.reader(lines, delimiter=delimiter, strict=True, quoting=csv.QUOTE_NONE)
    while True:
        lines.begin()
        try:
            cells = next(reader, None)
        except csv.Error as error:
            if not lines.taken:
                raise
            lines.give_back()
            problem = f"cannot be read ({error}): is a quote left open, or the delimiter another one?"
            yield Record(lines.number + 1, _as_it_stands(lines.taken, delimiter), problem)
            continue
        if cells is None:
            return
        if quoted and delimiter == "\t" and len(lines.taken) > 1 and _whole_rows(lines.taken, len(cells)):
            problem = (
                f"opens a quote that line {lines.number + len(lines.taken)} closes, and each line between is a whole "
                "row: write a quote that is text as two in quotes, or the table as .csv"
            )
            lines.give_back()
            yield Record(lines.number + 1, _as_it_stands(lines.taken, delimiter), problem)
            continue
        if cells:
            yield Record(lines.number + 1, cells)


def _as_it_stands(lines: list[str], delimiter: str) -> list[str]:
    return lines[0].rstrip("\r\n").split(delimiter)


def _whole_rows(lines: list[str], width: int) -> bool:
    """Whether a quote joined lines that are rows of their own: in tab-separated files a quote is often just text."""
    return all(line.count("\t") == width - 1 for line in lines) if width > 1 else False
