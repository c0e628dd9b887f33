"""Schemas as files in git: read them, compare them with the account, make the account like them.

The law of this file: reading and planning change nothing; `apply` does exactly what the plan said, and nothing is ever
deleted. A file holds one schema or a list of them, as YAML or JSON, in the API's own words (name, description, type,
mode, categories).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from classifaily_connectors.errors import ConfigurationError, InvalidRequestError, MissingPackageError
from classifaily_connectors.fields import as_list, as_map
from classifaily_connectors.operations.schemas import DEFAULT_MODE, DEFAULT_TYPE, SCHEMA_MODES, SCHEMA_TYPES
from classifaily_connectors.taxonomy import fingerprint, parse_categories

if TYPE_CHECKING:
    from classifaily_connectors.client import ClassifailyClient
    from classifaily_connectors.models import Category, Schema

SUFFIXES = (".yaml", ".yml", ".json")
_FIELDS = frozenset({"name", "description", "type", "mode", "categories"})
_ANCHORS = "x-"
"""How keys begin that hold pieces for others to refer to, as in Compose files."""
_MERGE, _NULL = "tag:yaml.org,2002:merge", "tag:yaml.org,2002:null"
Kind = Literal["create", "update", "same", "ambiguous"]


@dataclass(frozen=True, slots=True)
class SchemaFile:
    """One schema as a file wants it; `source` says which file."""

    name: str
    categories: tuple[Category, ...]
    description: str | None = None
    type: str = DEFAULT_TYPE
    mode: str = DEFAULT_MODE
    source: str = ""

    @property
    def fingerprint(self) -> str:
        """Changes exactly when the content does; the description is a note and does not count."""
        return fingerprint(self.categories, type=self.type, mode=self.mode)


@dataclass(frozen=True, slots=True)
class Change:
    """What making one schema so would do; `lines` is the difference, each line beginning with +, - or ~."""

    kind: Kind
    wanted: SchemaFile
    id: int | str | None = None
    lines: tuple[str, ...] = ()


def read(*paths: str | Path) -> list[SchemaFile]:
    """The schemas in these files and folders (every .yaml, .yml and .json file below).

    Raises ConfigurationError naming file and field for what cannot be a schema, and for a name that is used twice.
    """
    found = [schema for path in map(Path, paths) for file in _files(path) for schema in _read(file)]
    if not found:
        raise ConfigurationError(
            f"no schema files in {', '.join(map(str, paths)) or 'nothing'}: they end in .yaml or .json"
        )
    first: dict[str, SchemaFile] = {}
    for schema in found:
        if first.setdefault(schema.name, schema) is not schema:
            raise ConfigurationError(
                f"{schema.source}: the name {schema.name!r} is taken by {first[schema.name].source}"
            )
    return found


def plan(wanted: Iterable[SchemaFile], present: Sequence[Schema]) -> list[Change]:
    """What would have to change for `present` (the account's schemas) to be as `wanted`."""
    return [_change(each, [schema for schema in present if schema.name == each.name]) for each in wanted]


def apply(client: ClassifailyClient, changes: Iterable[Change], done: Callable[[Change], None] | None = None) -> int:
    """Carry out the changes, in order; how many schemas were created or updated.

    Raises InvalidRequestError for an ambiguous one before anything is changed, and what the API raises.
    """
    listed = list(changes)
    for change in listed:
        if change.kind == "ambiguous":
            raise InvalidRequestError(f"{change.wanted.name!r}: {change.lines[0]}", outcome="not_sent")
    count = 0
    for change in listed:
        wanted = change.wanted
        options: dict[str, Any] = {"description": wanted.description, "type": wanted.type, "mode": wanted.mode}
        if change.kind == "create":
            client.schemas.create(wanted.name, wanted.categories, **options)
        elif change.kind == "update" and change.id is not None:
            client.schemas.update(change.id, name=wanted.name, categories=wanted.categories, **options)
        count += change.kind in ("create", "update")
        if done:
            done(change)
    return count


def _change(wanted: SchemaFile, namesakes: Sequence[Schema]) -> Change:
    for schema in namesakes:
        if fingerprint(schema.categories, type=_type(schema), mode=_mode(schema)) == wanted.fingerprint:
            return Change("same", wanted, schema.id)
    if len(namesakes) > 1:
        ids = ", ".join(str(schema.id) for schema in namesakes)
        return Change("ambiguous", wanted, lines=(f"several schemas have this name ({ids}), none with this content",))
    if not namesakes:
        return Change("create", wanted, lines=tuple(f"+ {each.name}" for each in wanted.categories))
    return Change("update", wanted, namesakes[0].id, tuple(_difference(wanted, namesakes[0])))


def _difference(wanted: SchemaFile, present: Schema) -> list[str]:
    lines: list[str] = []
    for field, old, new in (("type", _type(present), wanted.type), ("mode", _mode(present), wanted.mode)):
        if old != new:
            lines.append(f"~ {field}: {old} -> {new}")
    before, after = {each.name: each for each in present.categories}, {each.name: each for each in wanted.categories}
    lines += [f"- {name}" for name in before if name not in after]
    lines += [f"+ {name}" for name in after if name not in before]
    for name, category in after.items():
        if name in before:
            lines += _category_difference(name, before[name], category)
    return lines


def _category_difference(name: str, old: Category, new: Category) -> list[str]:
    lines: list[str] = []
    if (old.description or "") != (new.description or ""):
        lines.append(f"~ {name}.description: {old.description or '(none)'} -> {new.description or '(none)'}")
    lines += [f"- {name}.examples: {each}" for each in old.examples if each not in new.examples]
    lines += [f"+ {name}.examples: {each}" for each in new.examples if each not in old.examples]
    if not lines and old.examples != new.examples:
        lines.append(f"~ {name}.examples: in another order")
    return lines


def _type(schema: Schema) -> str:
    return schema.type or DEFAULT_TYPE


def _mode(schema: Schema) -> str:
    return schema.mode or DEFAULT_MODE


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
    if not path.is_file():
        raise ConfigurationError(f"there is no file or folder {path}")
    return [path]


def _read(file: Path) -> list[SchemaFile]:
    found: list[SchemaFile] = []
    for content in _load(file):
        listed = [content] if as_map(content) else as_list(content) or [content]
        found += [_parse(each, str(file)) for each in listed]
    return found


def _load(file: Path) -> list[Any]:
    """The documents in a file; those that only hold anchors (keys that begin with `x-`) are left out."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        documents = [json.loads(text)] if file.suffix == ".json" else yaml_documents(text)
        return [each for each in documents if not _is_only_anchors(each)]
    except (OSError, ValueError) as error:
        problem = str(error)
    raise ConfigurationError(f"{file}: {problem}")


def _is_only_anchors(document: object) -> bool:
    return bool(as_map(document)) and all(str(key).startswith(_ANCHORS) for key in as_map(document))


def yaml_documents(text: str) -> list[Any]:
    """The documents in a YAML text, in which every value is the text that stands there: `no`, `404` and `2026-01-31`
    are names like others, and only `null` and `~` are none.

    Raises ValueError with the line for what is no YAML, and for a key that a mapping has twice.
    """
    try:
        import yaml
    except ImportError:
        raise MissingPackageError("YAML files need PyYAML: pip install 'classifaily-connectors[cli]'") from None

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # ships no types
        """Resolves nulls and merged anchors, and nothing else."""

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            seen: set[str] = set()
            for key, _value in node.value:
                if key.value in seen and key.tag != _MERGE:
                    raise ValueError(f"line {key.start_mark.line + 1}: the key {key.value!r} stands there twice")
                seen.add(key.value if isinstance(key.value, str) else repr(key.value))
            return cast("dict[Any, Any]", super().construct_mapping(node, deep=deep))

    Loader.yaml_implicit_resolvers = {
        first: [each for each in known if each[0] in (_MERGE, _NULL)]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    try:
        return [each for each in yaml.load_all(text, Loader) if each is not None]  # a SafeLoader
    except yaml.YAMLError as error:
        problem = str(error)
    raise ValueError(problem)


def _parse(data: object, source: str) -> SchemaFile:
    if not isinstance(data, Mapping):
        raise ConfigurationError(f"{source}: a schema is a mapping with name and categories")
    fields = cast("Mapping[str, Any]", data)
    unknown = sorted(str(each) for each in fields if each not in _FIELDS and not str(each).startswith(_ANCHORS))
    if unknown:
        raise ConfigurationError(f"{source}: {unknown[0]!r} is no field of a schema ({', '.join(sorted(_FIELDS))})")
    name = fields.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ConfigurationError(f"{source}: name is missing")
    kinds = {
        "type": (fields.get("type") or DEFAULT_TYPE, SCHEMA_TYPES),
        "mode": (fields.get("mode") or DEFAULT_MODE, SCHEMA_MODES),
    }
    for field, (value, allowed) in kinds.items():
        if value not in allowed:
            raise ConfigurationError(f"{source}: {field} is {value!r}; it must be one of {', '.join(allowed)}")
    try:
        categories = parse_categories(fields.get("categories") or ())
    except InvalidRequestError as error:
        problem = error.message
    else:
        note = fields.get("description")
        return SchemaFile(name.strip(), categories, note or None, kinds["type"][0], kinds["mode"][0], source)
    raise ConfigurationError(f"{source}: {problem}")
