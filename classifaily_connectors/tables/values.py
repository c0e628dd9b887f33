"""Values of any library as what CSV and JSON can hold.

The law of this file: a value is written as what it is, or refused; never as what `str()` makes of it. A missing value
(None, NaN, NA, NaT) is null, a number stays a number to its last digit, dates and durations are written in ISO 8601,
bytes in base64.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import os
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, cast

from classifaily_connectors.media import HALF_A_PAIR, is_unicode

_AS_IT_IS: frozenset[type] = frozenset({str, int, bool, type(None)})
_NANOSECONDS = {
    "W": 604_800_000_000_000, "D": 86_400_000_000_000, "h": 3_600_000_000_000, "m": 60_000_000_000,
    "s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1,
}  # fmt: skip
_FLAT = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode  # `dumps` makes one for every call


class UnwritableError(Exception):
    """Why a value has no form in a file; `offset` is its row in the chunk, where that is known."""

    def __init__(self, problem: str, offset: int | None = None) -> None:
        super().__init__(problem)
        self.problem, self.offset = problem, offset


def missing(value: Any) -> bool:
    """Whether a value is a library's way of saying that there is none: None, NaN, NA or NaT."""
    return (
        value is None
        or (isinstance(value, float | Decimal) and math.isnan(value))
        or type(value).__name__ in ("NAType", "NaTType")
    )


def plain_column(values: Sequence[Any]) -> Sequence[Any]:
    """The values of a column as JSON can hold them; the same sequence when they already are so.

    Raises UnwritableError with the row of the first that has no such form.
    """
    kinds = set(map(type, values))
    if kinds <= _AS_IT_IS or (kinds <= _AS_IT_IS | {float} and _finite(values)):
        return values
    return _each(plain, values)


def cell_column(values: Sequence[Any]) -> Sequence[Any]:
    """The values of a column as cells of a CSV line: null is nothing, anything nested is JSON.

    Raises UnwritableError with the row of the first that has no such form.
    """
    kinds = set(map(type, values))
    bare = kinds <= _AS_IT_IS or (kinds <= _AS_IT_IS | {float} and _finite(values))
    cells = values if bare else _each(_cell, values)
    if str not in kinds and bare:
        return cells
    # A blank between, lest two halves in neighbouring cells pass for a whole.
    if not is_unicode(" ".join(cell for cell in cells if isinstance(cell, str))):
        for offset, cell in enumerate(cells):
            if isinstance(cell, str) and not is_unicode(cell):
                raise UnwritableError(HALF_A_PAIR, offset)
    return cells


def to_json(value: Any) -> str:
    """Plain data as JSON; decimal numbers keep every digit."""
    try:
        return _FLAT(value)
    except TypeError:  # a Decimal somewhere, which the standard encoder does not know
        return _exact(value)


def plain(value: Any) -> Any:
    """One value as JSON can hold it: None, bool, int, finite float, Decimal, str, list or dict.

    Raises UnwritableError when it has no such form.
    """
    known = _PLAIN.get(cast("Any", type(value)))
    if known is not None:
        return known(value)
    if missing(value):
        return None
    for kind, turned in _KINDS:
        if isinstance(value, kind):
            return turned(value)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic | numpy.ndarray):
        return _numpy(value, numpy)
    raise UnwritableError(f"is a {type(value).__name__}, which has no form in such a file: cast it")


def duration(nanoseconds: int) -> str:
    """A length of time as ISO 8601 writes it: P1DT2H3M4.5S."""
    sign, rest = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    days, rest = divmod(rest, _NANOSECONDS["D"])
    hours, rest = divmod(rest, _NANOSECONDS["h"])
    minutes, rest = divmod(rest, _NANOSECONDS["m"])
    seconds, fraction = divmod(rest, _NANOSECONDS["s"])
    part = f".{fraction:09d}".rstrip("0") if fraction else ""
    return f"{sign}P{days}DT{hours}H{minutes}M{seconds}{part}S"


def duration_in(count: int, unit: str) -> str:
    """So many of a numpy or Arrow unit ("s", "ms", "us", "ns", …) as ISO 8601 writes it."""
    if unit not in _NANOSECONDS:
        raise UnwritableError(f"is a length of time in {unit!r}, which has no fixed length: cast it to seconds")
    return duration(count * _NANOSECONDS[unit])


def _each(turned: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    try:
        return [turned(value) for value in values]
    except Exception:  # noqa: BLE001  # whatever it is, it is found again, with its row
        return [_located(turned, value, offset) for offset, value in enumerate(values)]


def _located(turned: Any, value: Any, offset: int) -> Any:
    try:
        return turned(value)
    except UnwritableError as error:
        raise UnwritableError(error.problem, offset) from None
    except RecursionError:
        problem = "is nested too deeply"
    except Exception as error:  # noqa: BLE001  # whatever a foreign type raises when it is asked for its value
        problem = f"cannot be read ({type(error).__name__})"
    raise UnwritableError(problem, offset)


def _finite(values: Sequence[Any]) -> bool:
    return all(math.isfinite(value) for value in values if type(value) is float)


def _cell(value: Any) -> Any:
    if isinstance(value, float) and math.isinf(value):
        return repr(float(value))
    made = plain(value)
    return to_json(made) if isinstance(made, list | dict) else made


def _float(value: float) -> float | None:
    if math.isnan(value):
        return None
    if math.isinf(value):
        raise UnwritableError("is infinite, which JSON cannot write: replace it")
    return float(value)


def _decimal(value: Decimal) -> Decimal | None:
    if value.is_nan():
        return None
    if value.is_infinite():
        raise UnwritableError("is infinite, which JSON cannot write: replace it")
    return value


def _timedelta(value: dt.timedelta) -> str:
    micro = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    return duration(micro * 1_000 + int(getattr(value, "nanoseconds", 0)))  # pandas counts them beside


def _iso(value: Any) -> str:
    return str(value.isoformat())


def _base64(value: Any) -> str:
    return base64.b64encode(bytes(value)).decode()


def _list(value: Any) -> list[Any]:
    if type(value).__name__ == "MonthDayNano":
        raise UnwritableError("is an interval of months, days and nanoseconds: cast it")
    return [plain(each) for each in value]


def _dict(value: Mapping[Any, Any]) -> dict[str, Any]:
    for name in value:
        if not isinstance(name, str):
            raise UnwritableError(f"has a key that is a {type(name).__name__}, not text")
    return {str(name): plain(each) for name, each in value.items()}


def _numpy(value: Any, numpy: Any) -> Any:
    kind = value.dtype.kind
    if isinstance(value, numpy.ndarray):
        if value.ndim == 0:
            return plain(value[()])
        # `tolist` would make plain counts of dates.
        return [plain(each) for each in (value if kind in "mMO" or value.ndim > 1 else value.tolist())]
    if kind == "M":
        return None if numpy.isnat(value) else str(value)
    if kind == "m":
        unit, count = numpy.datetime_data(value.dtype)
        return None if numpy.isnat(value) else duration_in(int(value.astype("int64")) * count, unit)
    item = value.item()
    if isinstance(item, (numpy.generic, complex, tuple)):
        raise UnwritableError(f"is a {type(value).__name__}, which has no form in such a file: cast it")
    return plain(item)


def _exact(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, dict):
        pairs = cast("dict[str, Any]", value).items()
        return "{" + ", ".join(f"{_FLAT(name)}: {_exact(each)}" for name, each in pairs) + "}"
    if isinstance(value, list):
        items = cast("Sequence[Any]", value)
        return "[" + ", ".join(_exact(each) for each in items) + "]"
    return _FLAT(value)


def _same(value: Any) -> Any:
    return value


_PLAIN: dict[type, Any] = {
    **dict.fromkeys(_AS_IT_IS, _same),
    float: _float, Decimal: _decimal, list: _list, tuple: _list, dict: _dict, bytes: _base64,
    dt.datetime: _iso, dt.date: _iso, dt.time: _iso, dt.timedelta: _timedelta,
}  # fmt: skip
"""The types that tables are full of, found without asking each kind in turn."""
_KINDS: tuple[tuple[Any, Any], ...] = (
    (str, str.__str__), (bool, bool), (int, int), (float, _float), (Decimal, _decimal), (Mapping, _dict),
    (list, _list), (tuple, _list), (dt.timedelta, _timedelta), (dt.date | dt.time, _iso),
    (bytes | bytearray | memoryview, _base64), (uuid.UUID, str), (os.PathLike, os.fspath),
)  # fmt: skip
