"""What a delivery's body says: one reader for the receiver, for waiters and for dead letters that are read again.

The law of this file: what can be read is read. A byte order mark, half an emoji or a result nested a thousand deep
makes no delivery a dead letter, as its event and its job's id are plain to see.
"""

from __future__ import annotations

import json
import re
from typing import Any, cast

from classifaily_connectors.fields import as_map
from classifaily_connectors.wire import TooDeepError, json_text, read_json

_SPACE = re.compile(r"[ \t\n\r]*")
_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]|[^"\[\]{}]+', re.DOTALL)
_decode = json.JSONDecoder().raw_decode


def read_body(body: bytes) -> dict[str, Any]:
    """The fields of a delivery; of one that is nested too deep, those that are no list and no object.

    Raises ValueError when the body is no JSON object.
    """
    try:
        wire = read_json(body, lenient=True)
    except TooDeepError:
        return _flat(json_text(body, lenient=True))
    if not isinstance(wire, dict):
        raise ValueError("the body is no JSON object")
    return as_map(cast("object", wire))


def _flat(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    place = _expect(text, 0, "{")
    while _at(text, place) != "}":
        _expect(text, place, '"')
        name, place = _decode(text, _skip(text, place))
        place = _skip(text, _expect(text, place, ":"))
        if text[place : place + 1] in ("[", "{"):
            place = _end(text, place)
        else:
            found[name], place = _decode(text, place)
        if _at(text, place) != "}":
            place = _expect(text, place, ",")
    if _skip(text, _skip(text, place) + 1) != len(text):
        raise ValueError("there is more than one value")
    return found


def _skip(text: str, place: int) -> int:
    found = _SPACE.match(text, place)
    return found.end() if found else place


def _at(text: str, place: int) -> str:
    place = _skip(text, place)
    return text[place : place + 1]


def _expect(text: str, place: int, mark: str) -> int:
    if _at(text, place) != mark:
        raise ValueError(f"there is no {mark}")
    return _skip(text, place) + 1


def _end(text: str, place: int) -> int:
    """Where the list or object ends that begins here."""
    depth = 0
    while found := _PIECE.match(text, place):
        place = found.end()
        depth += (found[0] in ("[", "{")) - (found[0] in ("]", "}"))
        if depth == 0:
            return place
    raise ValueError("it does not end")
