"""Two category sets are the same exactly when their fingerprints are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import classifaily_connectors as cc
from classifaily_connectors.taxonomy import fingerprint, parse_categories, to_wire

TEXT = st.text(max_size=6)
NAMES = TEXT.filter(lambda text: bool(text.strip())).map(str.strip)
CATEGORIES = st.builds(
    lambda name, description, examples: cc.Category(name=name, description=description, examples=tuple(examples)),
    NAMES,
    st.none() | TEXT.filter(bool),
    st.lists(TEXT, max_size=3),
)
SETS = st.lists(CATEGORIES, min_size=1, max_size=5, unique_by=lambda category: category.name)
OPTIONS = st.dictionaries(st.sampled_from(["mode", "type"]), st.none() | st.sampled_from(["single", "multi", "any"]))


def content(categories: list[cc.Category], options: dict[str, str | None]) -> Any:
    """What the law says counts, worked out apart from the package."""
    told = {each.name: (each.description, each.examples) for each in categories}
    return told, {name: value for name, value in options.items() if value is not None}


@given(SETS, st.randoms(use_true_random=False), OPTIONS)
def test_order_does_not_matter(categories: list[cc.Category], random: Any, options: dict[str, str | None]) -> None:
    shuffled = random.sample(categories, len(categories))
    turned = dict(reversed(options.items()))
    assert fingerprint(shuffled, **turned) == fingerprint(categories, **options)


@given(SETS, SETS, OPTIONS, OPTIONS)
def test_content_matters_and_nothing_else(
    ours: list[cc.Category], other: list[cc.Category], terms: dict[str, str | None], others: dict[str, str | None]
) -> None:
    same = content(ours, terms) == content(other, others)
    assert (fingerprint(ours, **terms) == fingerprint(other, **others)) == same


@given(SETS, st.data())
def test_any_change_shows(categories: list[cc.Category], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(categories) - 1))
    old = categories[place]
    changes: list[dict[str, Any]] = [
        {"name": old.name + "x"},
        {"description": (old.description or "") + "x"},
        {"examples": (*old.examples, "x")},
        {"examples": (*old.examples, "")},
    ]
    changed = [*categories]
    changed[place] = old.model_copy(update=data.draw(st.sampled_from(changes)))
    assert fingerprint(changed) != fingerprint(categories)
    assert fingerprint([*categories, cc.Category(name="one more name")]) != fingerprint(categories)


@given(SETS)
def test_what_we_send_is_what_we_meant(categories: list[cc.Category]) -> None:
    """The wire form, sent and read back, is the same set; and so is what was built from a mapping."""
    parsed = parse_categories(categories)
    sent = to_wire(parsed)
    assert len({type(each) for each in sent}) == 1
    assert fingerprint(parse_categories(sent)) == fingerprint(parsed) == fingerprint(categories)
    echoed = cc.Schema.model_validate({"id": 1, "name": "n", "categories": sent})
    assert fingerprint(echoed.categories) == fingerprint(parsed)


def test_the_servers_own_fields_do_not_count() -> None:
    told = cc.Schema.model_validate({"id": 1, "name": "n", "categories": [{"id": 7, "name": "a", "examples": []}]})
    assert fingerprint(told.categories) == fingerprint(parse_categories(["a"]))
    blank = parse_categories([{"name": " a ", "description": "", "examples": []}])
    assert fingerprint(blank) == fingerprint(parse_categories(["a"]))


def test_a_fingerprint_is_the_same_tomorrow() -> None:
    """Stored beside paid answers: a change of it would buy them again."""
    rich = parse_categories(["b", {"name": "ä", "description": "d", "examples": ["f", "e"]}])
    assert fingerprint(rich, mode="single", type=None) == "975a3ed5c9fd020b9f727b2e188257ed"


@pytest.mark.parametrize(
    ("given_form", "wire"),
    [
        (["a", "b"], ["a", "b"]),
        ([{"name": "a"}, "b"], ["a", "b"]),
        ([cc.Category(name="a"), {"name": "b", "description": None, "examples": None}], ["a", "b"]),
        (["a", {"name": "b", "examples": ["e"]}], [{"name": "a"}, {"name": "b", "examples": ["e"]}]),
        (("a", {"name": "b", "description": "d"}), [{"name": "a"}, {"name": "b", "description": "d"}]),
    ],
)
def test_wire_forms(given_form: Any, wire: list[Any]) -> None:
    """Names when all are plain, objects for all otherwise: the API documents no mixture."""
    assert to_wire(parse_categories(given_form)) == wire


def test_errors_name_the_field_they_are_told() -> None:
    with pytest.raises(cc.InvalidRequestError, match=r"labels\[1\].name 'a' repeats labels\[0\]"):
        parse_categories(["a", "a"], "labels")
