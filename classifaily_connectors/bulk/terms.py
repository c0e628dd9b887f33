"""What all rows of a run share, and the key that follows from it.

The law of this file: the key is a digest of everything that can change the answer (input, type, mode, top_n,
threshold, explain, the *content* of the categories or of the schema, namespace, and whether the answers come from the
real API) and of nothing else: not of an id, a schema's number, an API key or a signed URL. The text itself is in no
key that could be read back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from string import Formatter
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from classifaily_connectors.errors import InvalidRequestError, refuse
from classifaily_connectors.media import encode_input
from classifaily_connectors.settings import BASE_URL, OTHER_BASE_URL
from classifaily_connectors.taxonomy import fingerprint, parse_categories, to_wire

if TYPE_CHECKING:
    from collections.abc import Sequence

    from classifaily_connectors.models import Category, Schema
    from classifaily_connectors.store.entry import Entry

KEY_VERSION = 1
_ESCAPED = (b"\n", b'"', b"\\")
_UNTOLD = (
    "a media URL does not tell what lies behind it, and the ledger would answer for other bytes: name the column that "
    "does with identity= (a hash or an etag; the URL's own column if its bytes never change)"
)


class OwnSet(NamedTuple):
    """A category set that travels with its item instead of with the call."""

    names: frozenset[str]
    wire: list[Any]
    fingerprint: str
    size: int

    @classmethod
    def of(cls, categories: Sequence[Category]) -> Self:
        """The set of these categories."""
        wire = to_wire(categories)
        names = frozenset(each.name for each in categories)
        return cls(names, wire, fingerprint(categories), len(json.dumps(wire)))


@dataclass(slots=True)
class Unit:
    """One row on its way: what will be sent for it, and the key it will be paid under."""

    index: int
    columns: Mapping[str, Any] | None
    item: dict[str, Any] = field(default_factory=dict[str, Any], repr=False)
    key: bytes = b""
    size: int = 0
    own_terms: bool = False
    allowed: frozenset[str] | None = None
    """The labels it may get; None when the category set is not known."""
    stale: Entry | None = None
    """The ledger's entry that a purchase of this row would replace."""
    doubtful: bool = False
    """Whether an earlier request for it may have been paid."""
    alone: bool = False
    """Whether it was sent to /classify, not in a batch."""

    @property
    def item_id(self) -> str:
        """The id this row's item travels under: its key, so that a job can be joined to the ledger later."""
        return self.key.hex()


@dataclass
class Terms:
    """The shared options of a run. `categories` are those sent, or those of the schema when it could be read.

    With `axes` every row is taken in once for each of them, one after the other. `members` are the labels that the
    caller has names for, where the categories were an Enum: nothing else may be asked.
    """

    shared: dict[str, Any]
    type: str = "text"
    categories: tuple[Category, ...] | None = None
    axes: tuple[OwnSet, ...] = ()
    members: frozenset[str] | None = None
    namespace: str = ""
    base_url: str = BASE_URL
    text: str | None = None
    template: str | None = None
    identity: str | None = None
    durable: bool = False
    """Whether answers are kept for later runs, which may find other bytes behind the same URL."""

    def __post_init__(self) -> None:
        if self.text is not None and self.template is not None:
            raise refuse("text and template exclude each other: template names its own columns")
        if self.template is not None and not template_columns(self.template):
            raise refuse("template names no column: write it like 'Subject: {subject}\\n\\n{body}'")
        self._prefixes: dict[str, Any] = {}

    def take_over(self, schema: Schema) -> None:
        """Ask what a saved schema asks.

        Raises InvalidRequestError when it has a label that the caller's Enum has no member for.
        """
        self.categories = schema.categories
        self._check_members(frozenset(each.name for each in schema.categories), f"schema {schema.id}")
        if schema.mode is not None:
            self.shared.setdefault("mode", schema.mode)

    def _check_members(self, names: frozenset[str], where: str) -> None:
        foreign = sorted(names - self.members) if self.members is not None else []
        if foreign:
            raise refuse(f"{where} has the label {foreign[0]!r}, for which the Enum given as categories has no member")

    @cached_property
    def allowed(self) -> frozenset[str] | None:
        """The labels of the category set; None when the set is not known."""
        return None if self.categories is None else frozenset(each.name for each in self.categories)

    @property
    def taxonomy(self) -> str:
        """The fingerprint of the category set."""
        return fingerprint(self.categories) if self.categories else str(self.shared.get("schema", ""))

    def unit(self, index: int, row: object) -> Unit:
        """The row as a unit.

        Raises InvalidRequestError naming the field when it cannot be sent; a row that is such an error is raised.
        """
        if isinstance(row, InvalidRequestError):
            raise row
        columns = cast("Mapping[str, Any]", row) if isinstance(row, Mapping) else None
        own = self.axes[index % len(self.axes)] if self.axes else None
        unit = Unit(index, columns)
        input_type = self.type
        if columns is None:
            value = cast("Any", row)
        elif self.template is not None:
            value = self._joined(columns, self.template)
        elif self.text is not None:
            value = _column(columns, self.text)
        else:
            value = _column(columns, "input")
            input_type = columns.get("type") or self.type
            if columns.get("categories") is not None:
                own = self._own(columns["categories"])
                unit.own_terms = True
        unit.own_terms = unit.own_terms or input_type != self.type
        text = encode_input(value, input_type)
        unit.item = {"input": text}
        if input_type != "text":
            unit.item["type"] = input_type
        if own is not None:
            unit.item["categories"] = own.wire
        unit.allowed = self.allowed if own is None else own.names
        encoded = text.encode()
        identity = self._identity(columns) or getattr(value, "identity", None)  # a media.Reference has one
        if identity is None and self.durable and input_type != "text" and not text[:5].lower() == "data:":
            raise refuse(_UNTOLD)
        unit.key = self._key(encoded, input_type, "" if own is None else own.fingerprint, identity)
        escaped = sum(map(encoded.count, _ESCAPED))  # each is two bytes in JSON
        unit.size = len(encoded) + escaped + (0 if own is None else own.size) + 128
        return unit

    def _own(self, categories: Any) -> OwnSet:
        if self.axes:
            raise refuse("categories: the axes say what is asked of every row, so a row has none of its own")
        own = OwnSet.of(parse_categories(categories))
        self._check_members(own.names, "categories")
        return own

    def _joined(self, columns: Mapping[str, Any], template: str) -> str:
        names = template_columns(template)
        values = {name: _column(columns, name) for name in names}
        # A template's own words do not make an empty row worth paying for.
        if not any(str(value).strip() for value in values.values() if value is not None):
            return ""
        return template.format_map({name: "" if value is None else value for name, value in values.items()})

    def _identity(self, columns: Mapping[str, Any] | None) -> str | None:
        if self.identity is None:
            return None
        value = _column(columns or {}, self.identity)
        if value is None or not str(value).strip():
            raise refuse(f"identity column {self.identity!r} is empty: it is what tells this input from others")
        return str(value)

    def _key(self, text: bytes, input_type: str, own: str, identity: str | None) -> bytes:
        by = "input" if identity is None else "identity"
        label = f"{input_type}\0{own}\0{by}"
        prefix = self._prefixes.get(label)
        if prefix is None:
            content = own or ("" if self.categories is None else self.taxonomy) or None
            threshold = self.shared.get("threshold")
            terms = {
                "version": KEY_VERSION,
                "realm": "api" if self.base_url in (BASE_URL, OTHER_BASE_URL) else self.base_url,
                "namespace": self.namespace,
                "type": input_type,
                "by": by,
                "categories": content,
                "schema": self.shared.get("schema") if content is None else None,
                "threshold": None if threshold is None else float(threshold),
                **{name: self.shared.get(name) for name in ("mode", "top_n", "explain")},
            }
            canonical = json.dumps(terms, sort_keys=True, separators=(",", ":"))
            prefix = self._prefixes[label] = hashlib.blake2b(canonical.encode() + b"\0", digest_size=16)
        digest = prefix.copy()
        digest.update(text if identity is None else identity.encode())
        return bytes(digest.digest())


def template_columns(template: str) -> tuple[str, ...]:
    """The columns a template such as "Subject: {subject}" names.

    Raises InvalidRequestError for anything but plain column names in the braces.
    """
    names: list[str] = []
    try:
        for _text, name, _spec, _conversion in Formatter().parse(template):
            if name is not None:
                names.append(name)
    except ValueError as error:
        problem: str | None = str(error)
    else:
        problem = None
    if problem or any(not name or "." in name or "[" in name for name in names):
        raise refuse(f"template: {problem or 'write only column names in the braces'}")
    return tuple(dict.fromkeys(names))


def _column(columns: Mapping[str, Any], name: str) -> Any:
    try:
        return columns[name]
    except KeyError:
        pass
    raise refuse(f"column {name!r} is missing; the row has {', '.join(map(str, columns)) or 'none'}")
