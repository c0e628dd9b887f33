"""CSV and JSONL, read with the standard library alone.

The law of this file: a value is what the file says. A CSV cell is text, never guessed into a number or a date, so
that what goes out is what came in.
"""

from __future__ import annotations

import csv
import io
import json
import lzma
import math
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from classifaily_connectors.errors import refuse
from classifaily_connectors.places import need
from classifaily_connectors.tables.chunks import CHUNK, Chunk, RecordChunk, Table, Types
from classifaily_connectors.tables.dialect import Record, declared_delimiter, delimiter_of, encoding_of, records

if TYPE_CHECKING:
    from classifaily_connectors.places import Place
    from classifaily_connectors.tables.formats import Format

_FIELD_LIMIT = 1 << 27
_EXACT_DIGITS = 17
"""Shorter than this, a number is what its nearest float says."""
_MARK = b"\xef\xbb\xbf"
_BROKEN = (EOFError, zlib.error, lzma.LZMAError, OSError)


class FileTable(Table):
    """A table in one file."""

    def __init__(self, place: Place, format: Format) -> None:
        self.place, self.format = place, format
        self.name = place.name

    def fingerprint(self) -> str | None:
        return self.place.version()

    @contextmanager
    def _plain(self) -> Generator[IO[bytes]]:
        try:
            with self.format.reading(self.place.open()) as plain:
                yield plain
        except _BROKEN as error:
            if self.format.compression is None:
                raise
            problem = type(error).__name__
        else:
            return
        raise refuse(
            f"{self.name}: cannot be decompressed ({problem}): is it complete, and .{self.format.compression}?"
        )


@dataclass
class CsvChunk(Chunk):
    """Rows of cells, all text."""

    header: tuple[str, ...]
    rows: list[list[str]]
    lines: list[int]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> Sequence[str]:
        return self.header

    def column(self, name: str) -> Sequence[Any]:
        place = self.header.index(name)
        return [row[place] for row in self.rows]

    def arrow(self, schema: Any) -> Any:
        pa = need("pyarrow")
        columns = [pa.array(cells, type=pa.string()) for cells in zip(*self.rows, strict=True)]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def where(self, offset: int) -> str:
        return f"line {self.lines[offset]}"


class CsvTable(FileTable):
    """A CSV file: UTF-8 (or UTF-16 that says so), a header line, and a comma, semicolon, tab or bar between the cells
    (as the header shows)."""

    def __init__(
        self,
        place: Place,
        format: Format,
        *,
        encoding: str | None = None,
        delimiter: str | None = None,
        quoted: bool = True,
    ) -> None:
        super().__init__(place, format)
        self._quoted = quoted
        # The limit is the whole process's and 128 KiB by default: a long email with its attachments is longer.
        csv.field_size_limit(max(_FIELD_LIMIT, csv.field_size_limit()))
        self._given = encoding is not None
        with self._plain() as plain:
            self._encoding = encoding or encoding_of(plain.read(2))
        with self._text() as text:
            first = text.readline()
            self._declared = declared_delimiter(first)
            header = text.readline() if self._declared else first
        self.delimiter = delimiter or self._declared or ("\t" if format.suffix == "tsv" else delimiter_of(header))
        head = next(self._records(), None)
        if head is None:
            raise refuse(f"{self.name} is empty: it must have a header line")
        if head.problem is not None:
            raise refuse(f"{self.name}, line {head.line} {head.problem}")
        self.columns = tuple(head.cells)
        twice = next((name for place, name in enumerate(self.columns) if name in self.columns[:place]), None)
        if twice is not None and not twice.strip():
            raise refuse(
                f"{self.name}, line {head.line}: two columns have no name: name them, or delete the empty ones"
            )
        if twice is not None:
            raise refuse(f"{self.name}, line {head.line}: column {twice!r} appears twice: rename one")

    def schema(self) -> Any:
        pa = need("pyarrow")
        return pa.schema([(name, pa.string()) for name in self.columns])

    def chunks(self) -> Iterator[Chunk]:
        start, rows, lines = 0, list[list[str]](), list[int]()
        faults: dict[int, str] = {}
        records = self._records()
        next(records, None)
        for record in records:
            if record.problem is not None:
                faults[len(rows)] = record.problem
            rows.append(record.cells)
            lines.append(record.line)
            if len(rows) == CHUNK:
                yield self._chunk(start, rows, lines, faults)
                start, rows, lines, faults = start + CHUNK, [], [], {}
        if rows:
            yield self._chunk(start, rows, lines, faults)

    def _chunk(self, start: int, rows: list[list[str]], lines: list[int], faults: dict[int, str]) -> CsvChunk:
        width = len(self.columns)
        if set(map(len, rows)) != {width}:
            for offset, row in enumerate(rows):
                if len(row) != width:
                    faults.setdefault(offset, f"has {len(row)} cells, the header {width}")
                    rows[offset] = (row + [""] * width)[:width]
        return CsvChunk(self.name, start, self.columns, rows, lines, faults=faults)

    def _records(self) -> Iterator[Record]:
        """All records, that of the header first."""
        with self._text() as text:
            if self._declared:
                text.readline()
            for record in records(text, self.delimiter, quoted=self._quoted):
                if self._declared:
                    record.line += 1
                yield record

    @contextmanager
    def _text(self) -> Generator[io.TextIOWrapper]:
        try:
            with self._plain() as plain, io.TextIOWrapper(plain, self._encoding, newline="") as text:
                yield text
        except UnicodeError:
            undecoded = True
        else:
            undecoded = False
        if undecoded:
            self._not_decoded()

    def _not_decoded(self) -> NoReturn:
        if self._given:
            raise refuse(f"{self.name} is not in the encoding {self._encoding}")
        if self._encoding == "utf-16":
            raise refuse(f"{self.name} begins as UTF-16 and is none further on: save the file as UTF-8")
        with self._plain() as plain:
            where = _where_not_utf8(self.name, plain)
        raise refuse(where)


class JsonlTable(FileTable):
    """One JSON object a line; a key that is absent is null. Columns are those of all lines."""

    def __init__(self, place: Place, format: Format) -> None:
        super().__init__(place, format)
        self._columns: dict[str, None] = {}
        self._types = Types()

    def schema(self) -> Any:
        return self._types.schema()

    def learn(self, chunk: Chunk) -> None:
        self._columns.update(dict.fromkeys(chunk.names))
        self.columns = tuple(self._columns)

    def widen(self, chunk: Chunk) -> None:
        if isinstance(chunk, RecordChunk):
            self._types.learn(chunk, self.columns)

    @property
    def widened(self) -> bool:
        return self._types.widened

    def _lines(self, plain: IO[bytes]) -> Iterator[tuple[int, bytes]]:
        """The objects' texts, and the number of each, from 1."""
        return ((number, line) for number, line in enumerate(plain, 1) if not line.isspace())

    def chunks(self) -> Iterator[Chunk]:
        start, rows, lines, raw = 0, list[Mapping[str, Any]](), list[int](), list[bytes | None]()
        faults: dict[int, str] = {}
        reader = _Reader()
        with self._plain() as plain:
            for number, line in self._lines(plain):
                row = reader.object(line)
                if isinstance(row, str):
                    faults[len(rows)] = row
                    row = dict[str, Any]()
                rows.append(row)
                lines.append(number)
                raw.append(line if reader.as_written else None)
                if len(rows) == CHUNK:
                    yield RecordChunk(self.name, start, rows, lines, raw, faults=faults)
                    start, rows, lines, raw, faults = start + CHUNK, [], [], [], {}
        if rows:
            yield RecordChunk(self.name, start, rows, lines, raw, faults=faults)


class _TwiceError(Exception):
    """An object has a key twice: which of the two is meant, nobody knows."""


class _Reader:
    """Reads lines of JSON, without changing a number."""

    def __init__(self) -> None:
        self.as_written = False
        """Whether the line read last may be written as it is."""
        self._standard = True
        self._decode = json.JSONDecoder(
            parse_float=_number, parse_constant=self._constant, object_pairs_hook=_once
        ).decode  # fmt: skip

    def object(self, line: bytes) -> dict[str, Any] | str:
        """The object in a line, or why it is none."""
        self.as_written, self._standard = False, True
        try:
            value = self._decode(line.decode("utf-8-sig"))
        except UnicodeDecodeError:
            return "is not UTF-8"
        except _TwiceError as error:
            return f"has the key {error.args[0]!r} twice"
        except json.JSONDecodeError:
            return "is no JSON"
        except RecursionError:
            return "is nested too deeply"
        except ValueError:
            return "holds a whole number of too many digits"
        if not isinstance(value, dict):
            return "is no JSON object"
        self.as_written = self._standard and not line.startswith(_MARK)
        return cast("dict[str, Any]", value)

    def _constant(self, word: str) -> float:
        self._standard = False  # NaN and Infinity are Python's own
        return float(word)


def _number(text: str) -> float | Decimal:
    value = float(text)
    if len(text) < _EXACT_DIGITS and math.isfinite(value):
        return value
    exact = Decimal(text)
    return value if math.isfinite(value) and Decimal(repr(value)) == exact else exact


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _value in pairs]
        raise _TwiceError(next(name for name in found if names.count(name) > 1))
    return found


def _where_not_utf8(name: str, plain: IO[bytes]) -> str:
    for number, line in enumerate(plain, 1):
        try:
            line.decode()
        except UnicodeDecodeError as error:
            return (
                f"{name}, line {number}, byte {error.start + 1} is not UTF-8: save the file as UTF-8 "
                "(iconv -f cp1252 -t utf-8, if it comes from Windows)"
            )
    return f"{name} is not UTF-8"
