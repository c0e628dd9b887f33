"""Saved schemas: created, read, kept in step with a category set in code.

Only `POST /schemas` is documented (API reference, Schemas). The rest is implied ("update the schema once"), so each
call tries the plausible addresses and, when the server has none, says that the dashboard is the place to go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from classifaily_connectors.errors import (
    APIError,
    MethodNotAllowedError,
    NotFoundError,
    SchemaNotFoundError,
    refuse,
)
from classifaily_connectors.fields import as_map
from classifaily_connectors.media import INPUT_TYPES
from classifaily_connectors.models import Category, Schema
from classifaily_connectors.operations import payloads
from classifaily_connectors.operations.call import Reader, call
from classifaily_connectors.operations.effects import Send
from classifaily_connectors.operations.jobs import MAX_PAGE, Page, page_of
from classifaily_connectors.taxonomy import CategoryLike, fingerprint, parse_categories, to_wire

if TYPE_CHECKING:
    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.operations.effects import Operation

T = TypeVar("T")
SCHEMA_TYPES = (*INPUT_TYPES, "any")
SCHEMA_MODES = ("single", "multi")
DEFAULT_TYPE, DEFAULT_MODE = "any", "single"


def create_schema(
    context: Context,
    name: str,
    categories: Iterable[CategoryLike],
    *,
    description: str | None = None,
    type: str | None = None,
    mode: str | None = None,
) -> Operation[Schema]:
    """The new schema, with its id."""
    body = _body(name=name or "", categories=categories, description=description, type=type, mode=mode)
    send = Send("POST", "/schemas", body=payloads.encode(body), once=True)
    return (yield from call(context, send, lambda wire: _read(wire, body)))


def get_schema(context: Context, schema_id: int | str) -> Operation[Schema]:
    """The schema with this id."""
    wanted = payloads.schema_id(schema_id)
    return (yield from _first(context, "read", _addresses("GET", wanted), lambda wire: _pick(wire, wanted)))


def list_schemas(context: Context) -> Operation[list[Schema]]:
    """Every saved schema, over as many pages as the server makes of them."""
    found: dict[int | str, Schema] = {}
    while True:
        params = {"limit": str(MAX_PAGE), "offset": str(len(found))} if found else None
        page = yield from _first(context, "listed", [Send("GET", "/schemas", params)], _read_page)
        before = len(found)
        found.update((schema.id, schema) for schema in page)
        # A server that ignores the offset sends the same page again: nothing new means the end.
        if len(found) == before or page.total is None or len(found) >= page.total:
            return list(found.values())


def update_schema(
    context: Context,
    schema_id: int | str,
    *,
    name: str | None = None,
    categories: Iterable[CategoryLike] | None = None,
    description: str | None = None,
    type: str | None = None,
    mode: str | None = None,
) -> Operation[Schema]:
    """The schema after the change; what is not given stays.

    PUT replaces and so is sent only whole; PATCH takes the change alone.
    """
    wanted = payloads.schema_id(schema_id)
    body = _body(name=name, categories=categories, description=description, type=type, mode=mode)
    if not body:
        raise refuse("nothing to change: give name, categories, description, type or mode")
    changes = _addresses("PATCH", wanted, body)
    if {"name", "categories"} <= body.keys():
        changes = [*_addresses("PUT", wanted, body), *changes]
    return (yield from _first(context, "changed", changes, lambda wire: _read(wire, {"id": wanted, **body})))


def delete_schema(context: Context, schema_id: int | str) -> Operation[None]:
    """Nothing, once the schema is gone."""
    yield from _first(context, "deleted", _addresses("DELETE", payloads.schema_id(schema_id)), lambda _wire: True)


def ensure_schema(
    context: Context,
    name: str,
    categories: Iterable[CategoryLike],
    *,
    description: str | None = None,
    type: str | None = None,
    mode: str | None = None,
) -> Operation[Schema]:
    """The schema of this name with exactly these categories: found, updated or created.

    Told apart by the fingerprint of categories, type and mode; never by `description`, which the API may leave out.
    """
    wanted = parse_categories(categories)
    _body(name=name or "", categories=wanted, description=description, type=type, mode=mode)  # refused before listing
    mark = _mark(wanted, type, mode)
    namesakes = [schema for schema in (yield from list_schemas(context)) if schema.name == name]
    for schema in namesakes:
        if _mark(schema.categories, schema.type, schema.mode) == mark:
            return schema
    if len(namesakes) > 1:
        ids = ", ".join(str(schema.id) for schema in namesakes)
        raise refuse(f"name {name!r} belongs to several schemas ({ids}), none with these categories: update one by id")
    settings = {"description": description, "type": type or DEFAULT_TYPE, "mode": mode or DEFAULT_MODE}
    if namesakes:
        return (yield from update_schema(context, namesakes[0].id, name=name, categories=wanted, **settings))
    return (yield from create_schema(context, name, wanted, **settings))


def _mark(categories: Iterable[Category], type: str | None, mode: str | None) -> str:
    return fingerprint(tuple(categories), type=type or DEFAULT_TYPE, mode=mode or DEFAULT_MODE)


def _body(
    *,
    name: str | None,
    categories: Iterable[CategoryLike] | None,
    description: str | None,
    type: str | None,
    mode: str | None,
) -> dict[str, Any]:
    if name is not None and not (isinstance(name, str) and name.strip()):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise refuse("name is empty: a schema needs a name")
    if type is not None and type not in SCHEMA_TYPES:
        raise refuse(f"type is {type!r}; a schema's type is one of {', '.join(SCHEMA_TYPES)}")
    if mode is not None and mode not in SCHEMA_MODES:
        raise refuse(f"mode is {mode!r}; a schema's mode is single or multi")
    given = {"name": name, "description": description, "type": type, "mode": mode}
    body: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    if categories is not None:
        body["categories"] = to_wire(parse_categories(categories))
    return body


def _addresses(method: Any, schema_id: int | str, body: Mapping[str, Any] | None = None) -> list[Send]:
    text, content = str(schema_id), payloads.encode(body) if body else None
    return [
        Send(method, f"/schemas/{quote(text, safe='')}", body=content),
        Send(method, "/schemas", {"id": text}, content),
    ]


def _first(context: Context, done: str, sends: Iterable[Send], read: Reader[T | None]) -> Operation[T]:
    """What the first address that the server knows answers."""
    missing: APIError | None = None
    for send in sends:
        try:
            value = yield from call(context, send, read)
        except SchemaNotFoundError:
            raise
        except (MethodNotAllowedError, NotFoundError) as error:
            missing = missing or error
            continue
        if value is not None:
            return value
    if isinstance(missing, NotFoundError) and missing.code:
        raise missing
    told = {name: getattr(missing, name) for name in ("status", "code", "docs")} if missing else {}
    raise MethodNotAllowedError(
        f"this server does not let schemas be {done} over the API: use Schemas in the dashboard", **told
    )


def _read_page(wire: object) -> Page[Schema]:
    return page_of(wire, "schemas").read(Schema.model_validate)


def _pick(wire: object, schema_id: int | str) -> Schema | None:
    if "id" in as_map(wire):
        return Schema.model_validate(wire)
    return next((schema for schema in _read_page(wire) if str(schema.id) == str(schema_id)), None)


def _read(wire: object, sent: Mapping[str, Any]) -> Schema:
    """The schema in an answer; what a terse answer leaves out is what we sent."""
    if wire is None and "id" not in sent:
        raise ValueError("no schema in the answer")
    return Schema.model_validate({**sent, **as_map(wire)})
