"""A whole table in one task, each distinct row paid once.

The law of this file: no row passes through Airflow. Rows go from the source to the target inside the task; what
Airflow keeps (XCom, log, asset event) is counts, labels and places.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypeVar, cast
from urllib.parse import urlsplit

from airflow_provider_classifaily.errors import fail_fast
from airflow_provider_classifaily.hooks import ClassifailyHook
from airflow_provider_classifaily.operators.base import (
    NATIVE,
    ClassifailyOperator,
    check_choice,
    check_ledger,
    check_refresh,
    check_share,
    check_top_n,
    plain_categories,
)

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath, XComArg

    from airflow_provider_classifaily.operators.base import Categories, InputType, Mode, SchemaId
    from classifaily_connectors import Progress

    Address = str | ObjectStoragePath | XComArg

T = TypeVar("T")
ON_UNKNOWN = ("park", "reconcile", "resend")
ON_INVALID = ("raise", "skip")
SHOW_SECONDS, LOG_SECONDS = 2.0, 15.0


class ClassifailyTableOperator(ClassifailyOperator):
    """Label a table, each distinct row paid once: CSV, JSONL or Parquet in, the same rows and the answers out.

    `source` and `target` are paths or object-storage URIs, as Airflow writes them: in `s3://my_aws@bucket/key.csv` the
    connection `my_aws` brings the credentials; without one the file system finds its own. (`output` is the name of a
    task's XCom.) `text` names the column to classify, `template` joins several ("Subject: {subject}\\n\\n{body}").

    What was paid is kept in a ledger, so a retry, a rerun, a cleared task and another worker reuse it: `ledger` is a
    store URL, by default the hook's (`ClassifailyHook.store_url`), or False for none. `refresh=True` pays again on
    purpose, `"failed"` for the failed rows. Rows that may have been paid without an answer fail the task once the table
    is complete, and its next try settles them from the API's history, for nothing (a minute after they were lost);
    `on_unknown` "park" accepts them, "reconcile" waits for the history, "resend" may pay twice. Without a ledger, with
    a refresh and with resend nothing is retried, as a retry would pay again: a second attempt is refused unless
    somebody clears the task.
    With `axes` (category sets by name) every row is asked once for each, and our columns are called after it.
    `budget` and `policy` are the arguments of the core's `Budget` and `ConfidencePolicy`, as mappings. The other
    arguments are those of `classifaily_connectors.classify_table`.

    XCom: `{output, rows, resumed, billed, reused, duplicate, statuses, labels, routes, remaining, seconds, ledger}`; as
    `progress` the same live, and as `summary` the same however the task ends: what was billed, where it is kept and
    what a rerun costs. The outlet assets' events carry the summary too. Raises ValueError at definition for a
    wrong argument, and what `fail_fast` says.
    """

    template_fields = (
        "classifaily_conn_id", "source", "target", "text", "template", "categories", "schema", "axes", "ledger",
        "refresh", "budget", "policy",
    )  # fmt: skip
    template_fields_renderers: ClassVar[dict[str, str]] = dict.fromkeys(
        ("categories", "axes", "budget", "policy"), "json"
    )

    def __init__(
        self,
        *,
        source: Address,
        target: Address,
        text: str | None = None,
        template: str | None = None,
        id_column: str | None = None,
        identity: str | None = None,
        media_folder: Address | None = None,
        prefix: str = "",
        categories: Categories | None = None,
        schema: SchemaId | None = None,
        axes: Mapping[str, Any] | XComArg | str | None = None,
        type: InputType = "text",
        mode: Mode | None = None,
        top_n: int | None = None,
        threshold: float | None = None,
        explain: bool = False,
        ledger: str | Literal[False] | None = None,
        refresh: bool | str = False,
        on_unknown: Literal["park", "reconcile", "resend"] | None = None,
        budget: Mapping[str, Any] | str | None = None,
        policy: Mapping[str, Any] | str | None = None,
        max_error_ratio: float | None = None,
        on_invalid: Literal["raise", "skip"] = "raise",
        batch_size: int | None = None,
        concurrency: int = 16,
        settle_after: float = 60.0,
        format: str | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        quoting: str | None = None,
        classifaily_conn_id: str = ClassifailyHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(categories=categories, type=type, mode=mode, classifaily_conn_id=classifaily_conn_id, **kwargs)
        self.source = source
        self.target = target
        self.text = text
        self.template = template
        self.id_column = id_column
        self.identity = identity
        self.media_folder = media_folder
        self.prefix = prefix
        self.schema = schema
        self.axes = axes
        self.top_n = top_n
        self.threshold = threshold
        self.explain = explain
        self.ledger = ledger
        self.refresh = refresh
        self.on_unknown = on_unknown
        self.budget = budget
        self.policy = policy
        self.max_error_ratio = max_error_ratio
        self.on_invalid = on_invalid
        self.batch_size = batch_size
        self.concurrency = concurrency
        self.settle_after = settle_after
        self.format = format
        self.encoding = encoding
        self.delimiter = delimiter
        self.quoting = quoting
        check_top_n(top_n, mode)
        check_share("threshold", threshold)
        check_share("max_error_ratio", max_error_ratio)
        if on_unknown is not None:
            check_choice("on_unknown", on_unknown, ON_UNKNOWN)
        check_choice("on_invalid", on_invalid, ON_INVALID)
        if text is not None and template is not None:
            raise ValueError("text and template exclude each other: a template names its own columns")
        if not self._from_mapped() and (ledger is False or refresh in (True, "failed") or on_unknown == "resend"):
            # Whatever the DAG's default_args say. Of a mapped task the scheduler knows what `partial` was given, and
            # of a template nothing yet: `execute` refuses a second attempt in any case.
            self.retries = 0
        self._running = self._stopped = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Label the table, and return the summary for XCom."""
        from airflow.sdk import Asset

        from classifaily_connectors import Budget, ConfidencePolicy, classify_table
        from classifaily_connectors.redaction import shown_url
        from classifaily_connectors.retry import check_repetition, replays
        from classifaily_connectors.tables.report import markdown, summary

        options = {"ledger": self._ledger, "refresh": self.refresh, "on_unknown": self.on_unknown}
        with ExitStack() as stack:
            hook = stack.enter_context(ClassifailyHook(self.classifaily_conn_id))
            stack.enter_context(fail_fast(kept=replays(options)))
            check_refresh(self.refresh, (True, False, "failed"))
            check_ledger(self._ledger)
            check_repetition(options, attempt=self._attempt(context))
            self._check_target(context)
            url: str | None = None if self._ledger is False else self._ledger or hook.store_url()
            for doubt in hook.doubts_about(url) if url else ():
                self.log.warning("%s", doubt)
            stack.enter_context(self._accounted(context, url))
            stack.enter_context(self._killable())
            result = classify_table(
                hook.get_conn(),
                _place(self.source),
                output=_place(self.target),
                text=self.text,
                template=self.template,
                id_column=self.id_column,
                identity=self.identity,
                media_folder=None if self.media_folder is None else _place(self.media_folder),
                prefix=self.prefix,
                categories=self._categories,
                schema=cast("int | str | None", self.schema),
                axes=self._axes,
                type=self.type or "text",
                mode=self.mode,
                top_n=self.top_n,
                threshold=self.threshold,
                explain=self.explain,
                ledger=url or False,
                refresh=cast("Any", self.refresh),
                on_unknown=cast("Any", self.on_unknown),
                budget=_made(Budget, self.budget),
                policy=_made(ConfidencePolicy, self.policy),
                max_error_ratio=self.max_error_ratio,
                on_invalid=cast("Any", self.on_invalid),
                batch_size=self.batch_size,
                concurrency=self.concurrency,
                settle_after=self.settle_after,
                format=self.format,
                encoding=self.encoding,
                delimiter=self.delimiter,
                quoting=self.quoting,
                progress=self._show(context),
            )
        told = {**summary(result), "output": str(self.target), "ledger": shown_url(url) if url else None}
        self._push(cast("Any", context).get("ti"), "summary", told)
        kept = f"What was paid is kept in {told['ledger']}" if url else "No ledger: a rerun pays for every row again"
        self.log.info("Labelled %s\n%s\n\n%s", self.target, markdown(told), kept)
        events = cast("Any", context).get("outlet_events")
        for outlet in self.outlets:
            if events is not None and isinstance(outlet, Asset):
                events[outlet].extra.update(told)
        return told

    def _check_target(self, context: Context) -> None:
        """Refuse to replace the table of another task that was mapped from the same operator."""
        from classifaily_connectors.errors import refuse

        place = getattr(cast("Any", context).get("ti"), "map_index", -1)
        written = getattr(self._mapped_as(context), "partial_kwargs", {}).get("target")
        if place > 0 and isinstance(written, str) and "{" not in written and self.target == written:
            raise refuse(
                f"target is {written!r} for every mapped task, and each would replace the last one's table: "
                "map over target too, or name ti.map_index in it"
            )

    def on_kill(self) -> None:
        """Buy nothing more; what is under way is let end and kept, for as long as Airflow waits (five seconds)."""
        from airflow.providers.common.compat.sdk import AirflowTaskTimeout

        if isinstance(sys.exception(), AirflowTaskTimeout):
            return  # Airflow calls this also when an execution_timeout has ended the run
        self._stopped = True
        if self._running:
            self._running = False
            self._stop()

    def _stop(self) -> NoReturn:
        from airflow.providers.common.compat.sdk import AirflowException

        raise AirflowException("told to stop: nothing more is bought, and what was paid is kept")

    @contextmanager
    def _killable(self) -> Generator[None]:
        # Airflow calls on_kill in this thread, in the middle of whatever it does, or before it has begun.
        if self._stopped:
            self._stop()
        self._running = True
        try:
            yield
        finally:
            self._running = False

    @contextmanager
    def _accounted(self, context: Context, ledger: str | None) -> Generator[None]:
        """Whatever ends the run early, the log and the XCom `summary` say what it cost and what a rerun will cost."""
        from classifaily_connectors import BulkStats
        from classifaily_connectors.tables.report import ending

        try:
            yield
        except BaseException as error:
            stats: BulkStats = getattr(error, "stats", None) or BulkStats(ledger=ledger)
            told = ending(stats)
            # Airflow logs the error itself.
            self.log.error("%s; ended by %s", stats.ending(), type(error).__name__)  # noqa: TRY400
            told = {**told, "output": str(self.target), "ended_by": type(error).__name__}
            self._push(cast("Any", context).get("ti"), "summary", told)
            raise

    def _show(self, context: Context) -> Callable[[Progress], None]:
        """Progress as Airflow shows it: an XCom that is renewed while the task runs, and now and then a log line."""
        from classifaily_connectors.tables.report import progress_line

        task = cast("Any", context).get("ti")
        shown = logged = -LOG_SECONDS

        def show(progress: Progress) -> None:
            nonlocal shown, logged
            now = time.monotonic()
            if now - shown >= SHOW_SECONDS or progress.done == progress.total:
                shown = now
                self._push(task, "progress", asdict(progress))
                if self._stopped:  # on_kill raises wherever it finds us, and what only shows had swallowed it
                    self._stop()
            if now - logged >= LOG_SECONDS:
                logged = now
                self.log.info("%s", progress_line(progress))

        return show

    def _push(self, task: Any, key: str, value: Any) -> None:
        """An XCom that is only shown: whatever is wrong with it, the rows go on."""
        if task is None:
            return
        try:
            task.xcom_push(key, value)
        except Exception as error:  # noqa: BLE001
            self.log.warning("XCom %r could not be written: %s", key, type(error).__name__)

    @property
    def _axes(self) -> Mapping[str, Any] | None:
        if isinstance(self.axes, Mapping):
            return {name: plain_categories(each) for name, each in self.axes.items()}
        return cast("Mapping[str, Any] | None", self.axes)


def _place(address: Address) -> Any:
    """The address for the core: a path object that brings Airflow's connection along, where one is named."""
    from airflow.sdk import ObjectStoragePath

    from classifaily_connectors.errors import refuse
    from classifaily_connectors.redaction import shown_url

    if not isinstance(address, str) or "@" not in urlsplit(address).netloc:
        return address
    try:
        return ObjectStoragePath(address)
    except ValueError:  # Airflow knows other file systems than fsspec does
        problem = refuse(f"{shown_url(address)}: Airflow has no file system for it; install the provider that has one")
    raise problem


def _made(kind: Callable[..., T], given: Mapping[str, Any] | str | None) -> T | None:
    """A Budget or ConfidencePolicy from its arguments."""
    if given is None:
        return None
    if isinstance(given, Mapping):
        try:
            return kind(**given)
        except TypeError as error:
            problem = str(error)
    else:
        problem = "it must be a mapping of its arguments"
    from classifaily_connectors.errors import refuse

    raise refuse(f"{kind.__name__}: {problem}; {NATIVE}")
