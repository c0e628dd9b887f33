"""What can be gone through, but does not hold one input after the other.

Python goes through a data frame by its column names, through a mapping by its keys, and through an open file by its
lines, the header among them: each of these would be paid for.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Mapping
from typing import cast

from classifaily_connectors.errors import refuse


def check_many(many: object, name: str, *, one: str = "classify") -> None:
    """Raise InvalidRequestError, naming the argument `name` and the fix, when `many` is not a series of inputs.

    `one` is the method that takes a single input.
    """
    kind = type(many)
    wanted = f"{name} must be a list of inputs, not"
    table = "use classify_table(client, ...)"
    if isinstance(many, str | bytes | bytearray | memoryview):
        raise refuse(f"{wanted} one of them ({kind.__name__}): use {one} for one")
    if isinstance(many, os.PathLike):
        raise refuse(f"{wanted} a path ({kind.__name__}): {table} for a file, {one} for one input")
    if isinstance(many, Mapping):
        raise refuse(f"{wanted} a {kind.__name__}, of which only the keys would be read: give e.g. its values")
    if hasattr(many, "readline"):
        raise refuse(f"{wanted} an open file, whose header and line ends would be read too: {table} with its path")
    if _is_frame(kind):
        raise refuse(f"{wanted} a {kind.__name__}, of which only the columns would be read: {table}, or give a column")
    if not isinstance(many, Iterable | AsyncIterable):
        call = ": call it" if callable(many) else ""
        raise refuse(f"{wanted} a {kind.__name__}, which cannot be gone through{call}")


def _is_frame(kind: type[object]) -> bool:
    # The columns of a frame are its data; those of a database's result are a method that chooses some.
    columns = cast("object", getattr(kind, "columns", None))
    return columns is not None and not callable(columns)
