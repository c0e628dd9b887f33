"""The keyword arguments of the operations, once, for everything that passes them on.

The law of this file: it names what `ClassifailyClient` and `classify_table` take and nothing more; a test holds them
equal.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

from classifaily_connectors.operations import payloads
from classifaily_connectors.tables.job import TableOptions

if TYPE_CHECKING:
    from collections.abc import Iterable

    from classifaily_connectors.places import Address
    from classifaily_connectors.tables.checking import OnInvalid
    from classifaily_connectors.taxonomy import CategoryLike


class BatchOptions(payloads.BatchOptions, total=False):
    """Options of `batch`; see `ClassifailyClient.batch`."""

    categories: Iterable[CategoryLike] | None


class ClassifyOptions(payloads.ClassifyOptions, total=False):
    """Options of `classify` and `submit`; see `ClassifailyClient.classify`."""

    categories: Iterable[CategoryLike] | None


class SchemaOptions(TypedDict, total=False):
    """Options of `ensure_schema`; see `ClassifailyClient.schemas.ensure`."""

    description: str | None
    type: str | None
    mode: str | None


class LabellingOptions(TableOptions, total=False):
    """Options of `classify_table` but for where the table goes; see there."""

    text: str | None
    template: str | None
    id_column: str | None
    prefix: str
    max_error_ratio: float | None
    on_invalid: OnInvalid


class ClassifyTableOptions(LabellingOptions, total=False):
    """Options of `classify_table`; see there."""

    output: Address | None
