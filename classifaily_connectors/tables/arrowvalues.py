"""Python values as Arrow arrays, and back.

The law of this file: a value comes out of its array as it went in, or it is refused. Arrow itself drops a time zone,
cuts a date off its time and takes a set for a list without a word.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from classifaily_connectors.places import need
from classifaily_connectors.tables.values import UnwritableError, duration_in, missing

_NOTHING = type(None)
_ARROW_UNITS = ("s", "ms", "us", "ns")


_DEPTH = 100
"""How deep a value may be nested: Arrow goes down without counting, until the process dies."""
_YEAR = re.compile(r"\d{4}-")


def array_of(values: Sequence[Any], type: Any = None) -> Any:
    """A pyarrow array of this type, or of the type that the values have.

    NaN is a number in a column of numbers and null in any other, as all that stands for a missing value is. Raises
    UnwritableError when the values are of several kinds, or would not come out as they are.
    """
    pa = need("pyarrow")
    kinds = set(map(_kind, values))
    natural = kinds <= {str, int, bool, _NOTHING}
    if not natural:
        for offset, value in enumerate(values):
            if _deeper(value, _DEPTH):
                raise UnwritableError(f"is nested more than {_DEPTH} deep", offset)
    cleaned = values if natural else [None if missing(value) else value for value in values]
    if type is None:
        type = _inferred(pa, cleaned, values)
    if pa.types.is_floating(type):
        cleaned = [value if isinstance(value, float) else given for value, given in zip(values, cleaned, strict=True)]
    array = _converted(pa, cleaned, type)
    if not _safe(pa, kinds, type):
        back = values_of(array)
        for offset, value in enumerate(cleaned):
            if not _alike(value, back[offset]):
                raise UnwritableError(f"is a {_kind(value).__name__}, which a column of {type} would change", offset)
    return array


def values_of(array: Any) -> list[Any]:
    """The values of a pyarrow array; times finer than Python's, or of an unknown zone, are texts.

    Raises UnwritableError for what has no form in Python.
    """
    pa = need("pyarrow")
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    type = array.type
    if pa.types.is_nested(type) and "time64[ns]" in str(type) and _too_fine(pa, array):
        raise UnwritableError("holds a time in nanoseconds, which only .parquet can hold: cast it to microseconds")
    try:
        # Arrow cuts the nanoseconds off a time of the day.
        if not (pa.types.is_time64(type) and type.unit == "ns"):
            return cast("list[Any]", array.to_pylist())
    except Exception:  # noqa: BLE001, S110  # dates, zones, text: each has an error of its own for what it cannot do
        pass
    return [_python(pa, array, offset) for offset in range(len(array))]


def _too_fine(pa: Any, array: Any) -> bool:
    """Whether times within something nested are finer than Python's; of what cannot be looked into, they may be."""
    type = array.type
    if pa.types.is_time64(type):
        return any(count is not None and count % 1000 for count in array.cast(pa.int64()).to_pylist())
    if pa.types.is_struct(type):
        return any(_too_fine(pa, each) for each in array.flatten())
    if hasattr(array, "flatten") and pa.types.is_nested(type):
        return _too_fine(pa, array.flatten())
    return bool(pa.types.is_nested(type))


def _python(pa: Any, array: Any, offset: int) -> Any:
    scalar, type = array[offset], array.type
    exact = not (pa.types.is_time64(type) and type.unit == "ns" and scalar.is_valid and scalar.value % 1000)
    try:
        if exact:
            return scalar.as_py()
    except Exception:  # noqa: BLE001, S110  # as above
        pass
    if pa.types.is_duration(type):
        return duration_in(scalar.cast(pa.int64()).as_py(), type.unit)
    if not pa.types.is_temporal(type) or pa.types.is_interval(type):
        raise UnwritableError(f"is of type {type}, and no value that Python can hold: cast it", offset)
    one = array.slice(offset, 1)
    if pa.types.is_timestamp(type) and type.tz is not None:
        one = one.cast(pa.timestamp(type.unit, "UTC"))
    text = str(one.cast(pa.string())[0].as_py())
    if not (pa.types.is_time(type) or _YEAR.match(text)):
        raise UnwritableError("is a date outside the years 1 to 9999, which only .parquet can hold: replace it", offset)
    return text.replace(" ", "T", 1)


def _kind(value: object) -> type[object]:
    return type(value)


def _deeper(value: Any, depth: int) -> bool:
    if not isinstance(value, Mapping | list | tuple):
        return False
    if depth == 0:
        return True
    parts = cast("Sequence[Any]", value.values() if isinstance(value, Mapping) else value)
    return any(_deeper(each, depth - 1) for each in parts)


def _inferred(pa: Any, cleaned: Sequence[Any], values: Sequence[Any]) -> Any:
    found = _converted(pa, cleaned, None).type
    if pa.types.is_integer(found) and any(isinstance(value, float) for value in values):
        return pa.float64()  # whole numbers and NaN
    # Arrow takes microseconds for pandas' dates, which may be finer.
    if pa.types.is_timestamp(found) and any(getattr(value, "nanosecond", 0) for value in cleaned):
        return pa.timestamp("ns", found.tz)
    if pa.types.is_duration(found) and any(getattr(value, "nanoseconds", 0) for value in cleaned):
        return pa.duration("ns")
    return found


def _converted(pa: Any, values: Sequence[Any], type: Any) -> Any:
    try:
        return pa.array(values, type=type)
    except Exception:  # noqa: BLE001, S110  # pyarrow's, Python's, and what foreign types raise when they are asked
        pass
    problem = "that no type of column can hold" if type is None else f"that does not fit the column's type {type}"
    for offset in range(len(values)):
        try:
            pa.array(values[offset : offset + 1], type=type)
        except Exception:  # noqa: BLE001  # as above
            raise UnwritableError(f"is a {_kind(values[offset]).__name__} {problem}", offset) from None
    raise UnwritableError("mixes kinds of values: a column needs one type, so cast it")


def _safe(pa: Any, kinds: set[type[object]], type: Any) -> bool:
    """Whether pyarrow itself refuses to change such values."""
    types = pa.types
    if kinds <= {str, _NOTHING}:
        return bool(types.is_string(type) or types.is_large_string(type) or types.is_null(type))
    if kinds <= {int, float, _NOTHING}:
        return bool(types.is_floating(type) or (types.is_integer(type) and float not in kinds))
    return bool(kinds <= {bool, _NOTHING} and types.is_boolean(type))


def _alike(given: Any, back: Any) -> bool:
    if given is None or back is None:
        return given is back
    if isinstance(given, bytes | bytearray | memoryview):
        return bool(bytes(cast("bytes", given)) == back)
    if getattr(given, "ndim", 0) == 1:
        given = list(given)
    if isinstance(given, Mapping):
        return _alike_keys(cast("Mapping[str, Any]", given), back)
    if isinstance(given, list | tuple):
        items = cast("Sequence[Any]", given)
        if not isinstance(back, list | tuple) or len(items) != len(cast("Sequence[Any]", back)):
            return False
        return all(map(_alike, items, cast("Sequence[Any]", back)))
    if isinstance(given, float) and math.isnan(given):
        return isinstance(back, float) and math.isnan(back)
    if missing(given):
        return False
    try:
        return bool(given == back)
    except Exception:  # noqa: BLE001  # a foreign type's comparison
        return False


def _alike_keys(given: Mapping[str, Any], back: Any) -> bool:
    if not isinstance(back, dict):  # a map column
        return _alike(list(given.items()), back)
    found = cast("dict[str, Any]", back)
    return all(_alike(given.get(name), value) for name, value in found.items()) and given.keys() <= found.keys()
