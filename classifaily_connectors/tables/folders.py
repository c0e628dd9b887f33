"""Several files as one table: a folder, or a pattern such as `exports/2026-*/*.csv`.

Files are read in the order people count in (`part-9` before `part-10`). All have one format and, where a format
declares them, the same columns. Folders named `day=2026-01-31` are columns, as in Hive and Spark.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from classifaily_connectors.errors import refuse
from classifaily_connectors.places import need
from classifaily_connectors.tables.chunks import Chunk, Table

if TYPE_CHECKING:
    from classifaily_connectors.places import Place

_NUMBERS = re.compile(r"(\d+)")
_IGNORED = (".", "_")
"""How names begin that tools leave beside the data: `_SUCCESS`, `.part-0.crc`, our own parts."""
_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass
class MemberChunk(Chunk):
    """A chunk of one of the files, with the columns that its folders say."""

    inner: Chunk
    partition: Mapping[str, str | None]

    def __len__(self) -> int:
        return len(self.inner)

    @property
    def names(self) -> Sequence[str]:
        return [*self.inner.names, *self.partition]

    def column(self, name: str) -> Sequence[Any]:
        return self._constant(name) if name in self.partition else self.inner.column(name)

    def given(self, name: str) -> Sequence[Any]:
        return self._constant(name) if name in self.partition else self.inner.given(name)

    def _constant(self, name: str) -> Sequence[str | None]:
        return [self.partition[name]] * len(self)

    def arrow(self, schema: Any) -> Any:
        pa = need("pyarrow")
        own = self.inner.arrow(pa.schema([each for each in schema if each.name not in self.partition]))
        columns = [
            pa.array(self._constant(each.name), type=each.type) if each.name in self.partition else own[each.name]
            for each in schema
        ]
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    def where(self, offset: int) -> str:
        return self.inner.where(offset)


class FolderTable(Table):
    """The files of a folder or pattern, one after the other."""

    def __init__(self, name: str, files: Sequence[tuple[str, Place]], open_file: Callable[[Place], Table]) -> None:
        self.name = name
        kept = [(path, place) for path, place in files if not any(_is_ignored(part) for part in path.split("/"))]
        kept.sort(key=lambda each: _natural(each[0]))
        if not kept:
            raise refuse(f"{name} holds no table: a folder or pattern must lead to at least one file")
        endings = {place.base.lower().partition(".")[2]: place.base for _path, place in reversed(kept)}
        if len(endings) > 1:
            first, second = sorted(endings.values())[:2]
            raise refuse(f"{name} holds files of several formats, such as {first!r} and {second!r}: name one, as *.csv")
        self._places = [place for _path, place in kept]
        self._members = [(open_file(place), _partition(path)) for path, place in kept]
        self._columns: dict[str, None] = {}
        self._check_alike()

    def holds(self, place: Place) -> bool:
        """Whether the place is one of the files."""
        return any(each.is_same(place) for each in self._places)

    def _check_alike(self) -> None:
        first, keys = self._members[0][0], tuple(self._members[0][1])
        for table, partition in self._members:
            if tuple(partition) != keys:
                raise refuse(f"{table.name} lies in folders {[*partition]}, others in {[*keys]}: one layout is needed")
            if set(table.columns) != set(first.columns):
                odd = min(set(table.columns) ^ set(first.columns))
                raise refuse(f"{table.name}: column {odd!r} is not in all files of {self.name}, and has to be")
            twice = next((key for key in keys if key in table.columns), None)
            if twice is not None:
                raise refuse(f"{table.name} has a column {twice!r}, and so has the folder's name: rename one")
        self._columns.update(dict.fromkeys((*first.columns, *keys)))
        if first.columns:
            self.columns = tuple(self._columns)

    def chunks(self) -> Iterator[Chunk]:
        start = 0
        for table, partition in self._members:
            for chunk in table.chunks():
                yield MemberChunk(chunk.name, start, chunk, partition, faults=chunk.faults)
                start += len(chunk)

    def learn(self, chunk: Chunk) -> None:
        self._columns.update(dict.fromkeys(chunk.names))
        self.columns = tuple(self._columns)

    def widen(self, chunk: Chunk) -> None:
        # One file's types are all files': a chunk of any of them widens those of the first.
        first = self._members[0][0]
        if isinstance(chunk, MemberChunk):
            first.learn(chunk.inner)
            first.widen(chunk.inner)

    @property
    def widened(self) -> bool:
        return self._members[0][0].widened

    def schema(self) -> Any:
        pa = need("pyarrow")
        own, keys = self._members[0][0].schema(), self._members[0][1]
        return pa.schema([*own, *(pa.field(key, pa.string()) for key in keys)], metadata=own.metadata)

    def fingerprint(self) -> str | None:
        digest = hashlib.blake2b(digest_size=16)
        for table, partition in self._members:
            content = table.fingerprint()
            if content is None:
                return None
            digest.update(f"{[*partition.items()]}\0{content}\0".encode())
        return digest.hexdigest()

    def text_problem(self, name: str) -> str | None:
        return None if name in self._members[0][1] else self._members[0][0].text_problem(name)


def _is_ignored(part: str) -> bool:
    return part.startswith(_IGNORED) and "=" not in part


def _natural(path: str) -> list[tuple[int, int, str]]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in _NUMBERS.split(path) if part]


def _partition(path: str) -> dict[str, str | None]:
    """The columns that the folders of a path are named for: `day=2026-01-31/part-0.csv` has `day`."""
    found: dict[str, str | None] = {}
    for part in path.split("/")[:-1]:
        key, sign, value = part.partition("=")
        if sign and key:
            found[unquote(key)] = None if value == _NULL else unquote(value)
    return found
