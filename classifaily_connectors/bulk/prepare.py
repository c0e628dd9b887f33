"""From the arguments of `classify_many` to a run: checked before anything else happens."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sized
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from classifaily_connectors.arguments import check_names
from classifaily_connectors.bulk.axes import Axis, repeated
from classifaily_connectors.bulk.engine import Options
from classifaily_connectors.bulk.reconcile import SETTLE_AFTER
from classifaily_connectors.bulk.session import Request
from classifaily_connectors.bulk.terms import Terms
from classifaily_connectors.enums import categories_of, taxonomy_of
from classifaily_connectors.errors import refuse
from classifaily_connectors.media import INPUT_TYPES
from classifaily_connectors.operations import payloads
from classifaily_connectors.operations.shapes import check_many
from classifaily_connectors.routing import ConfidencePolicy
from classifaily_connectors.taxonomy import CategoryLike, parse_categories

if TYPE_CHECKING:
    from classifaily_connectors.bulk.budget import Budget
    from classifaily_connectors.bulk.decisions import OnUnknown
    from classifaily_connectors.bulk.progress import Progress
    from classifaily_connectors.bulk.source import Rows
    from classifaily_connectors.models import Schema
    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.store import Ledger

ON_UNKNOWN = ("park", "reconcile", "resend")
DEFAULT_CONCURRENCY = 16
MAX_SETTLE_AFTER = 86_400
"""Seconds, well below the days for which the API keeps its history."""


class RunOptions(TypedDict, total=False):
    """What every bulk run takes, whatever its rows and its category sets."""

    type: str
    mode: str | None
    top_n: int | None
    threshold: float | None
    explain: bool
    identity: str | None
    ledger: Ledger | str | os.PathLike[str] | Literal[False] | None
    budget: Budget | None
    batch_size: int | None
    concurrency: int
    on_unknown: OnUnknown | None
    settle_after: float
    refresh: bool | Literal["failed"]
    policy: ConfidencePolicy | None
    progress: Callable[[Progress], None] | None


class AxesOptions(RunOptions, total=False):
    """The options of `classify_axes`."""

    text: str | None
    template: str | None
    ordered: bool


class ManyOptions(AxesOptions, total=False):
    """The options of `classify_many`, beside the categories."""

    schema: int | str | Schema | None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else -1.0


def prepare(
    context: Context,
    base_url: str,
    rows: Rows,
    *,
    categories: Iterable[CategoryLike] | None = None,
    axes: tuple[Axis, ...] = (),
    **many: Unpack[ManyOptions],
) -> Request:
    """The request for a run over one category set, or over several `axes`.

    Raises InvalidRequestError naming the argument that is wrong.
    """
    taken, owner = (AxesOptions, "classify_axes()") if axes else (ManyOptions, "classify_many()")
    check_names(many, taken.__annotations__, owner)
    if axes and categories is not None:
        raise refuse("categories do not go with axes: give them as one of the axes")
    check_many(rows, "rows")
    input_type, on_unknown = many.get("type", "text"), many.get("on_unknown")
    if input_type not in INPUT_TYPES:
        raise refuse(f"type is {input_type!r}; it must be one of {', '.join(INPUT_TYPES)}")
    if on_unknown is not None and on_unknown not in ON_UNKNOWN:
        raise refuse(f"on_unknown is {on_unknown!r}; it must be one of {', '.join(ON_UNKNOWN)}")
    if many.get("batch_size") is not None:
        payloads.whole(many.get("batch_size"), "batch_size", 1)
    payloads.whole(many.get("concurrency", DEFAULT_CONCURRENCY), "concurrency", 1)
    settle_after = many.get("settle_after", SETTLE_AFTER)
    if not 0 <= _number(settle_after) <= MAX_SETTLE_AFTER:
        raise refuse(f"settle_after is {settle_after!r}; it must be seconds, from 0 to {MAX_SETTLE_AFTER}")
    times = len(axes) or 1
    schema, taxonomy = many.get("schema"), taxonomy_of(categories)
    parsed = None
    if categories is not None and schema is None:  # a schema beats categories (API reference)
        parsed = parse_categories(categories)
    shared = payloads.Shared(
        categories=parsed,
        schema=schema,
        mode=many.get("mode"),
        threshold=many.get("threshold"),
        explain=many.get("explain", False),
    )
    terms = Terms(
        shared=payloads.shared(shared, top_n=many.get("top_n")),
        type=input_type,
        categories=parsed,
        axes=tuple(axis.own for axis in axes),
        members=None if taxonomy is None else frozenset(each.name for each in categories_of(taxonomy)),
        base_url=base_url,
        text=many.get("text"),
        template=many.get("template"),
        identity=many.get("identity"),
    )
    options = Options(
        batch_size=many.get("batch_size"),
        concurrency=many.get("concurrency", DEFAULT_CONCURRENCY),
        ordered=many.get("ordered", True),
        on_unknown=on_unknown,
        refresh=many.get("refresh", False),
        budget=many.get("budget"),
        policy=many.get("policy") or ConfidencePolicy(),
        progress=many.get("progress"),
        total=len(rows) * times if isinstance(rows, Sized) else None,
        settle_after=float(settle_after),
    )
    return Request(repeated(rows, times) if axes else rows, terms, options, many.get("ledger"), context, taxonomy)
