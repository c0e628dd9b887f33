"""From the arguments of `classify_many` to a run: checked before anything else happens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

from classifaily_connectors.bulk.engine import OnUnknown, Options
from classifaily_connectors.bulk.run import Request
from classifaily_connectors.bulk.terms import Terms
from classifaily_connectors.media import INPUT_TYPES
from classifaily_connectors.operations import payloads
from classifaily_connectors.routing import ConfidencePolicy
from classifaily_connectors.taxonomy import CategoryLike, parse_categories, refuse

if TYPE_CHECKING:
    from classifaily_connectors.bulk.budget import Budget
    from classifaily_connectors.bulk.progress import Progress
    from classifaily_connectors.bulk.source import Rows
    from classifaily_connectors.models import Schema
    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.store import Ledger

ON_UNKNOWN = ("park", "reconcile", "resend")
DEFAULT_CONCURRENCY = 16


class Many(TypedDict):
    """The arguments of `classify_many`."""

    categories: Iterable[CategoryLike] | None
    schema: int | str | Schema | None
    type: str
    mode: str | None
    top_n: int | None
    threshold: float | None
    explain: bool
    text: str | None
    template: str | None
    identity: str | None
    ledger: Ledger | str | bool | None
    budget: Budget | None
    batch_size: int | None
    concurrency: int | None
    ordered: bool
    on_unknown: OnUnknown
    refresh: bool | Literal["failed"]
    policy: ConfidencePolicy | None
    progress: Callable[[Progress], None] | None


def prepare(context: Context, base_url: str, rows: Rows, **many: Unpack[Many]) -> Request:
    """The request for a run.

    Raises InvalidRequestError naming the argument that is wrong.
    """
    if isinstance(rows, str | bytes):
        raise refuse("rows must be many inputs, not one text: use classify for one")
    if many["type"] not in INPUT_TYPES:
        raise refuse(f"type is {many['type']!r}; it must be one of {', '.join(INPUT_TYPES)}")
    if many["on_unknown"] not in ON_UNKNOWN:
        raise refuse(f"on_unknown is {many['on_unknown']!r}; it must be one of {', '.join(ON_UNKNOWN)}")
    for name in ("batch_size", "concurrency"):
        if many[name] is not None:
            payloads.whole(many[name], name, 1)
    categories = None
    if many["categories"] is not None and many["schema"] is None:  # a schema beats categories (API reference)
        categories = parse_categories(many["categories"])
    shared = payloads.Shared(
        categories=categories,
        schema=many["schema"],
        mode=many["mode"],
        threshold=many["threshold"],
        explain=many["explain"],
    )
    terms = Terms(
        shared=payloads.shared(shared, top_n=many["top_n"]),
        type=many["type"],
        categories=categories,
        base_url=base_url,
        text=many["text"],
        template=many["template"],
        identity=many["identity"],
    )
    options = Options(
        batch_size=many["batch_size"],
        concurrency=many["concurrency"] or DEFAULT_CONCURRENCY,
        ordered=many["ordered"],
        on_unknown=many["on_unknown"],
        refresh=many["refresh"],
        budget=many["budget"],
        policy=many["policy"] or ConfidencePolicy(),
        progress=many["progress"],
        total=len(rows) if isinstance(rows, Sized) else None,
    )
    return Request(rows, terms, options, many["ledger"], context)
