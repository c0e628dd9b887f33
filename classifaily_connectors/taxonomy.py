"""Category sets: checked, normalised, and told apart by content.

The law of this file: it is pure, and two category sets are the same exactly when their fingerprints are. Names,
descriptions and examples count; ids, order and the schema's own `description` (which the API may leave out) do not.
"""

from __future__ import annotations

import functools
import hashlib
import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, cast

from classifaily_connectors.enums import category_of
from classifaily_connectors.errors import refuse
from classifaily_connectors.models import Category

CategoryLike = str | Category | Mapping[str, Any] | Enum
"""A category's name, a `Category`, a mapping with `name` and perhaps `description` and `examples`, or the member of an
Enum; an Enum class is a whole set of them (see `enums`)."""
CategorySet = Iterable[CategoryLike]

_FIELDS = frozenset({"name", "description", "examples"})
_FILES = (".txt", ".json", ".jsonl", ".yaml", ".yml", ".csv", ".tsv")


def parse_categories(categories: Iterable[CategoryLike], field: str = "categories") -> tuple[Category, ...]:
    """The categories, checked.

    Raises InvalidRequestError naming the field when the set is empty, a name is empty or appears twice, or an entry
    is no category (API reference, Category objects).
    """
    if isinstance(categories, str | bytes | Mapping) or not isinstance(categories, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise refuse(f"{field} must be a list of names or category objects, not one of them")
    listed = list(categories)
    if len(listed) == 1 and is_file_name(listed[0]):
        raise refuse(
            f"{field} is {listed[0]!r} alone, the name of a file: give the names that are in it (on the command line, "
            f"@{listed[0]} reads them); if it is a category, give it as an object with a name"
        )
    parsed = tuple(_parse(each, f"{field}[{place}]") for place, each in enumerate(listed))
    if not parsed:
        raise refuse(f"{field} is empty: name at least one category, or leave it out for generic labels")
    seen: dict[str, int] = {}
    spelled: dict[str, str] = {}
    for place, category in enumerate(parsed):
        first = seen.setdefault(category.name, place)
        if first != place:
            raise refuse(f"{field}[{place}].name {category.name!r} repeats {field}[{first}]: names must be unique")
        same = category.name if category.name.isascii() else unicodedata.normalize("NFC", category.name)
        if spelled.setdefault(same, category.name) != category.name:
            raise refuse(f"{field}[{place}].name is another one in another Unicode spelling: keep one of them")
    return parsed


def is_file_name(category: object) -> bool:
    """Whether a bare name is that of a file with categories, rather than a category."""
    return type(category) is str and category.strip().lower().endswith(_FILES)


@functools.lru_cache(maxsize=1024)
def _plain(name: str) -> Category:
    # The same names come with every call, and building them anew takes a twentieth of it.
    return Category(name=name)


def _parse(category: CategoryLike, field: str) -> Category:
    if isinstance(category, Enum):  # before str: a StrEnum's member is both
        return category_of(category)
    if isinstance(category, str):
        bare = category.strip()
        return _plain(bare) if bare else _checked({"name": bare}, field)
    if isinstance(category, Category):
        return _checked(category.model_dump(exclude_none=True), field)
    if isinstance(category, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        return _checked(category, field)
    raise refuse(f"{field} must be a name or a category object, not {type(category).__name__}")


def _checked(category: Mapping[str, Any], field: str) -> Category:
    unknown = sorted(set(category) - _FIELDS)
    if unknown:
        raise refuse(f"{field}.{unknown[0]} is not a field of a category: use name, description and examples")
    name, description, examples = (category.get(each) for each in ("name", "description", "examples"))
    if not isinstance(name, str) or not name.strip():
        raise refuse(f"{field}.name is empty: every category needs a name")
    if description is not None and not isinstance(description, str):
        raise refuse(f"{field}.description must be text")
    listed = cast("Sequence[object]", examples or ())
    if isinstance(listed, str) or not isinstance(listed, Sequence) or not all(isinstance(each, str) for each in listed):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise refuse(f"{field}.examples must be a list of texts")
    return Category(name=name.strip(), description=description or None, examples=tuple(map(str, listed)))


def to_wire(categories: Sequence[Category]) -> list[Any]:
    """The JSON form: plain names when all are plain, else objects for all (mixing the two is not documented)."""
    if not any(each.description or each.examples for each in categories):
        return [each.name for each in categories]
    return [_content(each) for each in categories]


def fingerprint(categories: Sequence[Category], **options: str | None) -> str:
    """32 hex digits that change exactly when the content of the set (or an option that is not None) changes."""
    content: dict[str, Any] = {
        "categories": sorted((_content(each) for each in categories), key=lambda each: str(each["name"])),
        **{name: value for name, value in options.items() if value is not None},
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def _content(category: Category) -> dict[str, Any]:
    content: dict[str, Any] = {"name": category.name}
    if category.description:
        content["description"] = category.description
    if category.examples:
        content["examples"] = list(category.examples)
    return content
