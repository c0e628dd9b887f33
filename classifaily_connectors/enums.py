"""A Python Enum is a taxonomy, and a taxonomy can be written as an Enum; see `members` for a member's label."""

from __future__ import annotations

import ast
import keyword
import re
import unicodedata
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from classifaily_connectors import members
from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.models import Category

if TYPE_CHECKING:
    from classifaily_connectors.models import Classification

E = TypeVar("E", bound=Enum)
C = TypeVar("C", bound="Classification[Any]")


def categories_of(taxonomy: type[Enum]) -> tuple[Category, ...]:
    """The categories of an Enum, in the order of its members."""
    return tuple(category_of(member) for member in taxonomy)


def category_of(member: Enum) -> Category:
    """The category a member stands for."""
    name, description = members.label_of(member)
    return Category(name=name, description=description)


def member_for(taxonomy: type[E], label: str | None) -> E | None:
    """The member whose label this is; None for no label, and for one outside the set."""
    return members.by_label(taxonomy).get(label or "")  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


def label_of(taxonomy: type[E], answer: Classification[Any]) -> E | None:
    """The answer's best label as a member of `taxonomy`; None is a case for review."""
    return member_for(taxonomy, answer.labels[0].label if answer.labels else None)


def taxonomy_of(categories: object) -> type[Enum] | None:
    """`categories`, if they were given as an Enum class."""
    return categories if isinstance(categories, type) and issubclass(categories, Enum) else None


def typed(answer: C, categories: object) -> C:
    """The answer to a question about `categories`: its label is a member if they were given as an Enum class."""
    taxonomy = taxonomy_of(categories)
    return answer if taxonomy is None else answer.with_taxonomy(taxonomy)


def source_of(categories: Sequence[Category], name: str) -> str:
    """Python source of an Enum called `name` that stands for exactly these categories.

    Raises ConfigurationError when `name` is no identifier, or two categories would get the same member name.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        raise ConfigurationError(f"{name!r} cannot be the name of a class")
    lines = ["from enum import StrEnum", "", "", f"class {name}(StrEnum):"]
    seen: dict[str, str] = {}
    for category in categories:
        member = _identifier(category.name)
        if seen.setdefault(member, category.name) != category.name:
            raise ConfigurationError(f"{seen[member]!r} and {category.name!r} would both become {member}: rename one")
        lines.append(f"    {member} = {_literal(category.name)}")
        if category.description:
            lines.append(f"    {_literal(category.description)}")
    return "\n".join(lines) + "\n"


def _identifier(name: str) -> str:
    # Python reads identifiers in NFKC form, so two names may differ and still be one member.
    folded = unicodedata.normalize("NFKC", name.upper())
    word = "".join(each if f"_{each}".isidentifier() else "_" for each in folded)
    word = re.sub(r"__+", "_", word).strip("_") or "LABEL"
    return word if word.isidentifier() and not keyword.iskeyword(word) else f"N{word}"


def _literal(text: str) -> str:
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    return quoted if ast.literal_eval(quoted) == text else repr(text)
