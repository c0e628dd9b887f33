"""Rows that cannot be classified, found before anything is paid.

The law of this file: an error says where (file, line, column) and what to do, and never what the cell holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from classifaily_connectors.bulk.terms import template_columns
from classifaily_connectors.errors import refuse
from classifaily_connectors.media import HALF_A_PAIR, INPUT_TYPES, is_unicode
from classifaily_connectors.taxonomy import parse_categories

if TYPE_CHECKING:
    from classifaily_connectors.errors import InvalidRequestError
    from classifaily_connectors.tables.chunks import Chunk, Table

OnInvalid = Literal["raise", "skip"]
_ITEM = ("type", "categories")
_NOTHING = type(None)


@dataclass(frozen=True)
class Wanted:
    """The columns a run reads: the text to classify (or the template's), and what tells rows and media apart."""

    text: str | None = None
    template: str | None = None
    identity: str | None = None
    id_column: str | None = None
    type: str = "text"

    @property
    def joined(self) -> tuple[str, ...]:
        """The template's columns."""
        return template_columns(self.template) if self.template is not None else ()

    @property
    def input(self) -> str | None:
        """The column that is the input; None where a template makes it."""
        return None if self.template is not None else self.text or "input"

    @property
    def own_terms(self) -> bool:
        """Whether rows may bring a type and categories of their own, as the items of a batch do."""
        return self.text is None and self.template is None

    def terms_in(self, columns: Sequence[str]) -> list[str]:
        """The columns that may bring them."""
        return [name for name in _ITEM if self.own_terms and name in columns]

    def blank(self, rows: Sequence[object]) -> list[int]:
        """Which of these rows, as a run takes them, hold nothing to classify; a template's are told by the run."""
        if self.input is None:
            return []
        inputs = [cast("Mapping[str, Any]", row)["input"] if isinstance(row, Mapping) else row for row in rows]
        return [offset for offset, value in enumerate(inputs) if _blank(value)]

    def names(self) -> tuple[str, ...]:
        """All of them, once each."""
        found = (self.input, *self.joined, self.identity, self.id_column)
        return tuple(dict.fromkeys(name for name in found if name is not None))


class Checker:
    """Goes through a table's chunks in order; needs a fresh one for each time through."""

    def __init__(self, table: Table, wanted: Wanted, on_invalid: OnInvalid) -> None:
        self.table, self.wanted, self.skip = table, wanted, on_invalid == "skip"
        self._ids: dict[object, str] = {}

    def require(self) -> None:
        """Raise InvalidRequestError unless the columns are there, and may hold text."""
        table, wanted = self.table, self.wanted
        missing = next((name for name in wanted.names() if name not in table.columns), None)
        if missing is not None:
            has = ", ".join(table.columns) or "none"
            hint = "; name one that is there"
            if not wanted.text and not wanted.template:
                hint = "; name the column to classify with text= or template="
            near = next((name for name in table.columns if name.strip().casefold() == missing.strip().casefold()), None)
            if near is not None:
                hint = f"; is {near!r} meant, blanks and capitals included?"
            raise refuse(f"{table.name}: column {missing!r} is missing; it has {has}{hint}")
        if wanted.input is not None and wanted.type == "text" and not self._item_types():
            problem = table.text_problem(wanted.input)
            if problem:
                raise refuse(f"{table.name}: column {wanted.input!r} {problem}: name another, or cast it")

    def _item_types(self) -> bool:
        return self.wanted.own_terms and "type" in self.table.columns

    def check(self, chunk: Chunk) -> Mapping[int, InvalidRequestError]:
        """What is wrong with the chunk's rows, by offset.

        Raises the first of them unless invalid rows are to be skipped.
        """
        problems: dict[int, str] = {offset: f" {fault}" for offset, fault in chunk.faults.items()}
        for name, problem_of in self._rules():
            for offset, problem in problem_of(name, chunk):
                problems.setdefault(offset, f", column {name!r} {problem}")
        if not problems:
            return {}
        if not self.skip:
            offset = min(problems)
            skip = 'correct it, or skip such rows with on_invalid="skip"'
            raise refuse(f"{self.table.name}, {chunk.where(offset)}{problems[offset]}; {skip}")
        return {
            offset: refuse(f"{self.table.name}, {chunk.where(offset)}{problem}") for offset, problem in problems.items()
        }

    def _rules(self) -> Iterator[tuple[str, _Rule]]:
        wanted = self.wanted
        if not self.skip:
            for name in wanted.terms_in(self.table.columns):
                yield name, _foreign_terms
        if wanted.input is not None:
            plain = wanted.type == "text" and not self._item_types()
            yield wanted.input, _texts if plain else _media
        for name in wanted.joined:
            yield name, _scalars
        if wanted.identity is not None:
            yield wanted.identity, _present
        if wanted.id_column is not None:
            yield wanted.id_column, self._unique

    def _unique(self, name: str, chunk: Chunk) -> Iterator[tuple[int, str]]:
        for offset, value in enumerate(chunk.column(name)):
            if _blank(value):
                yield offset, "is empty: every row needs its id"
                continue
            try:
                first = self._ids.setdefault(value, where := chunk.where(offset))
            except TypeError:
                yield offset, f"is a {type(value).__name__}, which is no id"
                continue
            if first is not where:
                yield offset, f"repeats the id of {first}: ids must be unique"


_Rule = Callable[[str, "Chunk"], Iterator[tuple[int, str]]]


def _texts(name: str, chunk: Chunk) -> Iterator[tuple[int, str]]:
    values = chunk.column(name)
    if set(map(type, values)) <= {str, _NOTHING}:
        yield from _half_pairs(values)
        return
    for offset, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            yield offset, f"is a {type(value).__name__}, not text"
    yield from _half_pairs(values)


def _half_pairs(values: Sequence[Any]) -> Iterator[tuple[int, str]]:
    # A blank between, lest two halves in neighbouring cells pass for a whole.
    if is_unicode(" ".join(value for value in values if isinstance(value, str))):
        return
    for offset, value in enumerate(values):
        if isinstance(value, str) and not is_unicode(value):
            yield offset, HALF_A_PAIR


def _media(name: str, chunk: Chunk) -> Iterator[tuple[int, str]]:
    for offset, value in enumerate(chunk.column(name)):
        if value is not None and not isinstance(value, str | bytes | os.PathLike):
            yield offset, f"is a {type(value).__name__}, not text, a URL, a path or bytes"
    yield from _half_pairs(chunk.column(name))


def _scalars(name: str, chunk: Chunk) -> Iterator[tuple[int, str]]:
    values = chunk.column(name)
    for offset, value in enumerate(values):
        if isinstance(value, Mapping | list | tuple | set | bytes):
            yield offset, f"is a {type(cast('object', value)).__name__}: a template joins text, numbers and dates"
    yield from _half_pairs(values)


def own_term(name: str, value: Any) -> Any:
    """A row's own `type` or `categories`; None where the value is something else that the table calls so."""
    if name == "type":
        return value if value in INPUT_TYPES else None
    try:
        return value if value is not None and parse_categories(value) else None
    except ValueError:
        return None


def _foreign_terms(name: str, chunk: Chunk) -> Iterator[tuple[int, str]]:
    what = f"no input type ({', '.join(INPUT_TYPES)})" if name == "type" else "no list of categories"
    for offset, value in enumerate(chunk.column(name)):
        if not _blank(value) and own_term(name, value) is None:
            yield offset, f"holds {what}: pass text='input' if it is just a column of the table, or rename it"


def _present(name: str, chunk: Chunk) -> Iterator[tuple[int, str]]:
    for offset, value in enumerate(chunk.column(name)):
        if _blank(value):
            yield offset, "is empty: it is what tells this input from others"


def _blank(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())
