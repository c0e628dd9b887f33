"""The types of single fields: how a value of the API is read, whatever PHP made of it.

Invariant: a value that cannot be read becomes None, an empty list or an empty map; it never costs the answer that
carries it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, cast

from pydantic import AwareDatetime, BeforeValidator, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

_MAX_DIGITS = 40  # Python refuses to convert very long texts of digits


def as_list(value: object) -> list[Any]:
    """A JSON list, also when PHP sent it as an object with numeric keys or as null."""
    if isinstance(value, Mapping):
        return list(cast("Mapping[str, Any]", value).values())
    if isinstance(value, list | tuple):
        return list(cast("list[Any]", value))
    return []


def as_map(value: object) -> dict[str, Any]:
    """A JSON object, also when PHP sent an empty one as `[]` or the server sent null."""
    if isinstance(value, dict):  # nearly always, and the abstract test below is much slower
        return cast("dict[str, Any]", value).copy()
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else {}


def as_text(value: object) -> object:
    """An integer as text; anything else unchanged, for pydantic to check."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def as_number(value: object) -> object:
    """A text of digits as a number; anything else unchanged."""
    return int(value) if isinstance(value, str) and _is_id(value) else value


def as_count(value: object) -> int | None:
    """A number of requests; None for unlimited."""
    # "Unlimited" is undocumented: null, -1 and a word are all plausible.
    try:
        count = int(cast("str", value))
    except (TypeError, ValueError, OverflowError):
        return None
    return count if count >= 0 else None


def as_instant(value: object, check: ValidatorFunctionWrapHandler) -> datetime | None:
    """A time with its zone; None where it cannot be read."""
    # A date we cannot read must not cost the answer that carries it.
    try:
        return cast("datetime | None", check(value))
    except ValidationError:
        return None


def as_confidence(value: object) -> float | None:
    """A number from 0 to 1; None for everything else."""
    # A confidence we cannot read counts as missing, and a missing one counts as uncertain everywhere.
    try:
        number = float(cast("str", value))
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number <= 1 else None  # 92 may be a percentage or a fault: either way not a confidence


def as_word(value: object) -> str | None:
    """A text or a number as text; None for every other shape."""
    # Words beside the verdict: one of a shape nobody foresaw is dropped, because the verdict is what was paid for.
    return str(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else None


def as_words(value: object) -> list[str]:
    """The texts of a list; entries of another shape are left out."""
    return [word for each in as_list(value) if (word := as_word(each)) is not None]


def as_reference(value: object) -> int | str | None:
    """An id: a number where it is written in digits, else a text."""
    word = as_word(value)
    return int(word) if word is not None and _is_id(word) else word


def _is_id(text: str) -> bool:
    return text.isdecimal() and len(text) < _MAX_DIGITS


Word = Annotated[str | None, BeforeValidator(as_word)]
Id = Annotated[str, BeforeValidator(as_text)]
"""Job and batch ids: the reference calls them integers and shows strings such as "84" and "batch_6612abc"."""
Reference = Annotated[int | str | None, BeforeValidator(as_reference)]
SchemaId = Annotated[int | str, BeforeValidator(as_number)]
Count = Annotated[int | None, BeforeValidator(as_count)]
"""A number of requests; None means unlimited."""
Instant = Annotated[AwareDatetime | None, WrapValidator(as_instant)]
Map = Annotated[dict[str, Any], BeforeValidator(as_map)]
