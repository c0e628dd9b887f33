"""The row shape as columns, once or once for each axis: names, types, and three ways to write it.

The law of this file: the types are fixed, whatever the rows hold: a column of a thousand nulls is still text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from classifaily_connectors.bulk.rows import COLUMNS
from classifaily_connectors.errors import refuse
from classifaily_connectors.places import need

if TYPE_CHECKING:
    from classifaily_connectors.bulk.rows import Row

Answer = tuple["Row", ...]
"""What came of one row of a table: one `Row`, or one for each axis."""


class Shape:
    """Our columns beside a table's own; those of an axis are called after it: `topic_label`."""

    def __init__(self, prefix: str, axes: Sequence[str]) -> None:
        self.prefix, self.axes = prefix, axes
        prefixes = [f"{prefix}{axis}_" for axis in axes] or [prefix]
        self.names = tuple(each + name for each in prefixes for name in COLUMNS)

    def check(self, columns: Sequence[str]) -> None:
        """Raise InvalidRequestError when the table has a column of one of these names, in whatever case: databases
        take `Label` and `label` for one."""
        ours = {name.casefold() for name in self.names}
        taken = next((name for name in columns if name.casefold() in ours), None)
        if taken is not None:
            other = "another prefix" if self.prefix else "a prefix, such as prefix='classifaily_'"
            raise refuse(f"the input has a column {taken!r} of its own: pass {other}, or rename it")

    def fields(self) -> list[Any]:
        """Our columns as pyarrow fields."""
        pa = need("pyarrow")
        types = {"confidence": pa.float64(), "labels": pa.list_(pa.struct(_label_fields(pa)))}
        columns = COLUMNS * (len(self.names) // len(COLUMNS))
        return [pa.field(own, types.get(name, pa.string())) for own, name in zip(self.names, columns, strict=True)]

    def arrays(self, answers: Sequence[Answer]) -> list[Any]:
        """Our columns as pyarrow arrays, of at least one answer."""
        return [array for rows in zip(*answers, strict=True) for array in _arrays(rows)]

    def values(self, answer: Answer) -> list[Any]:
        """Our columns as plain data; every label has all three fields."""
        return _values(answer[0]) if len(answer) == 1 else [value for row in answer for value in _values(row)]

    def cells(self, answer: Answer) -> list[Any]:
        """Our columns for a CSV line: `labels` as JSON, nulls as nothing."""
        return _cells(answer[0]) if len(answer) == 1 else [cell for row in answer for cell in _cells(row)]

    def labels(self, answer: Answer) -> Iterator[str]:
        """The answer's labels as they are counted: `billing`, or `topic: billing`."""
        for place, row in enumerate(answer):
            if row.label is not None:
                yield f"{self.axes[place]}: {row.label}" if self.axes else row.label


def _label_fields(pa: Any) -> list[Any]:
    return [pa.field("label", pa.string()), pa.field("confidence", pa.float64()), pa.field("explanation", pa.string())]


def _arrays(rows: Sequence[Row]) -> list[Any]:
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


def _values(row: Row) -> list[Any]:
    shape = [getattr(row, name) for name in COLUMNS]
    shape[_LABELS] = [
        {"label": each.label, "confidence": each.confidence, "explanation": each.explanation} for each in row.labels
    ]
    return shape


def _cells(row: Row) -> list[Any]:
    shape = _values(row)
    shape[_LABELS] = json.dumps(shape[_LABELS], ensure_ascii=False, separators=(",", ":"))
    return shape


_LABELS = COLUMNS.index("labels")
