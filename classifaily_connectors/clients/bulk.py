"""The bulk methods of the synchronous client; `async_bulk` holds the twin."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Unpack, overload

from classifaily_connectors.arguments import checked_keywords
from classifaily_connectors.bulk.axes import AxesRun, parse_axes
from classifaily_connectors.bulk.prepare import DEFAULT_CONCURRENCY, prepare
from classifaily_connectors.bulk.reconcile import SETTLE_AFTER
from classifaily_connectors.bulk.run import BulkRun
from classifaily_connectors.clients.resources import Resource

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from classifaily_connectors.bulk.budget import Budget
    from classifaily_connectors.bulk.decisions import OnUnknown
    from classifaily_connectors.bulk.plan import Plan
    from classifaily_connectors.bulk.prepare import ManyOptions
    from classifaily_connectors.bulk.progress import Progress
    from classifaily_connectors.bulk.source import Rows
    from classifaily_connectors.models import Schema
    from classifaily_connectors.routing import ConfidencePolicy
    from classifaily_connectors.store import Ledger
    from classifaily_connectors.taxonomy import CategorySet

E = TypeVar("E", bound=Enum)


class BulkMethods(Resource):
    """`classify_many`, `classify_axes` and their plans."""

    @overload  # an Enum is a set like any other, and more
    def classify_many(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, rows: Rows, *, categories: type[E], **options: Unpack[ManyOptions]
    ) -> BulkRun[E]: ...
    @overload
    def classify_many(
        self, rows: Rows, *, categories: CategorySet | None = None, **options: Unpack[ManyOptions]
    ) -> BulkRun: ...
    @checked_keywords
    def classify_many(
        self,
        rows: Rows,
        *,
        categories: CategorySet | None = None,
        schema: int | str | Schema | None = None,
        type: str = "text",
        mode: str | None = None,
        top_n: int | None = None,
        threshold: float | None = None,
        explain: bool = False,
        text: str | None = None,
        template: str | None = None,
        identity: str | None = None,
        ledger: Ledger | str | os.PathLike[str] | Literal[False] | None = None,
        budget: Budget | None = None,
        on_unknown: OnUnknown | None = None,
        settle_after: float = SETTLE_AFTER,
        refresh: bool | Literal["failed"] = False,
        batch_size: int | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        ordered: bool = True,
        policy: ConfidencePolicy | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> BulkRun[Any]:
        """Classify any number of rows, each distinct input paid once; iterate what it returns, which yields `Row`s.

        `rows` are texts, or mappings: of items (`input` and perhaps `type`, `categories`), or of table columns, of
        which `text` names the one to classify or `template` joins several ("Subject: {subject}\\n\\n{body}").
        `identity` names the column that tells media apart (a hash, an etag) where the URL does not.

        `ledger` (a store URL or `Ledger`) remembers what was paid, across runs, crashes and machines; None uses
        CLASSIFAILY_STORE_URL, else this run's memory; False none. `on_unknown` says what to do with inputs that may
        have been paid without an answer: "park" leaves them, "reconcile" waits until `settle_after` seconds (60) after
        the request and asks the API's history, "resend" may pay twice; None parks what is lost now and reconciles what
        earlier runs lost at least as long ago.
        `refresh=True` pays again on purpose, `refresh="failed"` for failed rows only. `budget` stops before a limit,
        by default before the month's quota. At most `concurrency` requests (16) of `batch_size` items (the plan's)
        are under way. `policy` routes each answer; `progress` is called a few times a second.

        A row that fails is a row, never an exception. Raises, once what was paid has landed: BudgetExceededError,
        QuotaExceededError, AuthenticationError, PlanRestrictionError and what else ends the whole run.
        """
        request = prepare(
            self._context,
            self._transport.settings.base_url,
            rows,
            categories=categories,
            schema=schema,
            type=type,
            mode=mode,
            top_n=top_n,
            threshold=threshold,
            explain=explain,
            text=text,
            template=template,
            identity=identity,
            ledger=ledger,
            budget=budget,
            on_unknown=on_unknown,
            settle_after=settle_after,
            refresh=refresh,
            batch_size=batch_size,
            concurrency=concurrency,
            ordered=ordered,
            policy=policy,
            progress=progress,
        )
        return BulkRun(request, self._transport)

    @checked_keywords
    def plan(
        self,
        rows: Rows,
        *,
        categories: CategorySet | None = None,
        schema: int | str | Schema | None = None,
        type: str = "text",
        mode: str | None = None,
        top_n: int | None = None,
        threshold: float | None = None,
        explain: bool = False,
        text: str | None = None,
        template: str | None = None,
        identity: str | None = None,
        ledger: Ledger | str | os.PathLike[str] | Literal[False] | None = None,
        budget: Budget | None = None,
        on_unknown: OnUnknown | None = None,
        settle_after: float = SETTLE_AFTER,
        refresh: bool | Literal["failed"] = False,
        batch_size: int | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        ordered: bool = True,
        policy: ConfidencePolicy | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Plan:
        """What `classify_many` would buy for these arguments, from the ledger and the usage alone; spends nothing."""
        run = self.classify_many(
            rows,
            categories=categories,
            schema=schema,
            type=type,
            mode=mode,
            top_n=top_n,
            threshold=threshold,
            explain=explain,
            text=text,
            template=template,
            identity=identity,
            ledger=ledger,
            budget=budget,
            on_unknown=on_unknown,
            settle_after=settle_after,
            refresh=refresh,
            batch_size=batch_size,
            concurrency=concurrency,
            ordered=ordered,
            policy=policy,
            progress=progress,
        )
        return run.plan()

    @checked_keywords
    def classify_axes(
        self,
        rows: Rows,
        axes: Mapping[str, CategorySet],
        *,
        type: str = "text",
        mode: str | None = None,
        top_n: int | None = None,
        threshold: float | None = None,
        explain: bool = False,
        text: str | None = None,
        template: str | None = None,
        identity: str | None = None,
        ledger: Ledger | str | os.PathLike[str] | Literal[False] | None = None,
        budget: Budget | None = None,
        on_unknown: OnUnknown | None = None,
        settle_after: float = SETTLE_AFTER,
        refresh: bool | Literal["failed"] = False,
        batch_size: int | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        ordered: bool = True,
        policy: ConfidencePolicy | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> AxesRun:
        """Ask several category sets about the same rows: `axes={"topic": ["billing", "other"], "urgency": Urgency}`.

        Iterate what it returns, which yields one `AxesRow` for each row: `row["topic"].label`. Each axis of each row is
        a request of its own to the quota, the `budget` and the ledger, which knows an answer that `classify_many` has
        bought for the same set. Options and errors are those of `classify_many`.
        """
        parsed_axes = parse_axes(axes, policy)
        request = prepare(
            self._context,
            self._transport.settings.base_url,
            rows,
            axes=parsed_axes,
            type=type,
            mode=mode,
            top_n=top_n,
            threshold=threshold,
            explain=explain,
            text=text,
            template=template,
            identity=identity,
            ledger=ledger,
            budget=budget,
            on_unknown=on_unknown,
            settle_after=settle_after,
            refresh=refresh,
            batch_size=batch_size,
            concurrency=concurrency,
            ordered=ordered,
            policy=policy,
            progress=progress,
        )
        return AxesRun(BulkRun(request, self._transport), parsed_axes)

    @checked_keywords
    def plan_axes(
        self,
        rows: Rows,
        axes: Mapping[str, CategorySet],
        *,
        type: str = "text",
        mode: str | None = None,
        top_n: int | None = None,
        threshold: float | None = None,
        explain: bool = False,
        text: str | None = None,
        template: str | None = None,
        identity: str | None = None,
        ledger: Ledger | str | os.PathLike[str] | Literal[False] | None = None,
        budget: Budget | None = None,
        on_unknown: OnUnknown | None = None,
        settle_after: float = SETTLE_AFTER,
        refresh: bool | Literal["failed"] = False,
        batch_size: int | None = None,
        concurrency: int = DEFAULT_CONCURRENCY,
        ordered: bool = True,
        policy: ConfidencePolicy | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> Plan:
        """What `classify_axes` would buy for these arguments, all axes together; spends nothing."""
        run = self.classify_axes(
            rows,
            axes,
            type=type,
            mode=mode,
            top_n=top_n,
            threshold=threshold,
            explain=explain,
            text=text,
            template=template,
            identity=identity,
            ledger=ledger,
            budget=budget,
            on_unknown=on_unknown,
            settle_after=settle_after,
            refresh=refresh,
            batch_size=batch_size,
            concurrency=concurrency,
            ordered=ordered,
            policy=policy,
            progress=progress,
        )
        return run.plan()
