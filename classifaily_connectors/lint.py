"""What is likely to go wrong with a category set, before it costs anything.

The law of this file: it is pure, it only warns, and every warning says what to do about it.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from classifaily_connectors.models import Category

Rule = Literal["no-catch-all", "near-duplicate", "no-description", "same-description", "one-category"]

_CATCH_ALL = frozenset(
    [
        "other",
        "others",
        "general",
        "misc",
        "miscellaneous",
        "none",
        "unknown",
        "unsure",
        "review",
        "needsreview",
        "else",
        "anythingelse",
        "everythingelse",
        "rest",
        "notapplicable",
        "na",
        "uncategorized",
        "uncategorised",
        "unclassified",
    ]
)
_CATCH_ALL_TEXT = re.compile(
    r"\b(everything|anything|something|all) else\b|\bnone of the\b|\bneeds? (a )?review\b", re.IGNORECASE
)
_CLOSE = 0.84


@dataclass(frozen=True, slots=True)
class Warning:
    """One finding; `categories` are the names it is about (none when it is about the set)."""

    rule: Rule
    message: str
    categories: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.message


def lint(categories: Sequence[Category]) -> list[Warning]:
    """The findings, gravest first; an empty list is a good sign and no promise."""
    return [*_size(categories), *_catch_all(categories), *_near(categories), *_descriptions(categories)]


def _size(categories: Sequence[Category]) -> list[Warning]:
    if len(categories) > 1:
        return []
    return [Warning("one-category", "one category leaves nothing to choose: every input will get it")]


def _catch_all(categories: Sequence[Category]) -> list[Warning]:
    for each in categories:
        if _plain(each.name) in _CATCH_ALL or _CATCH_ALL_TEXT.search(each.description or ""):
            return []
    message = "no catch-all: what fits nowhere is forced into a category; add one such as 'other' or 'needs_review'"
    return [Warning("no-catch-all", message)]


def _near(categories: Sequence[Category]) -> list[Warning]:
    found: list[Warning] = []
    for one, other in itertools.combinations(categories, 2):
        if _close(_plain(one.name), _plain(other.name)):
            message = (
                f"{one.name!r} and {other.name!r} are nearly the same: merge them, or tell them apart in descriptions"
            )
            found.append(Warning("near-duplicate", message, (one.name, other.name)))
        elif one.description and _words(one.description) == _words(other.description or ""):
            message = f"{one.name!r} and {other.name!r} have the same description"
            found.append(Warning("same-description", message, (one.name, other.name)))
    return found


def _descriptions(categories: Sequence[Category]) -> list[Warning]:
    bare = tuple(each.name for each in categories if not (each.description or "").strip())
    if not bare:
        return []
    names = ", ".join(map(repr, bare[:5])) + (", …" if len(bare) > 5 else "")  # noqa: PLR2004
    message = f"no description: {names}; a sentence each raises accuracy most where names are ambiguous"
    return [Warning("no-description", message, bare)]


def _close(one: str, other: str) -> bool:
    if one == other or one.rstrip("s") == other.rstrip("s"):
        return True
    return min(len(one), len(other)) > 3 and difflib.SequenceMatcher(None, one, other).ratio() >= _CLOSE  # noqa: PLR2004


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.casefold()))
