"""A labelled table as the bytes of a file, format by format.

The law of this file: what is written when rows have been paid is what `check` wrote before, into nothing. So a value,
type or name that a format cannot hold is found, by row and column, before anything is paid.
"""

from __future__ import annotations

import csv
import io
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import IO, TYPE_CHECKING, Any

from classifaily_connectors.errors import refuse
from classifaily_connectors.media import HALF_A_PAIR, is_unicode
from classifaily_connectors.places import need
from classifaily_connectors.tables.chunks import RecordChunk
from classifaily_connectors.tables.textfiles import CsvChunk, CsvTable
from classifaily_connectors.tables.values import cell_column, to_json

if TYPE_CHECKING:
    from classifaily_connectors.places import Place
    from classifaily_connectors.tables.chunks import Chunk, Table
    from classifaily_connectors.tables.formats import Format
    from classifaily_connectors.tables.shape import Answer, Shape

_GROUP_BYTES = 1 << 22
"""What is held at once before a row group is written: it adds to the memory of every run."""


class Encoder(ABC):
    """A file format: rows into pieces, pieces into a part, parts into the output."""

    fixed = True
    """Whether the columns have to be known before the first row."""
    typed = False
    """Whether their types have to be, too."""

    def __init__(self, table: Table, shape: Shape) -> None:
        self.table, self.shape = table, shape

    def check_names(self, names: Sequence[str]) -> None:
        """Raise InvalidRequestError for a column whose name no file can hold."""
        strange = next((name for name in names if not is_unicode(name)), None)
        if strange is not None:
            raise refuse(f"{self.table.name}: the name of column {strange!r} {HALF_A_PAIR}")

    @abstractmethod
    def check(self, chunk: Chunk) -> bytes:
        """The chunk's own columns as they will be written; nothing where they are written as they were read.

        Raises InvalidRequestError naming row and column for what the format cannot hold.
        """

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

    def check(self, chunk: Chunk) -> bytes:
        return b"" if isinstance(chunk, CsvChunk) else self._lines(self._own(chunk))

    def piece(self, chunk: Chunk, first: int, last: int, rows: Sequence[Answer]) -> bytes:
        own = self._own(chunk)[first:last]
        return self._lines([*cells, *self.shape.cells(row)] for cells, row in zip(own, rows, strict=True))

    def _own(self, chunk: Chunk) -> Sequence[Sequence[Any]]:
        if isinstance(chunk, CsvChunk):
            return chunk.rows
        columns = [chunk.made(name, cell_column) for name in self.table.columns]
        return list(zip(*columns, strict=True)) if columns else [()] * len(chunk)

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
    """One JSON object a line; a line that was JSON before stays as it was, with our columns behind its own."""

    fixed = False

    def check(self, chunk: Chunk) -> bytes:
        if isinstance(chunk, CsvChunk) or (isinstance(chunk, RecordChunk) and chunk.raw and None not in chunk.raw):
            return b""
        return b"".join(_line(to_json(record)) for record in chunk.plain())

    def piece(self, chunk: Chunk, first: int, last: int, rows: Sequence[Answer]) -> bytes:
        names = self.shape.names
        ours = [dict(zip(names, self.shape.values(row), strict=True)) for row in rows]
        raw = chunk.raw[first:last] if isinstance(chunk, RecordChunk) and chunk.raw else [None] * len(ours)
        plain = chunk.plain()[first:last] if None in raw else [None] * len(ours)
        return b"".join(
            _line(to_json({**(record or {}), **added})) if line is None else _joined(line, added)
            for line, record, added in zip(raw, plain, ours, strict=True)
        )


class JsonEncoder(JsonlEncoder):
    """An array of objects: parts are lines, and the whole puts brackets round them."""

    def whole(self, parts: Iterable[Place], file: IO[bytes]) -> None:
        file.write(b"[")
        before = b"\n"
        for place in parts:
            with place.open() as part:
                for line in part:
                    file.write(before + line.rstrip(b"\n"))
                    before = b",\n"
        file.write(b"\n]\n")


def _line(text: str) -> bytes:
    # Half a surrogate pair can only be carried escaped, and the escape is JSON's own.
    return text.encode("utf-8", "backslashreplace") + b"\n"


def _joined(line: bytes, added: dict[str, Any]) -> bytes:
    own = line.rstrip()[:-1].rstrip()
    return own + (b"" if own == b"{" else b", ") + _line(to_json(added))[1:]


class ParquetEncoder(Encoder):
    """Parquet; the input's columns keep their types. Parts are Arrow streams, which cost nothing to read again."""

    typed = True

    @cached_property
    def _own(self) -> Any:
        """The schema of the input's columns: that of the first time through, once that has ended."""
        return self.table.schema()

    @cached_property
    def _schema(self) -> Any:
        pa = need("pyarrow")
        return pa.schema([*self._own, *self.shape.fields()], metadata=self._own.metadata)

    def check(self, chunk: Chunk) -> bytes:
        batch = chunk.arrow(self.table.schema())
        if not _writable(batch):
            for name in batch.schema.names:
                column = batch.select([name])
                if not _writable(column):
                    type = column.schema.field(0).type
                    if not _writable(column.slice(0, 0)):
                        raise chunk.refusal(name, f"is of type {type}, which Parquet cannot hold: cast or drop it")
                    alone = (offset for offset in range(len(chunk)) if not _writable(column.slice(offset, 1)))
                    raise chunk.refusal(name, f"cannot be written as {type} in Parquet: cast it", next(alone, None))
        return bytes(batch.serialize()) if self.table.measures else b""

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


class _Nowhere(io.RawIOBase):
    """A file that keeps nothing."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        return len(data)


def _writable(batch: Any) -> bool:
    try:
        with need("pyarrow.parquet").ParquetWriter(_Nowhere(), batch.schema) as writer:
            writer.write_batch(batch)
    except Exception:  # noqa: BLE001  # pyarrow has a dozen errors for it; the caller names the column
        return False
    return True


def encoder(table: Table, output: Format, shape: Shape) -> Encoder:
    """The encoder for an output format."""
    if output.kind == "parquet":
        return ParquetEncoder(table, shape)
    if output.kind == "jsonl":
        return JsonlEncoder(table, shape)
    if output.kind == "json":
        return JsonEncoder(table, shape)
    if output.kind == "xlsx":
        from classifaily_connectors.tables.workbooks import WorkbookEncoder  # openpyxl's, and hardly ever needed

        return WorkbookEncoder(table, shape)
    alike = isinstance(table, CsvTable) and table.format.suffix == output.suffix
    delimiter = table.delimiter if alike and isinstance(table, CsvTable) else "\t" if output.suffix == "tsv" else ","
    return CsvEncoder(table, shape, delimiter)
