"""The rows of a table as a bulk run takes them.

The law of this file: a row that cannot be classified is fed as the error it is, so that rows go in and come out one
for one; and media are fetched ahead, a few at a time, never a chunk at once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, cast

from classifaily_connectors.errors import InvalidRequestError, refuse
from classifaily_connectors.tables.checking import own_term

if TYPE_CHECKING:
    from classifaily_connectors.identity import Resolver
    from classifaily_connectors.tables.checking import Checker, Wanted
    from classifaily_connectors.tables.chunks import Chunk
    from classifaily_connectors.tables.job import TableJob

IDENTITY = "identity"
"""The column of a fed row that tells it apart, whatever the table calls it."""
_AHEAD = 16
Span = tuple["Chunk", int, int]


def rows_of(chunk: Chunk, wanted: Wanted) -> list[object]:
    """The chunk's rows as `classify_many` takes them: bare inputs where that is enough, else the columns it reads."""
    if wanted.input is None:
        return list[object](_mappings(chunk, {name: name for name in (*wanted.joined, *_some(wanted.identity))}))
    own_terms = wanted.terms_in(chunk.names)
    if not own_terms and wanted.identity is None:
        return ["" if value is None else value for value in chunk.column(wanted.input)]
    columns = {"input": wanted.input, **{name: name for name in own_terms}}
    if wanted.identity is not None:
        columns[IDENTITY] = wanted.identity
    rows = _mappings(chunk, columns)
    for name in own_terms:
        for row in rows:
            row[name] = own_term(name, row[name])
    return list[object](rows)


def _mappings(chunk: Chunk, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    values = [chunk.column(name) for name in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*values, strict=True)]


def _some(name: str | None) -> tuple[str, ...]:
    return () if name is None else (name,)


class _Feed:
    """A table's rows, checked again on the way; each time through begins anew."""

    def __init__(self, job: TableJob, length: int, *, rehearsing: bool = False) -> None:
        self._job = job
        self._length = length
        self._rehearsing = rehearsing

    @property
    def rehearsal(self) -> Self:
        """The same rows for somebody who only looks: nothing will come back, so nothing is kept for it."""
        return type(self)(self._job, self._length, rehearsing=True)

    def __len__(self) -> int:
        return self._length

    def _parts(self) -> Iterator[Sequence[object]]:
        job = self._job
        checker = job.looked.checker()
        spans = self._spans(checker)
        yield from self._fetched(spans) if job.media else spans

    def _spans(self, checker: Checker) -> Iterator[Sequence[object]]:
        job = self._job
        for chunk in job.looked.chunks():
            problems = checker.check(chunk)
            gaps = job.gaps(chunk)
            if not gaps:
                continue
            rows = rows_of(chunk, job.wanted)
            for offset in job.wanted.blank(rows):
                where = f"{chunk.where(offset)}, column {job.wanted.input!r}"
                rows[offset] = refuse(f"{where} is empty: there is nothing to classify")
            for offset, problem in problems.items():
                rows[offset] = problem
            for first, last in gaps:
                if not self._rehearsing:
                    job.spans.append((chunk, first, last))
                yield rows[first:last]

    def _fetched(self, parts: Iterator[Sequence[object]]) -> Iterator[Sequence[object]]:
        """The rows one by one, with media read `_AHEAD` of them."""

        resolver = self._job.resolver()
        ahead: deque[Future[object]] = deque()
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="classifaily-media") as pool:
            try:
                for row in itertools.chain.from_iterable(parts):
                    ahead.append(pool.submit(_resolved, resolver, row, self._job.wanted.type))
                    if len(ahead) > _AHEAD:
                        yield [ahead.popleft().result()]
                while ahead:
                    yield [ahead.popleft().result()]
            finally:
                for each in ahead:
                    each.cancel()


class Feed(_Feed):
    """The rows for a run in this thread."""

    def __iter__(self) -> Iterator[object]:
        return itertools.chain.from_iterable(self._parts())


class AsyncFeed(_Feed):
    """The rows for a run on an event loop; the table is read beside it."""

    async def __aiter__(self) -> AsyncIterator[object]:
        parts = self._parts()
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            for row in part:
                yield row


def _resolved(resolver: Resolver, row: object, input_type: str) -> object:
    if isinstance(row, InvalidRequestError):
        return row
    try:
        if isinstance(row, dict):
            columns = cast("dict[str, Any]", row)
            return {**columns, "input": resolver(columns["input"], columns.get("type") or input_type)}
        return resolver(cast("Any", row), input_type)
    except InvalidRequestError as error:
        return error
