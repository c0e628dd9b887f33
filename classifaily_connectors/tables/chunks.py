"""A table as the rest of the package sees it: columns, and rows in chunks.

The law of this file: a table is gone through from its beginning any number of times (or once, if `once`), always in
the same order and with the same chunks, and it never holds more than the chunk it gives.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from classifaily_connectors.errors import refuse
from classifaily_connectors.places import need
from classifaily_connectors.tables.arrowvalues import array_of
from classifaily_connectors.tables.values import UnwritableError, missing, plain_column

if TYPE_CHECKING:
    from classifaily_connectors.errors import InvalidRequestError

CHUNK = 512
"""Rows in a chunk: enough to make a column cheap, few enough to hold images."""
_PLAIN = {str, int, bool, type(None)}


@dataclass
class Chunk(ABC):
    """Some rows in a line; `start` counts from 0, `name` is the table's. `faults` are rows that are no rows of this
    table, by offset."""

    name: str
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
        """The values of a column to classify by; None where there is none."""

    def given(self, name: str) -> Sequence[Any]:
        """The values of a column to write, as they came."""
        return self.column(name)

    def made(self, name: str, form: Callable[[Sequence[Any]], Any]) -> Any:
        """What `form` makes of a column's values.

        Raises InvalidRequestError naming row and column for an UnwritableError.
        """
        try:
            return form(self.given(name))
        except UnwritableError as error:
            refusal = self.refusal(name, error.problem, error.offset)
        raise refusal

    def plain(self) -> Sequence[Mapping[str, Any]]:
        """The rows as JSON can hold them."""
        columns = {name: self.made(name, plain_column) for name in self.names}
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]

    @abstractmethod
    def arrow(self, schema: Any) -> Any:
        """The rows as a pyarrow RecordBatch of this schema."""

    def where(self, offset: int) -> str:
        """How a reader finds the row: by its line, or by its number counted from 0."""
        return f"row {self.start + offset}"

    def refusal(self, column: str, problem: str, offset: int | None = None) -> InvalidRequestError:
        """The error for a column that cannot be read or written."""
        where = f"{self.where(0)} to {self.where(len(self) - 1)}" if offset is None else self.where(offset)
        return refuse(f"{self.name}, {where}, column {column!r} {problem}")


class Table(ABC):
    """Where rows come from; `name` is what errors call it."""

    name: str
    columns: tuple[str, ...] = ()
    once = False
    """Whether it can be gone through only once."""
    measures = False
    """Whether its fingerprint is made of what `measure` is told."""
    length: int | None = None
    """The number of rows, where it is known beforehand."""

    @abstractmethod
    def chunks(self) -> Iterator[Chunk]:
        """All rows, from the first on."""

    def learn(self, chunk: Chunk) -> None:  # noqa: B027  # most tables know them beforehand
        """Take the columns from a first look at `chunk`."""

    def widen(self, chunk: Chunk) -> None:  # noqa: B027  # most tables know them beforehand
        """Let the types of the columns hold `chunk` too."""

    @property
    def widened(self) -> bool:
        """Whether a type became another one while the table was gone through, so that earlier rows may not fit it."""
        return False

    def measure(self, written: bytes) -> None:  # noqa: B027  # most tables have a fingerprint beforehand
        """Take from a chunk, as it will be written, what tells this content from another."""

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
    """Rows that are mappings; of a JSONL file also the `lines` they stand in, and their bytes if they are JSON."""

    rows: Sequence[Mapping[str, Any]]
    lines: Sequence[int] | None = None
    raw: Sequence[bytes | None] | None = None
    _arrays: dict[str, Any] = field(default_factory=dict[str, Any], init=False, repr=False)
    """Columns as Arrow takes them by itself: what was looked at once is not turned again."""

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> Sequence[str]:
        return tuple(dict.fromkeys(name for row in self.rows for name in row))

    def given(self, name: str) -> Sequence[Any]:
        return [row.get(name) for row in self.rows]

    def column(self, name: str) -> Sequence[Any]:
        values = self.given(name)
        # pandas writes a missing text as the number NaN, which is no input and no "nan" either.
        plain = set(map(type, values)) <= _PLAIN
        return values if plain else [None if missing(value) else value for value in values]

    def plain(self) -> Sequence[Mapping[str, Any]]:
        columns = {name: made for name in self.names if (made := self.made(name, _if_changed)) is not None}
        if not columns:
            return self.rows
        return [  # a key that is absent stays absent
            {name: columns[name][offset] if name in columns else value for name, value in row.items()}
            for offset, row in enumerate(self.rows)
        ]

    def arrow(self, schema: Any) -> Any:
        columns = [self.array(each.name, each.type) for each in schema]
        return need("pyarrow").RecordBatch.from_arrays(columns, schema=schema)

    def array(self, name: str, type: Any) -> Any:
        """A column as a pyarrow array of this type, or of its own."""
        own = self._arrays.get(name)
        if own is not None and type in (None, own.type):
            return own
        array = self.made(name, lambda values: array_of(values, type))
        if type is None:
            self._arrays[name] = array
        return array

    def where(self, offset: int) -> str:
        return super().where(offset) if self.lines is None else f"line {self.lines[offset]}"


def _if_changed(values: Sequence[Any]) -> Sequence[Any] | None:
    made = plain_column(values)
    return None if made is values else made


class Types:
    """The types of columns that no schema declares, learnt from the values; a column of nulls becomes text."""

    def __init__(self) -> None:
        self._found: Any = None
        self.widened = False
        """Whether a column's type became another one."""

    def learn(self, chunk: RecordChunk, columns: Sequence[str]) -> None:
        """Widen the types so that `chunk` fits; raises InvalidRequestError for a column of mixed kinds."""
        pa = need("pyarrow")
        schema = pa.schema([pa.field(name, chunk.array(name, None).type) for name in columns])
        if self._found is None:
            self._found = schema
            return
        try:
            found = pa.unify_schemas([self._found, schema], promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
            problem = str(error).splitlines()[0]
        else:
            nothing = pa.null()
            self.widened |= any(each.type not in (nothing, found.field(each.name).type) for each in self._found)
            self._found = found
            return
        raise refuse(f"{chunk.name}, up to {chunk.where(len(chunk) - 1)}: {problem}: a column needs one type")

    def schema(self) -> Any:
        """The schema so far."""
        pa = need("pyarrow")
        nothing = pa.null()
        return pa.schema([each.with_type(pa.string()) if each.type == nothing else each for each in self._found or ()])
