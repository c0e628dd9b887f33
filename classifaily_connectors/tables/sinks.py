"""Where labelled rows go: a file, a data frame of the input's own library, or a list of dicts.

The law of this file: rows arrive in the table's order, and a file is complete or not there. A file grows in parts
that a later run takes over; only when the last row has landed are they made into one.
"""

from __future__ import annotations

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import IO, TYPE_CHECKING, Any

from classifaily_connectors.errors import StorageError
from classifaily_connectors.places import need
from classifaily_connectors.tables.chunks import RecordChunk
from classifaily_connectors.tables.parts import Part, Parts, tally

if TYPE_CHECKING:
    from classifaily_connectors.places import Place
    from classifaily_connectors.tables.arrowtables import FrameTable
    from classifaily_connectors.tables.chunks import Chunk
    from classifaily_connectors.tables.encoders import Encoder
    from classifaily_connectors.tables.formats import Format
    from classifaily_connectors.tables.shape import Answer, Shape

_PART_ROWS = 25_000
_PART_BYTES = 1 << 23
_PART_SECONDS = 10.0
"""What is held at once before a part is written: it adds to the memory of every run."""
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
            own = ours.to_pandas(types_mapper=_text_of_pandas())
            return frame.to_native().assign(**{name: own[name].array for name in own.columns})
        added = nw.from_arrow(ours, backend=frame.implementation)
        return nw.concat([frame, added], how="horizontal").to_native()


def _text_of_pandas() -> Any:
    """How pandas is to hold text: before version 3, a column of nulls is of no type unless it is told."""
    pandas, text = need("pandas"), need("pyarrow").string()
    return {text: pandas.StringDtype()}.get if int(pandas.__version__.partition(".")[0]) < 3 else None  # noqa: PLR2004


class RecordSink(Sink):
    """A list of dicts."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._rows: list[dict[str, Any]] = []

    def write(self, chunk: Chunk, first: int, last: int, rows: Sequence[Answer]) -> None:
        assert isinstance(chunk, RecordChunk)  # noqa: S101
        for record, row in zip(chunk.rows[first:last], rows, strict=True):
            self._rows.append({**record, **dict(zip(self.shape.names, self.shape.values(row), strict=True))})

    def finish(self) -> list[dict[str, Any]]:
        return self._rows
