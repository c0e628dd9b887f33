"""From what a caller calls the source to the table that is read."""

from __future__ import annotations

import codecs
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast

from classifaily_connectors.errors import refuse
from classifaily_connectors.places import files_at, is_address, place_of
from classifaily_connectors.tables.arrowtables import FrameTable, ParquetTable
from classifaily_connectors.tables.folders import FolderTable
from classifaily_connectors.tables.formats import format_of
from classifaily_connectors.tables.jsonarrays import JsonTable
from classifaily_connectors.tables.pipes import read_once
from classifaily_connectors.tables.records import RecordTable
from classifaily_connectors.tables.textfiles import CsvTable, JsonlTable
from classifaily_connectors.tables.workbooks import WorkbookTable

if TYPE_CHECKING:
    from classifaily_connectors.places import Place
    from classifaily_connectors.tables.chunks import Table


@dataclass(frozen=True)
class Reading:
    """How a file is read where its name and its first line do not say: its format ("csv", "jsonl", ...), and of CSV
    the encoding, the delimiter, and whether quotes are letters like others."""

    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    quoting: str | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """The options of a table that say it.

        Raises InvalidRequestError for an encoding that Python does not know, and a delimiter that is no character.
        """
        encoding, delimiter, quoting = (options.get(name) for name in ("encoding", "delimiter", "quoting"))
        if quoting not in (None, "minimal", "none"):
            raise refuse(f"quoting is {quoting!r}; it must be minimal, or none where a quote is a letter like others")
        if encoding is not None:
            try:
                codecs.lookup(encoding)
            except (LookupError, TypeError):
                encoding = None
            if encoding is None:
                raise refuse(f"encoding is {options['encoding']!r}, which is none: utf-8, cp1252, utf-16, ...")
        if delimiter is not None:
            delimiter = _NAMED.get(delimiter, delimiter)
            if not isinstance(delimiter, str) or len(delimiter) != 1 or delimiter in '"\r\n':
                raise refuse(f"delimiter is {delimiter!r}; it must be one character, such as ; or a tab")
        return cls(options.get("format"), encoding, delimiter, quoting)


_NAMED = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|"}


def open_table(source: Any, reading: Reading | None = None, *, filed: bool = False) -> Table:
    """The table behind a path, URL, folder or pattern, a data frame, or an iterable of mappings; `filed` if it is to
    end in a file.

    Raises InvalidRequestError when it is none of them, or cannot be read.
    """
    if is_address(source):
        place, read = place_of(source), reading or Reading()
        files = files_at(place)
        if files is None:
            return _file(place, read)
        return FolderTable(place.name, files, lambda each: _file(each, read))
    if isinstance(source, AsyncIterable | Mapping | bytes):
        given = type(cast("object", source)).__name__
        raise refuse(f"source is a {given}: pass a path, a data frame, or a list of dicts")
    kind = cast("type[object]", type(source))
    framed = hasattr(kind, "columns") or hasattr(kind, "column_names")
    if isinstance(source, Iterable) and not framed:
        return RecordTable(cast("Iterable[object]", source))
    return FrameTable(source, filed=filed)


def _file(place: Place, reading: Reading) -> Table:
    format = format_of(place.base, "source", given=reading.format)
    place = read_once(place)
    if format.kind == "csv":
        quoted = reading.quoting != "none"
        return CsvTable(place, format, encoding=reading.encoding, delimiter=reading.delimiter, quoted=quoted)
    if reading.encoding or reading.delimiter or reading.quoting:
        raise refuse(f"{place.name}: encoding, delimiter and quoting are for CSV, and this is .{format.suffix}")
    if format.kind == "parquet":
        return ParquetTable(place)
    if format.kind == "xlsx":
        return WorkbookTable(place, format)
    return (JsonTable if format.kind == "json" else JsonlTable)(place, format)
