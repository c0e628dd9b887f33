"""What a table's run shows in Prefect's UI: a progress bar while it runs, then a summary and a histogram, or what it
cost until it failed.

The law of this file: it shows and never decides. All of it happens in a thread of its own, so that neither a slow
Prefect server nor a lost one holds up rows, blocks an event loop, or fails a run that is being paid for.
"""

from __future__ import annotations

import re
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Self

from prefect import artifacts
from prefect.context import TaskRunContext
from prefect.logging import get_run_logger

from classifaily_connectors import ConfigurationError
from classifaily_connectors.tables import report
from prefect_classifaily.failures import reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from classifaily_connectors import BulkStats, Progress, TableResult

_KEY = re.compile(r"[a-z0-9-]+")
EVERY = 1.0
"""Seconds between two updates of the progress bar."""

# Told to be sync (`_sync=True`): beside a running event loop, Prefect's dispatch would hand back a coroutine.
_create_progress: Any = artifacts.create_progress_artifact
_update_progress: Any = artifacts.update_progress_artifact
_create_markdown: Any = artifacts.create_markdown_artifact
_create_table: Any = artifacts.create_table_artifact


def checked_key(key: str | None) -> str | None:
    """The key of a table's artifacts.

    Raises ConfigurationError for one that Prefect refuses; it would do so only after the table was paid for.
    """
    if key is not None and not _KEY.fullmatch(key):
        raise ConfigurationError(
            f"report is {key!r}; as the key of an artifact it must be lowercase letters, digits and dashes, "
            "or None for no artifacts"
        )
    return key


class TableDisplay:
    """The artifacts `KEY-progress`, `KEY` (Markdown) and `KEY-labels` (a table) of one table; none outside a task run.

    Give it to the core as `progress=`; what the caller's own `progress` was is told too. `result` is set once there
    is one.
    """

    def __init__(self, key: str | None, progress: Callable[[Progress], None] | None) -> None:
        self.result: TableResult | None = None
        self._key, self._progress = checked_key(key), progress
        self._stats: BulkStats | None = None
        self._moment: Progress | None = None
        self._shown: Progress | None = None
        self._bar: UUID | None = None
        self._ended = threading.Event()
        self._troubled = False
        self._thread: threading.Thread | None = None

    def __call__(self, moment: Progress) -> None:
        """Take note of this moment; what `progress=` takes."""
        self._moment = moment
        if self._progress is not None:
            self._progress(moment)

    def __enter__(self) -> Self:
        if self._key is not None and TaskRunContext.get() is not None:
            # The copied context says whose artifacts and log lines these are.
            work = copy_context()
            self._thread = threading.Thread(target=work.run, args=(self._work,), name="classifaily-display")
            self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self.end(error)
        self.join()

    def end(self, error: BaseException | None = None) -> None:
        """Have it shown how the run ended, by which error if by any; returns at once."""
        self._stats = getattr(error, "stats", None)
        self._ended.set()

    def join(self) -> None:
        """Wait until Prefect has taken it; `end` comes first."""
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        ended = False
        while not ended:
            self._try(self._show_progress)
            ended = self._ended.wait(EVERY)
        self._try(self._show_progress)
        if self.result is not None:
            self._try(self._show_result)
        elif self._stats is not None:
            self._try(self._show_cost)

    def _try(self, show: Callable[[], None]) -> None:
        try:
            show()
        except Exception as error:  # noqa: BLE001  # whatever Prefect's client raises: the rows matter more
            if not self._troubled:
                self._troubled = True
                get_run_logger().warning("Prefect did not take an artifact: %s", reason(error))

    def _show_progress(self) -> None:
        moment = self._moment
        if self._bar is None:
            self._bar = _create_progress(0.0, key=f"{self._key}-progress", description="0 rows", _sync=True)
        if moment is not None and moment is not self._shown:
            percent = 100 * moment.done / moment.total if moment.total else 0.0
            _update_progress(self._bar, percent, description=report.progress_line(moment), _sync=True)
            self._shown = moment

    def _show_cost(self) -> None:
        assert self._stats is not None  # noqa: S101
        sentence = self._stats.ending()
        get_run_logger().error(sentence)
        _create_markdown(sentence, key=self._key, description="A table, not labelled to its end", _sync=True)

    def _show_result(self) -> None:
        assert self.result is not None  # noqa: S101
        told = report.summary(self.result)
        _update_progress(self._bar, 100.0, _sync=True)
        _create_markdown(report.markdown(told), key=self._key, description="A table, labelled", _sync=True)
        total = sum(told["labels"].values())
        rows = [{"label": name, "rows": count, "share": count / total} for name, count in told["labels"].items()]
        _create_table(rows, key=f"{self._key}-labels", description="How often each label was given", _sync=True)
        get_run_logger().info(
            "%s rows: %s billed, %s reused, %s duplicate; %s",
            told["rows"], told["billed"], told["reused"], told["duplicate"],
            ", ".join(f"{count} {status}" for status, count in told["statuses"].items() if count),
        )  # fmt: skip
