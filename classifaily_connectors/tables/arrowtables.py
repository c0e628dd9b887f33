"""Parquet files, and data frames of any library narwhals knows.

The law of this file: a column is converted only when somebody asks for it, a slice at a time, and keeps its type.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from classifaily_connectors.errors import InvalidRequestError
from classifaily_connectors.places import Place, need
from classifaily_connectors.tables.chunks import CHUNK, Chunk, Table, missing
from classifaily_connectors.taxonomy import refuse


@dataclass
class BatchChunk(Chunk):
    """A pyarrow RecordBatch."""

    batch: Any

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    @property
    def names(self) -> Sequence[str]:
        return cast("list[str]", self.batch.schema.names)

    def column(self, name: str) -> Sequence[Any]:
        return cast("list[Any]", self.batch.column(name).to_pylist())

    def records(self) -> Sequence[Mapping[str, Any]]:
        return cast("list[dict[str, Any]]", self.batch.to_pylist())

    def arrow(self, schema: Any) -> Any:
        return self.batch if self.batch.schema.equals(schema) else self.batch.cast(schema)


class _Typed(Table):
    def text_problem(self, name: str) -> str | None:
        return type_problem(self.schema().field(name).type)


def type_problem(type: Any) -> str | None:
    """Why values of this pyarrow type are no text."""
    types = need("pyarrow.types")
    if types.is_dictionary(type):
        type = type.value_type
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    return None if any(each(type) for each in texts) else f"holds {type}, not text"


class ParquetTable(_Typed):
    """A Parquet file, streamed by row group."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.name = place.name
        pa = need("pyarrow")
        try:
            with self.place.open() as file:
                parquet = need("pyarrow.parquet").ParquetFile(file)
                self._schema = parquet.schema_arrow.remove_metadata()
                self.length = parquet.metadata.num_rows
        except pa.ArrowInvalid:
            broken = True
        else:
            broken = False
        if broken:
            raise refuse(f"{self.name} is no Parquet file")
        self.columns = tuple(self._schema.names)
        twice = next((name for place, name in enumerate(self.columns) if name in self.columns[:place]), None)
        if twice is not None:
            raise refuse(f"{self.name}: column {twice!r} appears twice: rename one")

    def schema(self) -> Any:
        return self._schema

    def fingerprint(self) -> str | None:
        return self.place.version()

    def chunks(self) -> Iterator[Chunk]:
        start = 0
        with self.place.open() as file:
            parquet = need("pyarrow.parquet").ParquetFile(file)
            for group in range(parquet.num_row_groups):
                for batch in parquet.iter_batches(batch_size=CHUNK, row_groups=[group]):
                    if batch.num_rows:
                        yield BatchChunk(start, batch.replace_schema_metadata(None))
                        start += batch.num_rows


@dataclass
class FrameChunk(Chunk):
    """A slice of a data frame, still in its own library."""

    part: Any

    def __len__(self) -> int:
        return len(self.part)

    @property
    def names(self) -> Sequence[str]:
        return cast("list[str]", self.part.columns)

    def column(self, name: str) -> Sequence[Any]:
        series = self.part.get_column(name)
        pa = need("pyarrow")
        try:
            return cast("list[Any]", series.to_arrow().to_pylist())
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # an object column of mixed kinds
            return [None if missing(value) else value for value in series.to_list()]

    def records(self) -> Sequence[Mapping[str, Any]]:
        columns = {name: self.column(name) for name in self.part.columns}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    def arrow(self, schema: Any) -> Any:
        pa = need("pyarrow")
        arrays = [_chunkless(self.part.get_column(each.name).to_arrow(), each.type) for each in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _chunkless(array: Any, type: Any) -> Any:
    pa = need("pyarrow")
    whole = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    return whole if whole.type == type else whole.cast(type)


class FrameTable(_Typed):
    """An eager data frame: pandas, polars, pyarrow and whatever else narwhals wraps."""

    def __init__(self, native: Any) -> None:
        nw = need("narwhals")
        need("pyarrow")
        frame = nw.from_native(native, pass_through=True)
        if isinstance(frame, nw.LazyFrame):
            raise refuse("source is a lazy frame: collect() it first, or write it to Parquet and pass the path")
        if not isinstance(frame, nw.DataFrame):
            raise refuse(f"source is a {type(native).__name__}: pass a path, a data frame, or a list of dicts")
        self.frame: Any = frame
        self.name = type(native).__name__
        strange = next((each for each in self.frame.columns if not isinstance(each, str)), None)
        if strange is not None:
            raise refuse(f"{self.name}: column {strange!r} is no text: rename it")
        self.columns = tuple(self.frame.columns)
        self.length = len(self.frame)
        self._digest = hashlib.blake2b(digest_size=16)
        self._schema: Any = None

    def schema(self) -> Any:
        if self._schema is None:
            pa = need("pyarrow")
            if self.frame.implementation.is_pandas():
                # An object column has no type of its own: only its values tell, and an empty slice has none.
                found = pa.schema([(name, self._object_type(name)) for name in self.columns])
            else:
                found = self.frame[:0].to_arrow().schema
            nothing = pa.null()
            named = [found.field(name) for name in self.columns]
            self._schema = pa.schema([each.with_type(pa.string()) if each.type == nothing else each for each in named])
        return self._schema

    def _object_type(self, name: str) -> Any:
        pa = need("pyarrow")
        try:
            return pa.Schema.from_pandas(self.frame.to_native()[[name]], preserve_index=False).field(name).type
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            pass
        raise refuse(f"{self.name}: column {name!r} mixes kinds of values: a file needs one type, so cast it")

    def text_problem(self, name: str) -> str | None:
        try:
            return super().text_problem(name)
        except InvalidRequestError:
            return None  # a column of mixed kinds: its values will tell

    def measure(self, chunk: Chunk, *, types: bool) -> None:
        self._digest.update(chunk.arrow(self.schema()).serialize())

    def fingerprint(self) -> str | None:
        return self._digest.hexdigest()

    def chunks(self) -> Iterator[Chunk]:
        for start in range(0, len(self.frame), CHUNK):
            yield FrameChunk(start, self.frame[start : start + CHUNK])
