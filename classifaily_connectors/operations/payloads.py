"""Arguments in, request bodies out.

The law of this file: everything that can be refused before it costs money is refused here, with the name of the
field and the fix; defaults are left to the API by not sending them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from classifaily_connectors.errors import refuse
from classifaily_connectors.media import HALF_A_PAIR, Input, encode_input, is_unicode
from classifaily_connectors.models import Schema
from classifaily_connectors.operations.shapes import check_many
from classifaily_connectors.taxonomy import CategoryLike, parse_categories, to_wire

Item = Input | Mapping[str, Any]
"""One input of a batch: text, or a mapping with `input` and perhaps `id`, `type` and `categories`."""

MODES = ("single", "multi", "top_n")
MAX_TOP_N = 10


class Shared(TypedDict):
    """The options that /classify and /batch share; None and False leave the API's defaults."""

    categories: Iterable[CategoryLike] | None
    schema: int | str | Schema | None
    mode: str | None
    threshold: float | None
    explain: bool


class Options(Shared):
    """The options of /classify."""

    type: str
    top_n: int | None


class BatchOptions(TypedDict, total=False):
    """What a caller may say of a batch, beside the categories; see `ClassifailyClient.batch`."""

    schema: int | str | Schema | None
    type: str | None
    mode: str | None
    threshold: float | None
    explain: bool


class ClassifyOptions(TypedDict, total=False):
    """What a caller may say of one input, beside the categories; see `ClassifailyClient.classify`."""

    schema: int | str | Schema | None
    type: str
    mode: str | None
    top_n: int | None
    threshold: float | None
    explain: bool


_ITEM_FIELDS = frozenset({"id", "input", "type", "categories"})


def encode(payload: Mapping[str, Any]) -> bytes:
    """Compact UTF-8 JSON.

    Raises InvalidRequestError naming the field that holds half a surrogate pair, which no UTF-8 can carry.
    """
    text = _json(payload)
    if not is_unicode(text):
        broken = next(field for field, value in payload.items() if not is_unicode(_json(value)))
        raise refuse(f"{broken} {HALF_A_PAIR}")
    return text.encode()


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def whole(value: object, field: str, low: int, high: int | None = None) -> int:
    """`value`, unless it is no whole number from `low` to `high`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low or (high is not None and value > high):
        bounds = f"from {low} to {high}" if high is not None else f"of {low} or more"
        raise refuse(f"{field} is {value!r}; it must be a whole number {bounds}")
    return value


def classification(input: Input, **options: Unpack[Options]) -> dict[str, Any]:
    """The body of POST /classify (API reference, Classify)."""
    input_type = options["type"]
    payload: dict[str, Any] = {"input": encode_input(input, input_type)}
    if input_type != "text":
        payload["type"] = input_type
    return {**payload, **shared(options, top_n=options["top_n"])}


def batch(items: Iterable[Item], *, type: str | None, **options: Unpack[Shared]) -> tuple[list[str], dict[str, Any]]:
    """The ids of the items, in order, and the body of POST /batch (API reference, Batch).

    Items without an id get their position, so that every answer can be joined to its item.
    """
    check_many(items, "items")
    if not isinstance(items, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]  # an asynchronous one
        raise refuse("items is asynchronous: collect them in a list first, or use classify_many")
    parsed = [_item(item, type, f"items[{place}]") for place, item in enumerate(items)]
    if not parsed:
        raise refuse("items is empty: there is nothing to classify")
    ids = _ids([item.pop("id", None) for item in parsed])
    sent = [{"id": item_id, **item} for item_id, item in zip(ids, parsed, strict=True)]
    return ids, {"items": sent, **shared(options)}


def shared(options: Shared, *, top_n: int | None = None) -> dict[str, Any]:
    """The fields that are the same for every input of a call; `top_n` is for /classify alone."""
    payload: dict[str, Any] = {}
    mode = options["mode"]
    if top_n is not None:
        payload["top_n"] = _checked_top_n(top_n, mode)
        mode = "top_n"
    if options["categories"] is not None:
        payload["categories"] = to_wire(parse_categories(options["categories"]))
    if options["schema"] is not None:
        payload["schema"] = schema_id(options["schema"])
    if mode is not None:
        payload["mode"] = _checked_mode(mode)
    if options["threshold"] is not None:
        payload["threshold"] = _checked_threshold(options["threshold"])
    if options["explain"]:
        payload["explain"] = True
    return payload


def schema_id(schema: object) -> int | str:
    """The id of a schema, given as a number, a text of digits, or a `Schema`."""
    value = schema.id if isinstance(schema, Schema) else schema
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        raise refuse(f"schema must be the id of a saved schema, not {value!r}")
    if not is_unicode(str(value)):
        raise refuse(f"schema {HALF_A_PAIR}")
    return int(value) if str(value).isdecimal() else value


def _item(item: Item, shared_type: str | None, field: str) -> dict[str, Any]:
    given: dict[str, Any] = dict(item) if isinstance(item, Mapping) else {"input": item}
    unknown = sorted(map(str, set(given) - _ITEM_FIELDS))
    if unknown:
        raise refuse(f"{field}.{unknown[0]} is not a field of an item: use id, input, type and categories")
    if given.get("input") is None:
        raise refuse(f"{field}.input is required")
    input_type = given.get("type") or shared_type or "text"
    parsed: dict[str, Any] = {"input": encode_input(given["input"], input_type, f"{field}.input")}
    if given.get("id") is not None:
        if isinstance(given["id"], bool) or not isinstance(given["id"], str | int):
            raise refuse(f"{field}.id must be text or a whole number, not {type(given['id']).__name__}")
        parsed["id"] = str(given["id"])
    # A batch-level type is mentioned but not in the reference's field table; an item's own is.
    if input_type != "text":
        parsed["type"] = input_type
    if given.get("categories") is not None:
        parsed["categories"] = to_wire(parse_categories(given["categories"], f"{field}.categories"))
    return parsed


def _ids(given: Sequence[str | None]) -> list[str]:
    first: dict[str, int] = {}
    for place, item_id in enumerate(given):
        if item_id is not None and first.setdefault(item_id, place) != place:
            raise refuse(f"items[{place}].id repeats items[{first[item_id]}].id: ids must be unique in a batch")
    return [item_id if item_id is not None else _free(str(place), first) for place, item_id in enumerate(given)]


def _free(item_id: str, taken: Mapping[str, int]) -> str:
    while item_id in taken:
        item_id = f"_{item_id}"
    return item_id


def _checked_mode(mode: str) -> str:
    if mode not in MODES:
        raise refuse(f"mode is {mode!r}; it must be one of {', '.join(MODES)}")
    return mode


def _checked_top_n(top_n: object, mode: str | None) -> int:
    if mode not in (None, "top_n"):
        raise refuse(f"top_n goes with mode='top_n', not with mode={mode!r}")
    return whole(top_n, "top_n", 1, MAX_TOP_N)


def _checked_threshold(threshold: object) -> float:
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise refuse(f"threshold is {threshold!r}; it must be a number from 0 to 1")
    return threshold
