"""Requests read strictly, field by field (API reference: Request body, Batch, Schemas, Webhooks, Category objects).

The law of this file: the first fault is refused in the API's words, naming the field; fields nobody documented are
left alone; no state is read, so what is valid does not depend on who asks.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from .verdicts import Category
from .wire import invalid, is_list

if TYPE_CHECKING:
    from .switches import Switches

TYPES = ("text", "image", "audio", "video")
EVENTS = ("*", "job.completed", "job.failed", "batch.completed")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_IMAGE_HEADS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM", b"<svg", b"II*\x00", b"MM\x00*")
_TOP_N_MAX = 10


@dataclass(frozen=True, slots=True)
class Work:
    """One input and how it is to be classified."""

    input: str = field(repr=False)
    type: str
    categories: list[Any] | None
    schema: int | None
    mode: str | None
    top_n: int
    threshold: float
    explain: bool
    id: str | None = None
    """The caller's own id of a batch item."""


def read_work(data: dict[str, Any], switches: Switches) -> Work:
    """The body of /classify."""
    return Work(input=_input(data, "Field 'input'"), **_shared(data, switches))


def read_items(data: dict[str, Any], switches: Switches, check_size: Callable[[int], None]) -> list[Work]:
    """The body of /batch; `check_size` refuses a number of items before they are read one by one."""
    items = data.get("items")
    if items is None:
        raise invalid("Field 'items' is required.")
    if not is_list(items):
        raise invalid("Field 'items' must be an array.")
    if not items:
        raise invalid("Field 'items' must not be empty.")
    check_size(len(items))
    shared = _shared(data, switches)
    return [_item(entry, f"items[{index}]", shared, switches) for index, entry in enumerate(items)]


def _item(data: Any, where: str, shared: dict[str, Any], switches: Switches) -> Work:
    if not isinstance(data, dict):
        raise invalid(f"{where} must be an object.")
    entry = cast("dict[str, Any]", data)
    options = dict(shared)
    if entry.get("type") is not None:
        options["type"] = _choice(entry, "type", TYPES, f"{where}.type", "text")
    categories = read_categories(entry.get("categories"), f"{where}.categories")
    if categories is not None and (switches.batch_precedence == "item" or options["schema"] is None):
        options["categories"], options["schema"] = categories, None
    id = entry.get("id")
    if isinstance(id, int) and not isinstance(id, bool):
        id = str(id)
    if id is not None and not isinstance(id, str):
        raise invalid(f"{where}.id must be a string.")
    return Work(input=_input(entry, f"{where}.input", options["type"]), id=id, **options)


def _shared(data: dict[str, Any], switches: Switches) -> dict[str, Any]:
    schema = data.get("schema", data.get("schema_id"))
    if schema is not None and (not isinstance(schema, int) or isinstance(schema, bool)):
        raise invalid("Field 'schema' must be an integer.")
    top_n = data.get("top_n")
    if top_n is None:
        top_n = 3
    if not isinstance(top_n, int) or isinstance(top_n, bool):
        raise invalid("Field 'top_n' must be an integer.")
    if top_n > _TOP_N_MAX and switches.over_max == "clamp":
        top_n = _TOP_N_MAX
    if not 1 <= top_n <= _TOP_N_MAX:
        raise invalid(f"Field 'top_n' must be between 1 and {_TOP_N_MAX}.")
    threshold = data.get("threshold")
    if threshold is None:
        threshold = 0.0
    if not isinstance(threshold, (int, float)) or isinstance(threshold, bool):
        raise invalid("Field 'threshold' must be a number.")
    if not 0 <= threshold <= 1:
        raise invalid("Field 'threshold' must be between 0 and 1.")
    return {
        "type": _choice(data, "type", TYPES, "Field 'type'", "text"),
        "mode": _choice(data, "mode", ("single", "multi", "top_n"), "Field 'mode'", None),
        "categories": read_categories(data.get("categories"), "Field 'categories'"),
        "schema": schema,
        "top_n": top_n,
        "threshold": float(threshold),
        "explain": read_flag(data, "explain"),
    }


def read_flag(data: dict[str, Any], name: str) -> bool:
    """A boolean field, False when absent."""
    value = data.get(name)
    if value is None:
        return False
    if not isinstance(value, bool):
        raise invalid(f"Field '{name}' must be a boolean.")
    return value


def _choice(data: dict[str, Any], name: str, choices: tuple[str, ...], where: str, default: str | None) -> str | None:
    value = data.get(name)
    if value is None:
        return default
    if value not in choices:
        raise invalid(f"{where} must be one of {', '.join(choices)}.")
    return cast("str", value)


def _input(data: dict[str, Any], where: str, type: str | None = None) -> str:
    value = data.get("input")
    if value is None:
        raise invalid(f"{where} is required.")
    if not isinstance(value, str):
        raise invalid(f"{where} must be a string.")
    if not value.strip():
        raise invalid(f"{where} must not be empty.")
    kind = type or data.get("type") or "text"
    if kind in TYPES[1:]:
        _check_media(value, cast("str", kind), where)
    return value


def _check_media(value: str, kind: str, where: str) -> None:
    if value.startswith("data:"):
        if kind != "image":
            raise invalid(f"{where} must be a public URL; data URIs are for images only.")
        head, comma, payload = value.partition(",")
        if not comma or not head.startswith("data:image/") or not head.endswith(";base64"):
            raise invalid(f"{where} is not a base64 data URI of an image.")
        try:
            content = base64.b64decode(payload, validate=True)
        except (binascii.Error, ValueError):
            raise invalid(f"{where} is not valid base64.") from None
        if not content.startswith(_IMAGE_HEADS):
            raise invalid(f"{where} holds no image.")
        return
    try:
        url = urlsplit(value)
        known = url.scheme in ("http", "https") and bool(url.hostname)
    except ValueError:
        known = False
    if not known:
        raise invalid(f"{where} must be a public URL{' or a base64 data URI' if kind == 'image' else ''}.")


def read_categories(value: Any, where: str) -> list[Any] | None:
    """A category list as it was sent, checked; None when absent."""
    if value is None:
        return None
    if not is_list(value):
        raise invalid(f"{where} must be an array.")
    if not value:
        raise invalid(f"{where} must not be empty.")
    bare = where.removeprefix("Field '").removesuffix("'")
    for index, entry in enumerate(value):
        at = f"{bare}[{index}]"
        if isinstance(entry, dict):
            _check_category(cast("dict[str, Any]", entry), at)
        elif not isinstance(entry, str) or not entry.strip():
            raise invalid(f"{at} must be a non-empty string or a category object.")
    return value


def _check_category(entry: dict[str, Any], at: str) -> None:
    name = entry.get("name")
    if name is None:
        raise invalid(f"{at}.name is required.")
    if not isinstance(name, str) or not name.strip():
        raise invalid(f"{at}.name must be a non-empty string.")
    if not isinstance(entry.get("description"), (str, type(None))):
        raise invalid(f"{at}.description must be a string.")
    examples = entry.get("examples")
    if examples is None:
        return
    if not is_list(examples) or not all(isinstance(one, str) for one in examples):
        raise invalid(f"{at}.examples must be an array of strings.")


def to_categories(entries: list[Any]) -> tuple[Category, ...]:
    """Checked entries as the matcher takes them."""
    if all(isinstance(entry, str) for entry in entries):
        return _named(tuple(entries))
    return tuple(
        Category(entry)
        if isinstance(entry, str)
        else Category(entry["name"], entry.get("description"), tuple(entry.get("examples") or ()))
        for entry in entries
    )


@lru_cache(maxsize=256)
def _named(names: tuple[str, ...]) -> tuple[Category, ...]:
    return tuple(Category(name) for name in names)


def read_schema(data: dict[str, Any], *, partial: bool = False) -> dict[str, Any]:
    """The fields of a schema; with `partial` only those that are there."""
    readers: dict[str, Callable[[dict[str, Any]], Any]] = {
        "name": _schema_name,
        "categories": _schema_categories,
        "description": _schema_description,
        "type": lambda data: _choice(data, "type", (*TYPES, "any"), "Field 'type'", "any"),
        "mode": _schema_mode,
    }
    return {name: read(data) for name, read in readers.items() if name in data or not partial}


def _schema_name(data: dict[str, Any]) -> str:
    name = data.get("name")
    if name is None:
        raise invalid("Field 'name' is required.")
    if not isinstance(name, str) or not name.strip():
        raise invalid("Field 'name' must be a non-empty string.")
    return name


def _schema_categories(data: dict[str, Any]) -> list[Any]:
    categories = read_categories(data.get("categories"), "Field 'categories'")
    if categories is None:
        raise invalid("Field 'categories' is required.")
    return categories


def _schema_description(data: dict[str, Any]) -> str | None:
    description = data.get("description")
    if description is not None and not isinstance(description, str):
        raise invalid("Field 'description' must be a string.")
    return description


def _schema_mode(data: dict[str, Any]) -> str:
    mode = data.get("mode") or "single"
    if mode not in ("single", "multi"):
        raise invalid("Field 'mode' must be single or multi.")
    return cast("str", mode)


def read_webhook(data: dict[str, Any], *, partial: bool = False) -> dict[str, Any]:
    """The fields of a webhook; a `secret` only when one is given."""
    fields: dict[str, Any] = {}
    if "url" in data or not partial:
        fields["url"] = _webhook_url(data.get("url"))
    if "events" in data or not partial:
        events = data.get("events")
        events = ["*"] if events is None else events
        if not is_list(events) or not events:
            raise invalid("Field 'events' must be a non-empty array.")
        for event in events:
            if event not in EVENTS:
                raise invalid(f"Unknown event {event}.")
        fields["events"] = events
    secret = data.get("secret")
    if secret is not None:
        if not isinstance(secret, str) or not secret:
            raise invalid("Field 'secret' must be a non-empty string.")
        fields["secret"] = secret
    return fields


def _webhook_url(value: Any) -> str:
    if value is None:
        raise invalid("Field 'url' is required.")
    if isinstance(value, str):
        try:
            url = urlsplit(value)
            # Plain http on this machine is the sandbox's one leniency: tests have no certificates.
            if (url.scheme == "https" and url.hostname) or (url.scheme == "http" and is_loopback(value)):
                return value
        except ValueError:
            pass
    raise invalid("Field 'url' must be an https URL.")


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine."""
    return urlsplit(url).hostname in _LOOPBACK


def read_number(query: Mapping[str, str], name: str, default: int, low: int, high: int | None, *, clamp: bool) -> int:
    """An integer query parameter within its bounds."""
    word = query.get(name)
    if word is None:
        return default
    try:
        number = int(word)
    except ValueError:
        raise invalid(f"Parameter '{name}' must be an integer.") from None
    if clamp and high is not None:
        number = min(number, high)
    if number < low or (high is not None and number > high):
        raise invalid(
            f"Parameter '{name}' must be {f'between {low} and {high}' if high is not None else f'at least {low}'}."
        )
    return number
