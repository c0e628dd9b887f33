"""The keyword arguments of the core's operations, once, for everything here that passes them on.

The law of this file: it names what `ClassifailyClient` takes and nothing more; a test holds the two equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable

    from classifaily_connectors import Schema
    from classifaily_connectors.taxonomy import CategoryLike


class BatchOptions(TypedDict, total=False):
    """Options of `batch`; see `ClassifailyClient.batch`."""

    categories: Iterable[CategoryLike] | None
    schema: int | str | Schema | None
    type: str | None
    mode: str | None
    threshold: float | None
    explain: bool


class ClassifyOptions(TypedDict, total=False):
    """Options of `classify` and `submit`; see `ClassifailyClient.classify`."""

    categories: Iterable[CategoryLike] | None
    schema: int | str | Schema | None
    type: str
    mode: str | None
    top_n: int | None
    threshold: float | None
    explain: bool


class SchemaOptions(TypedDict, total=False):
    """Options of `ensure_schema`; see `ClassifailyClient.schemas.ensure`."""

    description: str | None
    type: str | None
    mode: str | None
