"""A table as the rest of the package sees it: columns, and rows in chunks.

The law of this file: a table is gone through from its beginning any number of times (or once, if `once`), always in
the same order and with the same chunks, and it never holds more than the chunk it gives.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from classifaily_connectors.places import need
from classifaily_connectors.taxonomy import refuse

CHUNK = 512
"""Rows in a chunk: enough to make a column cheap, few enough to hold images."""
_PLAIN = {str, int, bool, type(None)}


@dataclass
class Chunk(ABC):
    """Some rows in a line; `start` counts from 0. `faults` are rows that are no rows of this table, by offset."""

    start: int
    faults: Mapping[int, str] = field(default_factory=dict[int, str], kw_only=True)

    @abstractmethod
    def __len__(self) -> int: ...

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """The columns it can give."""

    @abstractmethod
    def column(self, name: str) -> Sequence[Any]:
        """The values of a column; None where there is none."""

    @abstractmethod
    def records(self) -> Sequence[Mapping[str, Any]]:
        """The rows as mappings."""

    @abstractmethod
    def arrow(self, schema: Any) -> Any:
        """The rows as a pyarrow RecordBatch of this schema."""

    def where(self, offset: int) -> str:
        """How a reader finds the row: by its line, or by its number counted from 0."""
        return f"row {self.start + offset}"


def missing(value: Any) -> bool:
    """Whether a value is a library's way of saying that there is none: None, NaN, NA or NaT."""
    return (
        value is None
        or (isinstance(value, float) and math.isnan(value))
        or type(value).__name__ in ("NAType", "NaTType")
    )


class Table(ABC):
    """Where rows come from; `name` is what errors call it."""

    name: str
    columns: tuple[str, ...] = ()
    once = False
    """Whether it can be gone through only once."""
    length: int | None = None
    """The number of rows, where it is known beforehand."""

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """All rows, from the first on."""

    def learn(self, chunk: Chunk) -> None:  # noqa: B027  # most tables know them beforehand
        """Take the columns from a first look at `chunk`."""

    def measure(self, chunk: Chunk, *, types: bool) -> None:  # noqa: B027  # most tables know it beforehand
        """Take from a first look at `chunk`, which has been checked, what a file needs: `types`, the fingerprint."""

    @abstractmethod
    def schema(self) -> Any:
        """The pyarrow schema of the columns, once learnt."""

    def fingerprint(self) -> str | None:
        """What tells this content from another, once learnt; None when nothing does."""
        return None

    def text_problem(self, name: str) -> str | None:
        """Why the column's type rules out text, where the type is known."""
        return None


@dataclass
class RecordChunk(Chunk):
    """Rows that are mappings."""

    rows: Sequence[Mapping[str, Any]]
    lines: Sequence[int] | None = None
    name: str = ""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> Sequence[str]:
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    def column(self, name: str) -> Sequence[Any]:
        values = [row.get(name) for row in self.rows]
        # pandas writes a missing text as the number NaN, which is no input and no "nan" either.
        plain = set(map(type, values)) <= _PLAIN
        return values if plain else [None if missing(value) else value for value in values]

    def records(self) -> Sequence[Mapping[str, Any]]:
        return self.rows

    def arrow(self, schema: Any) -> Any:
        pa = need("pyarrow")
        columns = [_array(pa, self, each.name, each.type) for each in schema]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def where(self, offset: int) -> str:
        return super().where(offset) if self.lines is None else f"line {self.lines[offset]}"


class Types:
    """The types of columns that no schema declares, learnt from the values; a column of nulls becomes text."""

    def __init__(self) -> None:
        self._found: Any = None

    def learn(self, chunk: RecordChunk, columns: Sequence[str]) -> None:
        """Widen the types so that `chunk` fits; raises InvalidRequestError for a column of mixed kinds."""
        pa = need("pyarrow")
        fields = [pa.field(name, _array(pa, chunk, name, None).type) for name in columns]
        schema = pa.schema(fields)
        try:
            self._found = schema if self._found is None else pa.unify_schemas(
                [self._found, schema], promote_options="permissive"
            )  # fmt: skip
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            problem = str(error).splitlines()[0]
        else:
            return
        raise refuse(f"{chunk.name}, up to {chunk.where(len(chunk) - 1)}: {problem}: a column needs one type")

    def schema(self) -> Any:
        """The schema so far."""
        pa = need("pyarrow")
        nothing = pa.null()
        return pa.schema([each.with_type(pa.string()) if each.type == nothing else each for each in self._found or ()])


def _array(pa: Any, chunk: RecordChunk, name: str, type: Any) -> Any:
    try:
        return pa.array([row.get(name) for row in chunk.rows], type=type)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError):
        pass
    wanted = f"does not fit its type {type}" if type is not None else "mixes kinds of values"
    raise refuse(f"{chunk.name}, {chunk.where(0)} to {chunk.where(len(chunk) - 1)}, column {name!r} {wanted}")
