"""A step that labels one table: what it says while it runs, and what the UI shows of it afterwards.

The law of this file: numbers that the UI can plot from run to run are metadata of their own; a text, an id or a row is
in none. Event logs are for ever.
"""

from __future__ import annotations

import os
import time
from itertools import cycle
from typing import TYPE_CHECKING, Any, cast

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    Failure,
    MaterializeResult,
    MetadataValue,
    PathMetadataValue,
    TableColumn,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
)

from classifaily_connectors.taxonomy import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from dagster import AssetExecutionContext, AssetKey, DagsterLogManager

    from classifaily_connectors import Progress, TableResult
    from classifaily_connectors.options import ClassifyTableOptions
    from classifaily_connectors.tables.job import Source

ERROR_RATIO = "error_ratio"
"""The name of the asset check."""
PARTITION = "{partition_key}"
SAY_EVERY = 5.0
"""Seconds between two lines of the event log."""
_SHAPES_ANSWERS = ("schema", "type", "mode", "top_n", "threshold", "explain", "text", "template", "identity")
_TYPES = {"confidence": "double", "labels": "list"}


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


class Step:
    """One run of a step that labels a table."""

    def __init__(self, context: AssetExecutionContext, upstream: AssetKey | None) -> None:
        if context.has_partition_key_range and len(context.partition_keys) > 1:
            raise Failure("a labelled asset takes one partition in a run: start one run for each", allow_retries=False)
        self.context, self.upstream = context, upstream

    def options(self, options: ClassifyTableOptions) -> ClassifyTableOptions:
        """How they read in this run."""
        told: ClassifyTableOptions = {**options, "progress": EventLogProgress(self.context.log)}
        # Not the core's: an asset keeps what was paid for, and a check fails beside it.
        told.pop("max_error_ratio", None)
        output = options.get("output")
        if isinstance(output, str | os.PathLike) and self.context.has_partition_key:
            told["output"] = os.fspath(output).replace(PARTITION, self.context.partition_key)
        return told

    def materialized(self, result: TableResult, options: ClassifyTableOptions) -> MaterializeResult[Any]:
        """The labelled frame, or the address of the labelled file, with what the UI shows of it."""
        value = result.frame if result.output is None else result.output
        told = metadata(result)
        if self.upstream is not None:
            told["dagster/column_lineage"] = _lineage(result, options, self.upstream)
        check = _check(result, options.get("max_error_ratio"))
        return MaterializeResult(value=value, metadata=told, check_results=[check])


class EventLogProgress:
    """Where the run is, in a line of the event log every few seconds, and when it is done."""

    def __init__(self, log: DagsterLogManager) -> None:
        self._log = log
        self._due = time.monotonic() + SAY_EVERY
        self._said = -1

    def __call__(self, moment: Progress) -> None:
        """Say this moment, or not; what `progress=` takes."""
        from classifaily_connectors.tables.report import progress_line

        now = time.monotonic()
        if moment.done == self._said or (now < self._due and moment.done != moment.total):
            return
        self._due, self._said = now + SAY_EVERY, moment.done
        self._log.info(progress_line(moment))


def metadata(result: TableResult) -> dict[str, Any]:
    """Numbers to plot, the labels as a histogram, and the columns of the labelled table."""
    from classifaily_connectors.tables.report import histogram

    stats = result.stats
    counts: dict[str, Any] = {
        "billed": stats.billed,
        "reused": stats.reused,
        "duplicate": stats.duplicate,
        **stats.statuses,
        **{route: stats.routes.get(route, 0) for route in ("act", "flag", "review")},
        "error_ratio": result.stats.error_ratio,
        "seconds": round(stats.seconds, 3),
    }
    if stats.remaining is not None:
        counts["quota_remaining"] = stats.remaining
    told = {f"classifaily/{name}": value for name, value in counts.items()}
    if stats.labels:
        told["classifaily/labels"] = MetadataValue.md(histogram(stats.labels))
    if result.output is not None:
        told["classifaily/output"] = PathMetadataValue(result.output)
    return {"dagster/row_count": result.rows, **told, "dagster/column_schema": _schema(result)}


def _schema(result: TableResult) -> TableSchema:
    # Ours are the last, and their types are fixed; what the input's columns hold, their own asset says.
    from classifaily_connectors.bulk.rows import COLUMNS

    theirs = [TableColumn(name, type="") for name in _theirs(result)]
    ours = zip(result.added, cycle(COLUMNS), strict=False)  # once for each axis
    return TableSchema([*theirs, *(TableColumn(name, type=_TYPES.get(plain, "string")) for name, plain in ours)])


def _theirs(result: TableResult) -> tuple[str, ...]:
    return result.columns[: len(result.columns) - len(result.added)]


def _lineage(result: TableResult, options: ClassifyTableOptions, upstream: AssetKey) -> TableColumnLineage:
    from classifaily_connectors.bulk.terms import template_columns

    template = options.get("template")
    read = template_columns(template) if template is not None else (options.get("text") or "input",)
    texts = [TableColumnDep(upstream, name) for name in read]
    deps = {name: [TableColumnDep(upstream, name)] for name in _theirs(result)}
    return TableColumnLineage({**deps, **dict.fromkeys(result.added, texts)})


def _check(result: TableResult, limit: float | None) -> AssetCheckResult:
    ratio = result.stats.error_ratio
    return AssetCheckResult(
        check_name=ERROR_RATIO,
        passed=ratio <= (limit or 0.0),
        severity=AssetCheckSeverity.WARN if limit is None else AssetCheckSeverity.ERROR,
        metadata={"error_ratio": ratio, "failed": result.stats.failed, "unknown": result.stats.unknown},
    )


def version_of(options: ClassifyTableOptions) -> str:
    """12 hex digits that change with everything that can change an answer, so that the UI shows the asset as stale."""
    given = cast("Mapping[str, Any]", options)
    said = {name: repr(given[name]) for name in _SHAPES_ANSWERS if given.get(name) is not None}
    if schema := given.get("schema"):
        said["schema"] = str(getattr(schema, "id", schema))
    if policy := given.get("policy"):
        said["policy"] = policy.fingerprint()
    axes: Mapping[str, Any] = given.get("axes") or {}
    said |= {f"axis {name}": fingerprint(each) for name, each in axes.items()}
    return fingerprint(given.get("categories") or (), **said)[:12]
