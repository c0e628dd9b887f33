"""Parquet files, and data frames of any library narwhals knows.

The law of this file: a column is converted only when somebody asks for it, a slice at a time, and keeps its type.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

from classifaily_connectors.errors import refuse
from classifaily_connectors.places import Place, need
from classifaily_connectors.tables.arrowvalues import array_of, values_of
from classifaily_connectors.tables.chunks import CHUNK, Chunk, Table
from classifaily_connectors.tables.values import UnwritableError, missing

_NANOSECONDS_END = 2**63 // 1000
"""The microseconds on either side of 1970 that Arrow's nanoseconds can count."""


@dataclass
class BatchChunk(Chunk):
    """A pyarrow RecordBatch."""

    batch: Any

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    @property
    def names(self) -> Sequence[str]:
        return cast("list[str]", self.batch.schema.names)

    def given(self, name: str) -> Sequence[Any]:
        return values_of(self.batch.column(name))

    def column(self, name: str) -> Sequence[Any]:
        return cast("Sequence[Any]", self.made(name, _as_given))

    def arrow(self, schema: Any) -> Any:
        return self.batch if self.batch.schema.equals(schema) else self.batch.cast(schema)


def _as_given(values: Sequence[Any]) -> Sequence[Any]:
    return values


def type_problem(type: Any) -> str | None:
    """Why values of this pyarrow type are no text."""
    types = need("pyarrow.types")
    if types.is_dictionary(type):
        type = type.value_type
    texts = (types.is_string, types.is_large_string, types.is_string_view, types.is_null)
    return None if any(each(type) for each in texts) else f"holds {type}, not text"


class ParquetTable(Table):
    """A Parquet file, streamed by row group; what is noted beside its columns (geo, pandas) goes along."""

    def __init__(self, place: Place) -> None:
        need("pyarrow")
        self.place = place
        self.name = place.name
        self._unit: str | None = None
        with self._parquet() as parquet:
            self._schema = parquet.schema_arrow
            self.length = parquet.metadata.num_rows
            old = [each.path for each in parquet.schema if each.physical_type == "INT96"]
        if old:
            self._unit = self._unit_of(old)
            with self._parquet() as parquet:
                self._schema = parquet.schema_arrow
        self.columns = tuple(self._schema.names)
        twice = next((name for place, name in enumerate(self.columns) if name in self.columns[:place]), None)
        if twice is not None:
            raise refuse(f"{self.name}: column {twice!r} appears twice: rename one")

    def schema(self) -> Any:
        return self._schema

    def fingerprint(self) -> str | None:
        return self.place.version()

    def text_problem(self, name: str) -> str | None:
        return type_problem(self._schema.field(name).type)

    def chunks(self) -> Iterator[Chunk]:
        start = 0
        with self._parquet() as parquet:
            for batch in self._batches(parquet):
                yield BatchChunk(self.name, start, batch.replace_schema_metadata(None))
                start += batch.num_rows

    def _batches(self, parquet: Any, columns: Sequence[str] | None = None) -> Iterator[Any]:
        for group in range(parquet.num_row_groups):
            batches = parquet.iter_batches(batch_size=CHUNK, row_groups=[group], columns=columns)
            while True:
                try:
                    batch = next(batches, None)
                except Exception as error:  # noqa: BLE001  # a spoilt page: OSError, ArrowInvalid, UnicodeDecodeError, …
                    problem = type(error).__name__
                else:
                    if batch is None:
                        break
                    if batch.num_rows:
                        yield batch
                    continue
                raise refuse(f"{self.name}, row group {group + 1} cannot be read ({problem}): is the file complete?")

    @contextlib.contextmanager
    def _parquet(self) -> Generator[Any]:
        with self.place.open() as file:
            try:
                parquet = need("pyarrow.parquet").ParquetFile(file, coerce_int96_timestamp_unit=self._unit)
            except ImportError:
                raise
            except Exception:  # noqa: BLE001  # pyarrow has several errors for bytes that are no Parquet
                parquet = None
            if parquet is None:
                raise refuse(f"{self.name} is no Parquet file: is it complete?")
            yield parquet

    def _unit_of(self, old: Sequence[str]) -> str:
        """The unit that keeps dates in the oldest of Parquet's forms (INT96) as they are.

        They hold nanoseconds and any year; Arrow's nanoseconds end in 2262, and beyond they silently start anew.
        """
        pc = need("pyarrow.compute")
        self._unit = "us"
        far, fine = "", ""
        with self._parquet() as rough:
            self._unit = None
            with self._parquet() as exact:
                batches = zip(self._batches(rough, old), self._batches(exact, old), strict=True)
                for name, one, other in ((name, a[name], b[name]) for a, b in batches for name in a.schema.names):
                    if not need("pyarrow").types.is_timestamp(other.type):
                        continue  # within something nested
                    rest = pc.subtract(other.cast("int64"), pc.multiply(one.cast("int64"), 1000))
                    within = pc.less(pc.abs(one.cast("int64")), _NANOSECONDS_END)
                    far = far or (name if pc.any(pc.invert(within)).as_py() else "")
                    fine = fine or (name if pc.any(pc.and_(within, pc.greater(rest, 0))).as_py() else "")
        if far and fine:
            raise refuse(
                f"{self.name}: column {far!r} has dates beyond 2262 and column {fine!r} has nanoseconds, both as "
                "INT96: no type holds both, so write them anew as int64 timestamps"
            )
        return "us" if far else "ns"


@dataclass
class FrameChunk(Chunk):
    """A slice of a data frame, still in its own library."""

    part: Any

    def __len__(self) -> int:
        return len(self.part)

    @property
    def names(self) -> Sequence[str]:
        return cast("list[str]", self.part.columns)

    def given(self, name: str) -> Sequence[Any]:
        series = self.part.get_column(name)
        array = None if _is_object(series) else _arrow(series)
        # Without a type in Arrow, or with one that only its own library knows, the values are what they are there.
        if array is None or _is_foreign(array.type):
            return [None if missing(value) else value for value in series.to_list()]
        return values_of(array)

    def column(self, name: str) -> Sequence[Any]:
        return cast("Sequence[Any]", self.made(name, _as_given))

    def arrow(self, schema: Any) -> Any:
        pa = need("pyarrow")
        arrays = [self._array(each.name, each.type) for each in schema]
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _array(self, name: str, type: Any) -> Any:
        series = self.part.get_column(name)
        if _is_object(series):
            return self.made(name, lambda values: array_of(values, type))
        array = _arrow(series)
        if array is not None and array.type != type:
            try:
                array = array.cast(type)
            except Exception:  # noqa: BLE001  # pyarrow has several errors for it
                array = None
        if array is None:
            raise self.refusal(name, f"does not fit the column's type {type}: cast it")
        return array


def _is_object(series: Any) -> bool:
    return bool(series.dtype == need("narwhals").Object)


def _arrow(series: Any) -> Any:
    """The series as a pyarrow array; None where its library cannot make one."""
    pa = need("pyarrow")
    try:
        array = series.to_arrow()
    except Exception:  # noqa: BLE001  # the library's own error for what Arrow has no type for
        return None
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _is_foreign(type: Any) -> bool:
    pa = need("pyarrow")
    if pa.types.is_dictionary(type):
        type = type.value_type
    return isinstance(type, pa.BaseExtensionType) and type.extension_name.startswith("pandas.")


class FrameTable(Table):
    """An eager data frame: pandas, polars, pyarrow and whatever else narwhals wraps."""

    measures = True

    def __init__(self, native: Any, *, filed: bool = False) -> None:
        nw = need("narwhals")
        need("pyarrow")
        self.name = type(native).__name__
        frame = _wrapped(nw, native)
        if isinstance(frame, nw.LazyFrame):
            raise refuse("source is a lazy frame: collect() it first, or write it to Parquet and pass the path")
        if not isinstance(frame, nw.DataFrame):
            raise refuse(f"source is a {type(native).__name__}: pass a path, a data frame, or a list of dicts")
        self.frame: Any = frame
        if filed and frame.implementation.is_pandas():
            self.frame = nw.from_native(_with_index(native))
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
            native = self.frame.to_native()
            own = native.schema if isinstance(native, pa.Table) else None
            fields = [pa.field(name, self._type(name)) for name in self.columns]
            if own is not None:  # with the notes beside each column
                fields = [own.field(each.name).with_type(each.type) for each in fields]
            self._schema = pa.schema(fields, metadata=None if own is None else own.metadata)
        return self._schema

    def _type(self, name: str) -> Any:
        pa = need("pyarrow")
        series = self.frame.get_column(name)
        problem: str | None = f"is a {series.dtype}, which Arrow has no type for: cast or drop it"
        found: Any = None
        if _is_object(series):
            # It has no type of its own: only its values tell, and an empty slice has none.
            try:
                found = array_of([None if missing(value) else value for value in series.to_list()]).type
            except UnwritableError as error:
                problem = error.problem if error.offset is None else f"row {error.offset} {error.problem}"
        elif (array := _arrow(series[:0])) is not None:
            found = array.type
        if found is None:
            raise refuse(f"{self.name}: column {name!r} {problem}")
        return pa.string() if found == pa.null() else found

    def text_problem(self, name: str) -> str | None:
        # A column of mixed kinds: its values will tell.
        series = self.frame.get_column(name)
        return None if _is_object(series) else type_problem(self._type(name))

    def measure(self, written: bytes) -> None:
        self._digest.update(written)

    def fingerprint(self) -> str | None:
        return self._digest.hexdigest()

    def chunks(self) -> Iterator[Chunk]:
        for start in range(0, len(self.frame), CHUNK):
            yield FrameChunk(self.name, start, self.frame[start : start + CHUNK])


def _wrapped(nw: Any, native: Any) -> Any:
    twice: Any = None
    try:
        return nw.from_native(native, pass_through=True)
    except Exception as error:  # noqa: BLE001  # narwhals' and the library's own
        problem = type(error).__name__
        names = list(getattr(native, "columns", ()))
        twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise refuse(f"{type(native).__name__}: column {twice!r} appears twice: rename one")
    raise refuse(f"{type(native).__name__} cannot be read as a table ({problem}): pass a plain data frame")


def _with_index(native: Any) -> Any:
    """The frame with the named levels of its index as columns, as pandas itself writes them."""
    named = [name for name in native.index.names if name is not None]
    taken = next((name for name in named if name in native.columns), None)
    if taken is not None:
        raise refuse(f"{type(native).__name__}: index and column are both called {taken!r}: reset_index(drop=True)")
    return native.reset_index(level=named) if named else native
