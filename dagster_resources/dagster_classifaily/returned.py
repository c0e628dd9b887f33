"""What the function of a labelled asset gave: a table, plain or in one of Dagster's wrappings.

The law of this file: what an asset's function may return, this one may too; what it says beside the table is passed on.
"""

from __future__ import annotations

import inspect
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from dagster import (
    AssetCheckResult,
    AssetMaterialization,
    AssetObservation,
    DataVersion,
    ExpectationResult,
    MaterializeResult,
    Output,
)

from classifaily_connectors.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Unpack

    from classifaily_connectors.options import ClassifyTableOptions
    from classifaily_connectors.tables.job import Source

_NOTED = (AssetMaterialization, AssetObservation, ExpectationResult)


class Table:
    """A table to label, for a function of `classify_asset` that learns only when it runs how to label it.

    `source` and `options` are those of `classify_table`; they go before those of the decorator. Two belong there:
    `ledger` and `max_error_ratio`.
    """

    def __init__(self, source: Source, **options: Unpack[ClassifyTableOptions]) -> None:
        self.source = source
        self.options = options

    @classmethod
    def of(cls, source: Source | Table) -> Table:
        """`source` itself, or a table without options of its own."""
        return source if isinstance(source, Table) else cls(source)


@dataclass
class Returned:
    """The `table`, and what the function said of it: metadata, tags, checks, a data version, events for the log."""

    table: Table
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    tags: dict[str, str] = field(default_factory=dict[str, str])
    checks: list[AssetCheckResult] = field(default_factory=list[AssetCheckResult])
    data_version: DataVersion | None = None
    noted: list[Any] = field(default_factory=list[Any])

    @classmethod
    def of(cls, value: Any) -> Returned:
        """What `value` holds: a table, a `Table`, an `Output`, a `MaterializeResult`, or a generator of events.

        A generator of anything else is a table itself, read row by row.

        Raises ConfigurationError for a wrapping without a table in it.
        """
        if inspect.isgenerator(value):
            first = list(itertools.islice(value, 1))
            if not first or not isinstance(first[0], (Output, MaterializeResult, AssetCheckResult, Table, *_NOTED)):
                return cls(Table(itertools.chain(first, value)))
            return cls._of_events([*first, *value])
        return cls._of_events([value])

    @classmethod
    def _of_events(cls, events: Iterable[Any]) -> Returned:
        said = cls(Table(None))
        tables: list[Any] = []
        for event in events:
            if isinstance(event, AssetCheckResult):
                said.checks.append(event)
            elif isinstance(event, _NOTED):
                said.noted.append(event)
            elif isinstance(event, Output | MaterializeResult):
                wrapping = cast("Any", event)
                said._take(wrapping)
                tables.append(_value_of(wrapping))
            else:
                tables.append(event)
        if len(tables) != 1:
            raise ConfigurationError(f"the function gave {len(tables)} tables: return one, or yield one Output of it")
        said.table = Table.of(tables[0])
        return said

    def _take(self, event: Output[Any] | MaterializeResult[Any]) -> None:
        self.metadata |= cast("Any", event).metadata or {}
        self.tags |= event.tags or {}
        self.data_version = event.data_version or self.data_version
        if isinstance(event, MaterializeResult):
            self.checks += event.check_results or ()


def _value_of(event: Output[Any] | MaterializeResult[Any]) -> Any:
    value: Any = event.value
    if isinstance(value, type) and value.__name__ == "NoValueSentinel":
        raise ConfigurationError("MaterializeResult has no value: return MaterializeResult(value=the table)")
    return value
