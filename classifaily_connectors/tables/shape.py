"""The row shape as columns: names, types, and three ways to write it.

The law of this file: the types are fixed, whatever the rows hold: a column of a thousand nulls is still text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from classifaily_connectors.bulk.rows import COLUMNS
from classifaily_connectors.places import need
from classifaily_connectors.taxonomy import refuse

if TYPE_CHECKING:
    from classifaily_connectors.bulk.rows import Row


def names(columns: Sequence[str], prefix: str) -> tuple[str, ...]:
    """The names of our columns beside `columns`.

    Raises InvalidRequestError for one that is taken.
    """
    ours = tuple(prefix + name for name in COLUMNS)
    taken = next((name for name in ours if name in columns), None)
    if taken is not None:
        other = "another prefix" if prefix else "a prefix, such as prefix='classifaily_'"
        raise refuse(f"the input has a column {taken!r} of its own: pass {other}, or rename it")
    return ours


def fields(prefix: str) -> list[Any]:
    """Our columns as pyarrow fields."""
    pa = need("pyarrow")
    types = {"confidence": pa.float64(), "labels": pa.list_(pa.struct(_label_fields(pa)))}
    return [pa.field(prefix + name, types.get(name, pa.string())) for name in COLUMNS]


def _label_fields(pa: Any) -> list[Any]:
    return [pa.field("label", pa.string()), pa.field("confidence", pa.float64()), pa.field("explanation", pa.string())]


def arrays(rows: Sequence[Row]) -> list[Any]:
    """Our columns as pyarrow arrays."""
    pa = need("pyarrow")
    made: list[Any] = []
    for name in COLUMNS:
        if name == "labels":
            made.append(_labels(pa, rows))
        else:
            values = [getattr(row, name) for row in rows]
            made.append(pa.array(values, type=pa.float64() if name == "confidence" else pa.string()))
    return made


def _labels(pa: Any, rows: Sequence[Row]) -> Any:
    flat = [label for row in rows for label in row.labels]
    offsets = [0]
    for row in rows:
        offsets.append(offsets[-1] + len(row.labels))
    parts = [
        pa.array([label.label for label in flat], type=pa.string()),
        pa.array([label.confidence for label in flat], type=pa.float64()),
        pa.array([label.explanation for label in flat], type=pa.string()),
    ]
    structs = pa.StructArray.from_arrays(parts, fields=_label_fields(pa))
    return pa.ListArray.from_arrays(pa.array(offsets, type=pa.int32()), structs)


def values(row: Row) -> list[Any]:
    """Our columns as plain data; every label has all three fields."""
    shape = [getattr(row, name) for name in COLUMNS]
    shape[_LABELS] = [
        {"label": each.label, "confidence": each.confidence, "explanation": each.explanation} for each in row.labels
    ]
    return shape


def cells(row: Row) -> list[Any]:
    """Our columns for a CSV line: `labels` as JSON, nulls as nothing."""
    shape = values(row)
    shape[_LABELS] = json.dumps(shape[_LABELS], ensure_ascii=False, separators=(",", ":"))
    return shape


_LABELS = COLUMNS.index("labels")
