"""Several category sets over the same rows.

The law of this file: there is one engine. A row is taken in once for each axis, one after the other, and its answers
are put together again on the way out, so that ledger, budget, batches and price count rows times axes by themselves.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from classifaily_connectors.bulk.progress import BulkStats
from classifaily_connectors.bulk.rows import Row
from classifaily_connectors.bulk.source import Rows, again
from classifaily_connectors.bulk.terms import OwnSet
from classifaily_connectors.enums import member_for, taxonomy_of
from classifaily_connectors.errors import refuse
from classifaily_connectors.routing import ConfidencePolicy
from classifaily_connectors.taxonomy import CategorySet, parse_categories

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from classifaily_connectors.bulk.plan import Plan
    from classifaily_connectors.bulk.run import AsyncBulkRun, BulkRun


@dataclass(slots=True, kw_only=True)
class AxesRow:
    """One input and what came of it on every axis: `row["topic"]` is a `Row`, whose label is a member where the axis
    is an Enum. `index` counts from 0 in the order of the input; `columns` is the mapping that was given, or None.
    `whole` is False where the run ended early: the axes that it had not come to are `uncovered`."""

    index: int
    columns: Mapping[str, Any] | None
    axes: Mapping[str, Row[Any]]
    whole: bool = True

    def __getitem__(self, axis: str) -> Row[Any]:
        return self.axes[axis]

    def as_dict(self) -> dict[str, Any]:
        """The input's own columns, plus the row shape of every axis under its name: `topic_label`, `topic_route`."""
        shapes = ((axis, row.shape()) for axis, row in self.axes.items())
        return {**(self.columns or {}), **{f"{axis}_{name}": shape[name] for axis, shape in shapes for name in shape}}


class Axis(NamedTuple):
    """One category set, and what its rows say of it."""

    name: str
    own: OwnSet
    taxonomy: type[Enum] | None
    policy: str


def parse_axes(axes: Mapping[str, CategorySet], policy: ConfidencePolicy | None) -> tuple[Axis, ...]:
    """The axes, checked.

    Raises InvalidRequestError when there is none, or one is no category set.
    """
    if not isinstance(axes, Mapping) or not axes:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise refuse("axes must map at least one name to its categories, e.g. {'topic': ['billing', 'other']}")
    routing = policy or ConfidencePolicy()
    parsed: list[Axis] = []
    for name, categories in axes.items():
        own = OwnSet.of(parse_categories(categories, f"axes[{name!r}]"))
        parsed.append(Axis(name, own, taxonomy_of(categories), routing.fingerprint(own.fingerprint)))
    return tuple(parsed)


def repeated(rows: Rows, times: int) -> Rows:
    """Each of the rows so many times; can be gone through again when `rows` can."""
    repeats = _AsyncRepeats(rows, times) if isinstance(rows, AsyncIterable) else _Repeats(rows, times)
    if again(rows):
        return repeats
    return aiter(repeats) if isinstance(repeats, AsyncIterable) else iter(repeats)


@dataclass(frozen=True, slots=True)
class _Repeats:
    rows: Iterable[object]
    times: int

    @property
    def rehearsal(self) -> Rows:
        """The same for somebody who only looks; see `Request.rehearsal`."""
        return repeated(getattr(self.rows, "rehearsal", self.rows), self.times)

    def __iter__(self) -> Iterator[object]:
        return (row for row in self.rows for _ in range(self.times))


@dataclass(frozen=True, slots=True)
class _AsyncRepeats:
    rows: AsyncIterable[object]
    times: int

    @property
    def rehearsal(self) -> Rows:
        """The same for somebody who only looks; see `Request.rehearsal`."""
        return repeated(getattr(self.rows, "rehearsal", self.rows), self.times)

    async def __aiter__(self) -> AsyncIterator[object]:
        async for row in self.rows:
            for _ in range(self.times):
                yield row


class _Gathering:
    """Rows whose axes have not all been answered."""

    def __init__(self, axes: tuple[Axis, ...]) -> None:
        self.axes = axes
        self.stats = {axis.name: BulkStats() for axis in axes}
        self._waiting: dict[int, dict[str, Row[Any]]] = {}
        self._leftover: list[AxesRow] | None = None

    def add(self, row: Row[Any]) -> AxesRow | None:
        """The whole row, once this was its last part."""
        row.index, place = divmod(row.index, len(self.axes))
        axis = self.axes[place]
        self.stats[axis.name].count(row)
        row.policy = axis.policy
        if axis.taxonomy is not None:
            row.label = member_for(axis.taxonomy, row.label)
        parts = self._waiting.setdefault(row.index, {})
        parts[axis.name] = row
        if len(parts) < len(self.axes):
            return None
        del self._waiting[row.index]
        return AxesRow(index=row.index, columns=row.columns, axes={axis.name: parts[axis.name] for axis in self.axes})

    def rest(self) -> Iterator[AxesRow]:
        """The rows that some axis is missing from, once no more parts come."""
        for index, parts in sorted(self._waiting.items()):
            columns = next(iter(parts.values())).columns
            axes = {axis.name: parts.get(axis.name) or _unasked(index, columns, axis) for axis in self.axes}
            yield AxesRow(index=index, columns=columns, axes=axes, whole=False)
        self._waiting = {}

    def leftover(self, rows: Iterable[Row[Any]]) -> list[AxesRow]:
        """The rows that were answered but not given out, whole ones first."""
        if self._leftover is None:
            self._leftover = [*filter(None, map(self.add, rows)), *self.rest()]
        return self._leftover


def _unasked(index: int, columns: Mapping[str, Any] | None, axis: Axis) -> Row[Any]:
    reason = "the run ended before this axis was asked"
    return Row(index=index, columns=columns, status="uncovered", error=reason, policy=axis.policy)


class AsyncAxesRun:
    """A run over several axes, to go through with `async for`; `stats` counts answers: a row has one on each axis."""

    def __init__(self, run: AsyncBulkRun, axes: tuple[Axis, ...]) -> None:
        self._run = run
        self._gathering = _Gathering(axes)

    @property
    def stats(self) -> BulkStats:
        """What has been done so far, on all axes together."""
        return self._run.stats

    @property
    def by_axis(self) -> Mapping[str, BulkStats]:
        """What has been done so far on each axis."""
        return self._gathering.stats

    async def __aiter__(self) -> AsyncIterator[AxesRow]:
        async with aclosing(cast("AsyncGenerator[Row]", aiter(self._run))) as rows:
            try:
                async for row in rows:
                    whole = self._gathering.add(row)
                    if whole is not None:
                        yield whole
            except Exception:  # everything that was paid has come
                for part in self._gathering.rest():
                    yield part
                raise

    @property
    def leftover(self) -> list[AxesRow]:
        """Rows that were answered but not given out, because the loop over the run was left early; there once the run
        is closed."""
        return self._gathering.leftover(self._run.leftover) if self._run.closed else []

    def stop(self) -> None:
        """Buy nothing more: the loop goes on with what is under way, and then raises StoppedError. Returns at once; may
        be called from any thread, and from a signal handler."""
        self._run.stop()

    async def aclose(self) -> None:
        """Leave early: buy nothing more and wait for what is under way. Closing the client does it too."""
        await self._run.aclose()

    async def plan(self) -> Plan:
        """What this run would buy, counted in answers; spends nothing."""
        return await self._run.plan()


class AxesRun:
    """A run over several axes, to go through with `for`; `stats` counts answers: a row has one on each axis."""

    def __init__(self, run: BulkRun, axes: tuple[Axis, ...]) -> None:
        self._run = run
        self._gathering = _Gathering(axes)

    @property
    def stats(self) -> BulkStats:
        """What has been done so far, on all axes together."""
        return self._run.stats

    @property
    def by_axis(self) -> Mapping[str, BulkStats]:
        """What has been done so far on each axis."""
        return self._gathering.stats

    def __iter__(self) -> Iterator[AxesRow]:
        with closing(cast("Generator[Row]", iter(self._run))) as rows:
            try:
                for row in rows:
                    whole = self._gathering.add(row)
                    if whole is not None:
                        yield whole
            except Exception:  # everything that was paid has come
                yield from self._gathering.rest()
                raise

    @property
    def leftover(self) -> list[AxesRow]:
        """Rows that were answered but not given out, because the loop over the run was left early; there once the run
        is closed."""
        return self._gathering.leftover(self._run.leftover) if self._run.closed else []

    def stop(self) -> None:
        """Buy nothing more: the loop goes on with what is under way, and then raises StoppedError. Returns at once; may
        be called from any thread, and from a signal handler."""
        self._run.stop()

    def close(self) -> None:
        """Leave early: buy nothing more and wait for what is under way. Closing the client does it too."""
        self._run.close()

    def plan(self) -> Plan:
        """What this run would buy, counted in answers; spends nothing."""
        return self._run.plan()
