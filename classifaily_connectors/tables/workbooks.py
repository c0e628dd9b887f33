"""Excel workbooks (.xlsx), through openpyxl.

A cell keeps its type: numbers, dates, truth values and text. Text is written as text, also where it begins with `=`: a
row is data, and no formula.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, cast

from classifaily_connectors.errors import InvalidRequestError, refuse
from classifaily_connectors.places import need
from classifaily_connectors.tables.chunks import CHUNK, Chunk, RecordChunk, Types
from classifaily_connectors.tables.encoders import TextEncoder
from classifaily_connectors.tables.textfiles import FileTable
from classifaily_connectors.tables.values import UnwritableError, cell_column, to_json

if TYPE_CHECKING:
    from classifaily_connectors.places import Place
    from classifaily_connectors.tables.formats import Format
    from classifaily_connectors.tables.shape import Answer

EXTRA = "excel"
MAX_ROWS, MAX_COLUMNS, MAX_TEXT = 1_048_576, 16_384, 32_767
"""What a sheet holds: rows with the header's, columns, and characters in a cell."""
_DATES = (dt.datetime, dt.date, dt.time)
_READ: dict[str, Callable[[str], Any]] = {each.__name__: each.fromisoformat for each in _DATES}


class WorkbookTable(FileTable):
    """The first sheet of a workbook: a header row, then a row a line. Formulas count as what they last came to."""

    def __init__(self, place: Place, format: Format) -> None:
        super().__init__(place, format)
        self._types = Types()
        with self._rows() as rows:
            header = next((row for _number, row in rows), None)
        if header is None:
            raise refuse(f"{self.name} is empty: a header row and rows are needed")
        while header and header[-1] is None:
            header = header[:-1]
        nameless = next((place for place, name in enumerate(header, 1) if name is None), None)
        if nameless is not None:
            raise refuse(f"{self.name}: column {nameless} has no name in the header row")
        self.columns = tuple(str(name).strip() for name in header)
        twice = next((name for place, name in enumerate(self.columns) if name in self.columns[:place]), None)
        if twice is not None:
            raise refuse(f"{self.name}: column {twice!r} appears twice: rename one")

    def schema(self) -> Any:
        return self._types.schema()

    def widen(self, chunk: Chunk) -> None:
        if isinstance(chunk, RecordChunk):
            self._types.learn(chunk, self.columns)

    @property
    def widened(self) -> bool:
        return self._types.widened

    def chunks(self) -> Iterator[Chunk]:
        start, records, numbers = 0, list[Mapping[str, Any]](), list[int]()
        width = len(self.columns)
        faults: dict[int, str] = {}
        with self._rows() as rows:
            next(rows)
            for number, row in rows:
                if any(cell is not None for cell in row[width:]):
                    faults[len(records)] = f"has more cells than the header's {width}"
                cells = (*row[:width], *[None] * (width - len(row)))
                records.append(dict(zip(self.columns, cells, strict=True)))
                numbers.append(number)
                if len(records) == CHUNK:
                    yield RecordChunk(self.name, start, records, numbers, faults=faults)
                    start, records, numbers, faults = start + CHUNK, [], [], {}
        if records:
            yield RecordChunk(self.name, start, records, numbers, faults=faults)

    def _rows(self) -> _Rows:
        return _Rows(self.place)


class _Rows:
    """The rows of the first sheet that hold anything, with their numbers."""

    def __init__(self, place: Place) -> None:
        self._place = place

    def __enter__(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        openpyxl = need("openpyxl", EXTRA)
        try:
            self._file = self._place.open()
        except InvalidRequestError as error:
            problem = error.message
        else:
            problem = ""
        if problem:
            raise refuse(f"{problem}: was it saved there, as .xlsx?")
        try:
            self._book = openpyxl.load_workbook(self._file, read_only=True, data_only=True)
        except Exception as error:  # noqa: BLE001  # a dozen kinds, for a file that is no workbook
            problem = type(error).__name__
        if problem:
            self._file.close()
            raise refuse(f"{self._place.name} is no Excel workbook ({problem}): save it as .xlsx, or as .csv")
        return self._numbered(self._book.worksheets[0])

    def __exit__(self, *_: object) -> None:
        self._book.close()
        self._file.close()

    def _numbered(self, sheet: Any) -> Iterator[tuple[int, tuple[Any, ...]]]:
        for number, row in enumerate(sheet.iter_rows(values_only=True), 1):
            if any(cell is not None for cell in row):
                yield number, row


class WorkbookEncoder(TextEncoder):
    """A workbook of one sheet. Parts are lines of JSON: a workbook cannot be put together from others."""

    def check(self, chunk: Chunk) -> bytes:
        if chunk.start + len(chunk) >= MAX_ROWS:
            raise refuse(f"{self.table.name} has more rows than an Excel sheet ({MAX_ROWS:,}): write .csv or .parquet")
        if len(self.table.columns) + len(self.shape.names) > MAX_COLUMNS:
            raise refuse(f"{self.table.name} has more columns than the {MAX_COLUMNS:,} of an Excel sheet")
        return b"".join(self._own(chunk)) if self.table.measures else self._checked(chunk)

    def _checked(self, chunk: Chunk) -> bytes:
        self._own(chunk)
        return b""

    def piece(self, chunk: Chunk, first: int, last: int, rows: Sequence[Answer]) -> bytes:
        own = self._columns(chunk)
        lines = ([column[place] for column in own] for place in range(first, last))
        return b"".join(
            _line([*cells, *map(_shortened, self.shape.cells(row))]) for cells, row in zip(lines, rows, strict=True)
        )

    def whole(self, parts: Iterable[Place], file: IO[bytes]) -> None:
        openpyxl = need("openpyxl", EXTRA)
        cell_of = need("openpyxl.cell", EXTRA).WriteOnlyCell
        book = openpyxl.Workbook(write_only=True)
        sheet = book.create_sheet("labelled")
        sheet.append([_text(cell_of, sheet, name) for name in (*self.table.columns, *self.shape.names)])
        for place in parts:
            with place.open() as part:
                for line in part:
                    cells = [_read(cell) for cell in json.loads(line)]
                    sheet.append([_text(cell_of, sheet, cell) if isinstance(cell, str) else cell for cell in cells])
        book.save(file)

    def _own(self, chunk: Chunk) -> list[bytes]:
        columns = self._columns(chunk)
        return [_line([column[place] for column in columns]) for place in range(len(chunk))]

    def _columns(self, chunk: Chunk) -> list[Sequence[Any]]:
        return [chunk.made(name, _cells) for name in self.table.columns]


def _cells(values: Sequence[Any]) -> Sequence[Any]:
    """Values as a sheet holds them, dates marked as such."""
    illegal = need("openpyxl.cell.cell", EXTRA).ILLEGAL_CHARACTERS_RE
    dated = [value if type(value) in _DATES else None for value in values]
    plain = cell_column([None if date is not None else value for date, value in zip(dated, values, strict=True)])
    for offset, cell in enumerate(plain):
        if isinstance(cell, str):
            if len(cell) > MAX_TEXT:
                raise UnwritableError(f"has {len(cell):,} characters, and a cell of Excel holds {MAX_TEXT:,}", offset)
            if illegal.search(cell):
                raise UnwritableError("holds a control character, which Excel cannot", offset)
    for offset, date in enumerate(dated):
        if isinstance(date, dt.datetime | dt.time) and date.tzinfo is not None:
            raise UnwritableError("has a time zone, which Excel does not know: convert it", offset)
    return [cell if date is None else _marked(date) for date, cell in zip(dated, plain, strict=True)]


def _marked(date: dt.datetime | dt.date | dt.time) -> dict[str, str]:
    return {type(date).__name__: date.isoformat()}


def _read(cell: Any) -> Any:
    if isinstance(cell, dict):
        ((kind, text),) = cast("dict[str, str]", cell).items()
        return _READ[kind](text)
    return cell


def _shortened(cell: Any) -> Any:
    # Ours alone: a long explanation must not cost the row that was paid for.
    return cell[:MAX_TEXT] if isinstance(cell, str) else cell


def _text(cell_of: Any, sheet: Any, text: str) -> Any:
    cell = cell_of(sheet, value=need("openpyxl.cell.cell", EXTRA).ILLEGAL_CHARACTERS_RE.sub("\ufffd", text))
    cell.data_type = "s"  # also where it begins with "="
    return cell


def _line(cells: Sequence[Any]) -> bytes:
    return to_json([*cells]).encode("utf-8", "backslashreplace") + b"\n"
