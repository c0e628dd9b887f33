"""Where labelled rows go: a file, a data frame of the input's own library, or a list of dicts.

The law of this file: rows arrive in the table's order, and a file is complete or not there. A file grows in parts
that a later run takes over; only when the last row has landed are they made into one.
"""

from __future__ import annotations

import base64
import csv
import datetime as dt
import json
import logging
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from classifaily_connectors.errors import StorageError
from classifaily_connectors.places import need
from classifaily_connectors.tables.parts import Part, Parts, tally
from classifaily_connectors.tables.textfiles import CsvChunk, CsvTable

if TYPE_CHECKING:
    from classifaily_connectors.places import Place
    from classifaily_connectors.tables.arrowtables import FrameTable
    from classifaily_connectors.tables.chunks import Chunk, Table
    from classifaily_connectors.tables.formats import Format
    from classifaily_connectors.tables.shape import Answer, Shape

_PART_ROWS = 25_000
_PART_BYTES = 1 << 23
_PART_SECONDS = 10.0
_GROUP_BYTES = 1 << 22
"""What is held at once, before a part and before a row group is written: it adds to the memory of every run."""
logger = logging.getLogger("classifaily_connectors")
Write = Callable[[IO[bytes]], None]


class Sink(ABC):
    """Takes rows `first` up to `last` of a chunk, with what came of them."""

    @abstractmethod
    def write(self, chunk: Chunk, first: int, last: int, rows: Sequence[Answer]) -> None:
        """Land these rows."""

    def keep(self) -> None:  # noqa: B027  # memory keeps nothing
        """The run ends early: keep what has landed."""

    @abstractmethod
    def finish(self) -> Any:
        """All rows have landed; what the caller gets for it."""


# --- files ------------------------------------------------------------------------------------


class Encoder(ABC):
    """A file format: rows into pieces, pieces into a part, parts into the output."""

    def __init__(self, table: Table, shape: Shape) -> None:
        self.table, self.shape = table, shape

    @abstractmethod
    def piece(self, chunk: Chunk, first: int, last: int, rows: Sequence[Answer]) -> Any:
        """The encoded rows."""

    @abstractmethod
    def size(self, piece: Any) -> int:
        """Its size in bytes."""

    @abstractmethod
    def part(self, pieces: Sequence[Any], file: IO[bytes]) -> None:
        """Write the pieces as a part."""

    @abstractmethod
    def whole(self, parts: Iterable[Place], file: IO[bytes]) -> None:
        """Write the output from its parts."""


class TextEncoder(Encoder):
    """Formats whose parts need only be put one after the other."""

    def size(self, piece: bytes) -> int:
        return len(piece)

    def part(self, pieces: Sequence[bytes], file: IO[bytes]) -> None:
        file.writelines(pieces)

    def whole(self, parts: Iterable[Place], file: IO[bytes]) -> None:
        file.write(self.head())
        for place in parts:
            with place.open() as part:
                shutil.copyfileobj(part, file, 1 << 20)

    def head(self) -> bytes:
        """What stands before the first row."""
        return b""


class CsvEncoder(TextEncoder):
    """CSV with the input's own delimiter; null is an empty cell, anything nested is JSON."""

    def __init__(self, table: Table, shape: Shape, delimiter: str) -> None:
        super().__init__(table, shape)
        self.delimiter = delimiter

    def head(self) -> bytes:
        return self._lines([[*self.table.columns, *self.shape.names]])

    def piece(self, chunk: Chunk, first: int, last: int, rows: Sequence[Answer]) -> bytes:
        own: Iterable[list[Any]]
        if isinstance(chunk, CsvChunk):
            own = chunk.rows[first:last]
        else:
            columns = self.table.columns
            own = ([_cell(record.get(name)) for name in columns] for record in chunk.records()[first:last])
        return self._lines([*cells, *self.shape.cells(row)] for cells, row in zip(own, rows, strict=True))

    def _lines(self, lines: Iterable[Sequence[Any]]) -> bytes:
        text = _Lines()
        csv.writer(text, delimiter=self.delimiter, lineterminator="\r\n").writerows(lines)
        return "".join(text).encode("utf-8", "backslashreplace")


class _Lines(list[str]):
    """What a CSV writer writes to. It quotes only the line ends that it was given: given "\\r\\n" it quotes both
    characters, of which we keep one for our own lines."""

    def write(self, line: str) -> None:
        self.append(line[:-2] + "\n")


class JsonlEncoder(TextEncoder):
    """One JSON object a line."""

    def piece(self, chunk: Chunk, first: int, last: int, rows: Sequence[Answer]) -> bytes:
        records = chunk.records()[first:last]
        pairs, names = zip(records, rows, strict=True), self.shape.names
        lines = (_json({**record, **dict(zip(names, self.shape.values(row), strict=True))}) for record, row in pairs)
        return b"".join(lines)


class ParquetEncoder(Encoder):
    """Parquet; the input's columns keep their types. Parts are Arrow streams, which cost nothing to read again."""

    def __init__(self, table: Table, shape: Shape) -> None:
        super().__init__(table, shape)
        pa = need("pyarrow")
        self._own = table.schema()
        self._schema = pa.schema([*self._own, *shape.fields()])

    def piece(self, chunk: Chunk, first: int, last: int, rows: Sequence[Answer]) -> Any:
        own = chunk.arrow(self._own).slice(first, last - first)
        return need("pyarrow").RecordBatch.from_arrays([*own.columns, *self.shape.arrays(rows)], schema=self._schema)

    def size(self, piece: Any) -> int:
        return int(piece.nbytes)

    def part(self, pieces: Sequence[Any], file: IO[bytes]) -> None:
        with need("pyarrow.ipc").new_stream(file, self._schema) as stream:
            for piece in pieces:
                stream.write_batch(piece)

    def whole(self, parts: Iterable[Place], file: IO[bytes]) -> None:
        with need("pyarrow.parquet").ParquetWriter(file, self._schema) as writer:
            for table in self._groups(parts):
                writer.write_table(table)
                need("pyarrow").default_memory_pool().release_unused()

    def _groups(self, parts: Iterable[Place]) -> Iterator[Any]:
        pa = need("pyarrow")
        waiting: list[Any] = []
        size = 0
        for place in parts:
            with place.open() as part, need("pyarrow.ipc").open_stream(part) as pieces:
                for piece in pieces:
                    waiting.append(piece)
                    size += piece.nbytes
                    if size >= _GROUP_BYTES:
                        yield pa.Table.from_batches(waiting)
                        waiting, size = [], 0
        if waiting:
            yield pa.Table.from_batches(waiting)


def encoder(table: Table, output: Format, shape: Shape) -> Encoder:
    """The encoder for an output format."""
    if output.kind == "parquet":
        return ParquetEncoder(table, shape)
    if output.kind == "jsonl":
        return JsonlEncoder(table, shape)
    alike = isinstance(table, CsvTable) and table.format.suffix == output.suffix
    delimiter = table.delimiter if alike and isinstance(table, CsvTable) else "\t" if output.suffix == "tsv" else ","
    return CsvEncoder(table, shape, delimiter)


class FileSink(Sink):
    """An output file and its parts."""

    def __init__(self, output: Place, format: Format, encoder: Encoder, parts: Parts) -> None:
        self.output, self.format, self.encoder, self.parts = output, format, encoder, parts
        self._pieces: list[Any] = []
        self._bytes = 0
        self._begun = 0.0
        self._start = self._stop = 0
        self._count = tally(0, 0)

    def write(self, chunk: Chunk, first: int, last: int, rows: Sequence[Answer]) -> None:
        start, stop = chunk.start + first, chunk.start + last
        if self._pieces and start != self._stop:  # a part of an earlier run lies between
            self.keep()
        if not self._pieces:
            self._start, self._begun, self._bytes = start, time.monotonic(), 0
            self._count = tally(start, start)
        piece = self.encoder.piece(chunk, first, last, rows)
        self._pieces.append(piece)
        self._bytes += self.encoder.size(piece)
        self._stop = stop
        _count(self._count, self.encoder.shape, rows)
        full = stop - self._start >= _PART_ROWS or self._bytes >= _PART_BYTES
        if full or time.monotonic() - self._begun >= _PART_SECONDS:
            self.keep()

    def keep(self) -> None:
        if self._pieces:
            count, pieces = self._count, self._pieces
            part = Part(self._start, self._stop, count.statuses, count.labels, count.routes)
            self._pieces = []
            self.parts.add(part, lambda file: self.encoder.part(pieces, file))

    def finish(self) -> None:
        self.keep()
        try:
            self.output.write(self._whole)
        except StorageError as error:
            raise StorageError(
                f"{error.message}. All answers are kept in {self.parts.folder.name}: run the same again, and nothing "
                "is paid for",
                place=error.place,
            ) from None
        try:
            self.parts.remove()
        except StorageError as error:  # the output is whole
            logger.warning("%s", error)

    def _whole(self, file: IO[bytes]) -> None:
        with self.format.writing(file) as plain:
            self.encoder.whole(self.parts.files(), plain)


def _count(part: Part, shape: Shape, rows: Sequence[Answer]) -> None:
    for answer in rows:
        for row in answer:
            part.statuses[row.status] += 1
            part.routes[row.route] = part.routes.get(row.route, 0) + 1
        for label in shape.labels(answer):
            part.labels[label] = part.labels.get(label, 0) + 1


# --- memory -----------------------------------------------------------------------------------


class FrameSink(Sink):
    """A frame like the input's, with our columns."""

    def __init__(self, table: FrameTable, shape: Shape) -> None:
        self.table, self.shape, self._fields = table, shape, shape.fields()
        self._batches: list[Any] = []

    def write(self, chunk: Chunk, first: int, last: int, rows: Sequence[Answer]) -> None:
        pa = need("pyarrow")
        self._batches.append(pa.RecordBatch.from_arrays(self.shape.arrays(rows), schema=pa.schema(self._fields)))

    def finish(self) -> Any:
        pa, nw = need("pyarrow"), need("narwhals")
        ours = pa.Table.from_batches(self._batches, pa.schema(self._fields))
        frame = self.table.frame
        if frame.implementation.is_pandas():
            # By position: pandas would align by an index, and the input's may hold anything.
            own = ours.to_pandas()
            return frame.to_native().assign(**{name: own[name].array for name in own.columns})
        added = nw.from_arrow(ours, backend=frame.implementation)
        return nw.concat([frame, added], how="horizontal").to_native()


class RecordSink(Sink):
    """A list of dicts."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._rows: list[dict[str, Any]] = []

    def write(self, chunk: Chunk, first: int, last: int, rows: Sequence[Answer]) -> None:
        for record, row in zip(chunk.records()[first:last], rows, strict=True):
            self._rows.append({**record, **dict(zip(self.shape.names, self.shape.values(row), strict=True))})

    def finish(self) -> list[dict[str, Any]]:
        return self._rows


# --- values -----------------------------------------------------------------------------------


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    return _plain(value) if isinstance(value, bytes | dt.date | dt.time) else value


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value.isoformat() if hasattr(value, "isoformat") else value)


def _json(row: dict[str, Any]) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=False, default=_plain).encode() + b"\n"
    except UnicodeEncodeError:  # half a surrogate pair: only the escaped form can carry it
        return json.dumps(row, default=_plain).encode() + b"\n"
