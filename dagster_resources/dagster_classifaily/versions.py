"""What tells one labelled table from another: the version of the instructions, and that of the content.

The law of this file: both change with what they stand for and with nothing else, so that the UI shows as stale what
is stale.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, cast

from dagster import DataVersion

from classifaily_connectors.taxonomy import fingerprint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from classifaily_connectors import TableResult
    from classifaily_connectors.options import ClassifyTableOptions

_SHAPES_ANSWERS = ("schema", "type", "mode", "top_n", "threshold", "explain", "text", "template", "identity")
_OF_THE_RUN = ("source", "job_id")
"""Our columns that say how a row came by its answer, not what the answer is: a rerun changes them."""


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


def data_version_of(result: TableResult) -> DataVersion | None:
    """The version of the labelled table: of its rows, their order, and their answers, however they were come by.

    The table is read once more for it. None where it cannot be.
    """
    from classifaily_connectors.bulk.rows import COLUMNS
    from classifaily_connectors.tables.opening import open_table

    theirs = result.columns[: len(result.columns) - len(result.added)]
    kept = [name for place, name in enumerate(result.added) if COLUMNS[place % len(COLUMNS)] not in _OF_THE_RUN]
    digest = hashlib.blake2b(json.dumps([theirs, kept]).encode(), digest_size=16)
    try:
        if result.rows:
            for chunk in open_table(result.frame if result.output is None else result.output).chunks():
                for row in zip(*(chunk.given(name) for name in (*theirs, *kept)), strict=True):
                    digest.update(json.dumps(row, default=repr).encode() + b"\n")
    except Exception:  # noqa: BLE001  # all is paid for: a table that can be written and not read is no failure
        return None
    return DataVersion(digest.hexdigest())
