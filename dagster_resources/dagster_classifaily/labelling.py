"""A step that labels one table: what it says while it runs, and what the UI shows of it afterwards.

The law of this file: numbers that the UI can plot from run to run are metadata of their own; a text, an id or a row is
in none. Event logs are for ever.
"""

from __future__ import annotations

import os
import time
from itertools import cycle
from typing import TYPE_CHECKING, Any

from dagster import (
    AssetCheckResult,
    AssetCheckSeverity,
    DataVersion,
    Failure,
    MaterializeResult,
    MetadataValue,
    PathMetadataValue,
    TableColumn,
    TableColumnDep,
    TableColumnLineage,
    TableSchema,
    get_dagster_logger,
)

from classifaily_connectors.redaction import shown_url
from dagster_classifaily.partitions import PARTITION, check_partitioned, partition_path, partitions_of
from dagster_classifaily.versions import data_version_of

if TYPE_CHECKING:
    from logging import Logger

    from dagster import AssetExecutionContext, AssetKey

    from classifaily_connectors import Progress, TableResult
    from classifaily_connectors.options import ClassifyTableOptions
    from dagster_classifaily.returned import Returned

ERROR_RATIO = "error_ratio"
"""The name of the asset check."""
SAY_EVERY = 5.0
"""Seconds between two lines of the event log."""
_TYPES = {"confidence": "double", "labels": "list"}


class Step:
    """One run of a step that labels a table; `context` is None where the asset's function is called by hand."""

    def __init__(self, context: AssetExecutionContext | None, upstream: AssetKey | None) -> None:
        self.context, self.upstream = context, upstream
        self.log = get_dagster_logger("classifaily") if context is None else context.log
        self.partitions = partitions_of(context)
        if context is not None and self.partitions is not None and context.has_partition_key_range:
            keys = context.partition_keys
            if len(keys) > 1:
                raise Failure(
                    f"a labelled asset takes one partition in a run, not {len(keys)}: start one run for each "
                    "(backfill_policy=BackfillPolicy.multi_run())",
                    allow_retries=False,
                )

    @property
    def partitioned(self) -> bool:
        """Whether the table is one partition's."""
        return self.partitions is not None or (self.context is not None and self.context.has_partition_key)

    def options(self, options: ClassifyTableOptions, *, late: bool = False) -> ClassifyTableOptions:
        """How they read in this run; `late` is an output that the function named, and so made for its partition.

        Raises ConfigurationError, before anything is paid, for an output that other partitions share.
        """
        told: ClassifyTableOptions = {**options, "progress": EventLogProgress(self.log)}
        # Not the core's: an asset keeps what was paid for, and a check fails beside it.
        told.pop("max_error_ratio", None)
        output = options.get("output")
        if isinstance(output, str | os.PathLike):
            if not late or PARTITION in os.fspath(output):
                told["output"] = partition_path(output, self.context)
        elif output is not None and not late:
            check_partitioned(output, self.partitions)
        return told

    def materialized(
        self, result: TableResult, options: ClassifyTableOptions, returned: Returned, ledger: str | None
    ) -> MaterializeResult[Any]:
        """The labelled frame, or the address of the labelled file, with what the UI shows of it."""
        value = result.frame if result.output is None else result.output
        told = metadata(result, partitioned=self.partitioned)
        told["classifaily/ledger"] = shown_url(ledger) if ledger is not None else "none: a rerun pays again"
        if self.upstream is not None:
            told["dagster/column_lineage"] = _lineage(result, options, self.upstream)
        checks = [_check(result, options.get("max_error_ratio")), *returned.checks]
        if self.context is not None:
            for event in returned.noted:
                self.context.log_event(event)
        version = returned.data_version or data_version_of(result)
        if version is None:
            version = DataVersion("unread" if self.context is None else self.context.run_id)
        return MaterializeResult(
            value=value,
            metadata={**told, **returned.metadata},
            check_results=checks,
            data_version=version,
            tags=returned.tags or None,
        )


class EventLogProgress:
    """Where the run is, in a line of the event log every few seconds, and when it is done."""

    def __init__(self, log: Logger) -> None:
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


def metadata(result: TableResult, *, partitioned: bool = False) -> dict[str, Any]:
    """Numbers to plot, the labels as a histogram, and the columns of the labelled table.

    The rows of a partition are not the table's: they are counted under a name of their own.
    """
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
    if stats.rerun is not None:
        counts["rerun_at_most"] = stats.rerun
    if stats.remaining is not None:
        counts["quota_remaining"] = stats.remaining
    told = {f"classifaily/{name}": value for name, value in counts.items()}
    if stats.labels:
        told["classifaily/labels"] = MetadataValue.md(histogram(stats.labels))
    if result.output is not None:
        told["classifaily/output"] = PathMetadataValue(result.output)
    rows = "dagster/partition_row_count" if partitioned else "dagster/row_count"
    return {rows: result.rows, **told, "dagster/column_schema": _schema(result)}


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
