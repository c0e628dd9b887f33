"""What is found out about a table before its rows are bought.

The law of this file: everything that a row may be refused for is looked at before the row is paid for: whether it can
be classified, and whether the output can hold it. A table that can be gone through again is looked at as a whole,
before the first row is bought; any other a chunk at a time, each before its own rows are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from classifaily_connectors.errors import refuse
from classifaily_connectors.tables.checking import Checker
from classifaily_connectors.tables.chunks import RecordChunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from classifaily_connectors.tables.checking import OnInvalid, Wanted
    from classifaily_connectors.tables.chunks import Chunk, Table
    from classifaily_connectors.tables.encoders import Encoder
    from classifaily_connectors.tables.shape import Shape


class Survey:
    """One table looked at for one run; `encoder` is that of its output, None where it goes to no file."""

    def __init__(
        self, table: Table, wanted: Wanted, on_invalid: OnInvalid, shape: Shape, encoder: Encoder | None
    ) -> None:
        self.table, self.wanted, self.shape, self.encoder = table, wanted, shape, encoder
        self.on_invalid: OnInvalid = on_invalid
        self.total: int | None = None
        """The number of rows; None for a table that can be gone through only once."""
        self._content: str | None = None
        self._learnt: Iterator[Chunk] | None = None

    def checker(self) -> Checker:
        """A checker for one time through."""
        return Checker(self.table, self.wanted, self.on_invalid)

    def run(self) -> None:
        """Go through the table once, if it can be gone through twice, and refuse what is wrong with it."""
        table, encoder = self.table, self.encoder
        if encoder is not None:
            encoder.check_names(table.columns)
        checker = self.checker()
        if table.columns:
            checker.require()
        if table.once:
            self._begin_once(checker)
        else:
            total = 0
            self._content = None if table.measures else table.fingerprint()
            for chunk in table.chunks():
                table.learn(chunk)
                checker.check(chunk)
                self._write(chunk)
                total += len(chunk)
            if total:
                checker.require()
            self.total = total
            if encoder is not None and table.widened:  # what came before a type grew may not fit it
                for chunk in table.chunks():
                    encoder.check(chunk)
        self.shape.check(table.columns)

    def _write(self, chunk: Chunk) -> None:
        """Write the chunk into nothing."""
        if self.encoder is not None:
            self.encoder.check_names(chunk.names)
            if self.encoder.typed:
                self.table.widen(chunk)
            self.table.measure(self.encoder.check(chunk))

    def _begin_once(self, checker: Checker) -> None:
        chunks = self.table.chunks()
        first = next(chunks, None)
        if first is None:
            self._learnt = iter(())
            return
        self.table.learn(first)
        checker.require()
        self._write(first)

        def rest() -> Iterator[Chunk]:
            yield first
            for chunk in chunks:
                self._admit(chunk)
                yield chunk

        self._learnt = rest()

    def _admit(self, chunk: Chunk) -> None:
        """Refuse a chunk that nobody has looked at yet, if the output cannot take it."""
        new = next((name for name in chunk.names if name not in self.table.columns), None)
        if new is not None and self.encoder is not None and self.encoder.fixed:
            rows = chunk.rows if isinstance(chunk, RecordChunk) else ()
            offset = next((place for place, row in enumerate(rows) if new in row), 0)
            raise refuse(
                f"{self.table.name}, {chunk.where(offset)} brings the new column {new!r}, and the output's columns are "
                "fixed before the first row is paid for: give every row all columns, pass a list, or write .jsonl"
            )
        self.table.learn(chunk)
        self.shape.check(chunk.names)
        if self.encoder is not None:
            self.encoder.check_names(chunk.names)
            self.encoder.check(chunk)

    def chunks(self) -> Iterator[Chunk]:
        """The table's chunks, from the first on; of one that has grown meanwhile, as many rows as it had."""
        if self._learnt is not None:
            chunks, self._learnt = self._learnt, iter(())
            yield from chunks
            return
        changed = not self.table.measures and self.table.fingerprint() != self._content
        seen = 0
        for chunk in self.table.chunks():
            if changed:
                self._admit(chunk)
            seen += len(chunk)
            yield chunk
            if self.total is not None and seen >= self.total:
                return
        if self.total is not None and seen < self.total:
            raise refuse(
                f"{self.table.name} changed while it was read: it had {self.total} rows, and now has {seen}: run it "
                "again once it is complete"
            )
