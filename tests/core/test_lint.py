"""What lint warns of, and what it leaves in peace."""

from __future__ import annotations

import json
from pathlib import Path

from classifaily_connectors.lint import lint
from classifaily_connectors.taxonomy import parse_categories

EXAMPLE = Path(__file__).parents[2] / "examples" / "data" / "categories.json"


def rules(*categories: object) -> set[str]:
    return {warning.rule for warning in lint(parse_categories(categories))}  # type: ignore[arg-type]


def described(*names: str) -> list[dict[str, str]]:
    return [{"name": name, "description": f"Everything about {name}"} for name in names]


def test_our_own_example_is_clean() -> None:
    assert lint(parse_categories(json.loads(EXAMPLE.read_text()))) == []


def test_no_catch_all() -> None:
    assert rules(*described("billing", "technical")) == {"no-catch-all"}
    for name in ("other", "Needs review", "MISC", "n/a"):
        assert rules(*described("billing", name)) == set()
    assert rules({"name": "rest of it", "description": "Anything else"}, *described("billing")) == set()


def test_near_duplicates_by_name() -> None:
    for one, other in (("refund", "refunds"), ("feature_request", "feature-requests"), ("Technical", "technical")):
        found = [
            each for each in lint(parse_categories(described(one, other, "other"))) if each.rule == "near-duplicate"
        ]
        assert [each.categories for each in found] == [(one, other)]
    assert rules(*described("billing", "technical", "account", "other")) == set()


def test_same_description_and_none_at_all() -> None:
    same = {"description": "Payments, refunds"}
    assert "same-description" in rules({"name": "billing", **same}, {"name": "money", **same}, "other")
    (warning,) = lint(parse_categories(["apples", "bridges", "other"]))
    assert warning.rule == "no-description"
    assert warning.categories == ("apples", "bridges", "other")


def test_one_category_leaves_no_choice() -> None:
    assert "one-category" in rules("billing")
