"""Two rows have one key exactly when everything that can change the answer is the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from classifaily_connectors.bulk.terms import Terms
from classifaily_connectors.models import Category
from classifaily_connectors.settings import BASE_URL, OTHER_BASE_URL
from classifaily_connectors.taxonomy import parse_categories

_word = st.sampled_from(["a", "b", "identity\0a", "a\0b", '","'])
_categories = st.none() | st.lists(
    st.builds(Category, name=_word, description=st.none() | _word, examples=st.lists(_word, max_size=2).map(tuple)),
    min_size=1,
    max_size=3,
    unique_by=lambda each: each.name,
)
_contents = st.fixed_dictionaries(
    {
        "text": _word,
        "type": st.sampled_from(["text", "image"]),
        "categories": _categories,
        "own": _categories,
        "schema": st.sampled_from([None, 7, 8]),
        "mode": st.sampled_from([None, "single", "multi"]),
        "top_n": st.sampled_from([None, 2]),
        "threshold": st.sampled_from([None, 0, 0.0, 1, 1.0, 0.5]),
        "explain": st.booleans(),
        "namespace": _word,
        "base_url": st.sampled_from([BASE_URL, OTHER_BASE_URL, "http://127.0.0.1:1/v1", "http://127.0.0.1:2/v1"]),
        "identity": st.none() | _word,
    }
)


def _key(content: dict[str, Any]) -> bytes:
    shared = {name: content[name] for name in ("schema", "mode", "top_n", "threshold") if content[name] is not None}
    if content["explain"]:
        shared["explain"] = True
    terms = Terms(
        shared=shared,
        type=content["type"],
        categories=None if content["categories"] is None else parse_categories(content["categories"]),
        namespace=content["namespace"],
        base_url=content["base_url"],
        identity=None if content["identity"] is None else "etag",
    )
    url = "https://example.com/" if content["type"] == "image" else ""
    row = {"input": url + content["text"], "etag": content["identity"]}
    if content["own"] is not None:
        row["categories"] = content["own"]
    return terms.unit(0, row).key


def _set(categories: Any) -> Any:
    return categories and frozenset((each.name, each.description, each.examples) for each in categories)


def _meaning(content: dict[str, Any]) -> Any:
    """What the key must tell apart, written down another way."""
    sent = _set(content["own"] if content["own"] is not None else content["categories"])
    return (
        content["text"] if content["identity"] is None else None,
        content["identity"],
        content["type"],
        sent,
        content["schema"] if sent is None else None,
        content["mode"],
        content["top_n"],
        None if content["threshold"] is None else float(content["threshold"]),
        content["explain"],
        content["namespace"],
        "api" if content["base_url"] in (BASE_URL, OTHER_BASE_URL) else content["base_url"],
    )


@settings(max_examples=300, deadline=None)
@given(_contents, _contents)
def test_equal_exactly_when_the_content_is(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (_key(one) == _key(other)) == (_meaning(one) == _meaning(other))


@settings(max_examples=300, deadline=None)
@given(_contents, st.data())
def test_every_single_difference_counts(one: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(one)))
    other = {**one, name: data.draw(_contents)[name]}
    assert (_key(one) == _key(other)) == (_meaning(one) == _meaning(other))


def test_the_key_is_the_same_in_every_process() -> None:
    """A ledger is read by later versions: a key that changes is everything paid anew."""
    terms = Terms(shared={"mode": "single"}, categories=parse_categories(["billing", "technical"]))
    assert terms.unit(0, "I was charged twice").key.hex() == "6d9e082b0284c966eb222c1c8eb6e941"
    assert terms.unit(5, {"input": "I was charged twice", "id": 9}).key.hex() == "6d9e082b0284c966eb222c1c8eb6e941"


def test_answers_of_a_sandbox_are_never_those_of_the_api() -> None:
    live, other, sandbox = (
        Terms(shared={}, base_url=url).unit(0, "text").key for url in (BASE_URL, OTHER_BASE_URL, "http://127.0.0.1/v1")
    )
    assert live == other
    assert live != sandbox
