"""Rows that are already in memory, or come out of a generator."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from classifaily_connectors.tables.chunks import CHUNK, Chunk, RecordChunk, Table, Types


class RecordTable(Table):
    """A list of mappings, or any iterable of them. What can be gone through only once is checked on the way: columns
    and types are then those of its first rows."""

    name = "source"
    measures = True

    def __init__(self, rows: Iterable[object]) -> None:
        self._rows = rows
        self.once = iter(rows) is rows
        self.length = len(rows) if isinstance(rows, Sequence) else None
        self._columns: dict[str, None] = {}
        self._types = Types()
        self._digest = hashlib.blake2b(digest_size=16)

    def schema(self) -> Any:
        return self._types.schema()

    def learn(self, chunk: Chunk) -> None:
        self._columns.update(dict.fromkeys(chunk.names))
        self.columns = tuple(self._columns)

    def widen(self, chunk: Chunk) -> None:
        if isinstance(chunk, RecordChunk):
            self._types.learn(chunk, self.columns)

    @property
    def widened(self) -> bool:
        return self._types.widened

    def measure(self, written: bytes) -> None:
        self._digest.update(written)

    def fingerprint(self) -> str | None:
        return None if self.once else self._digest.hexdigest()

    def chunks(self) -> Iterator[Chunk]:
        source = iter(self._rows)
        start = 0
        while part := list(itertools.islice(source, CHUNK)):
            faults = {place: _fault(row) for place, row in enumerate(part) if not _is_record(row)}
            if faults:
                part = [dict[str, Any]() if place in faults else row for place, row in enumerate(part)]
            yield RecordChunk(self.name, start, cast("list[Mapping[str, Any]]", part), faults=faults)
            start += len(part)


def _is_record(row: object) -> bool:
    return isinstance(row, Mapping) and all(isinstance(name, str) for name in cast("Mapping[object, object]", row))


def _fault(row: object) -> str:
    if isinstance(row, Mapping):
        return "has a column whose name is no text"
    return f"is a {type(row).__name__}, not a mapping of columns"
