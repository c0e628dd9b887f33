"""What an account's plan does not include (API reference, Plan comparison), known before anything is sent.

The law of this file: only what the vendor's table says of a plan by its name; of a plan that it does not name nothing
is said, and the API decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classifaily_connectors.bulk.terms import Terms

CATEGORIES, SCHEMAS = "categories of your own", "schemas"
_STARTER, _PRO = "Starter", "Pro"
_NEEDS = {
    CATEGORIES: _STARTER, SCHEMAS: _STARTER, "image": _STARTER, "audio": _PRO, "video": _PRO, "webhooks": _PRO,
}  # fmt: skip
_LACKS = {"free": (_STARTER, _PRO), "starter": (_PRO,)}


def features_of(terms: Terms, item: Mapping[str, Any]) -> set[str]:
    """What a request for this item asks of the plan."""
    features = {CATEGORIES} if "categories" in item else shared_features(terms)
    kind = item.get("type") or terms.type
    return features | {kind} if kind in _NEEDS else features


def shared_features(terms: Terms) -> set[str]:
    """What every request of a run asks of the plan, whatever its row is."""
    features = {terms.type} & _NEEDS.keys()
    if "schema" in terms.shared:
        return features | {SCHEMAS}
    return features | {CATEGORIES} if "categories" in terms.shared or terms.axes else features


def restrictions(plan: str | None, features: Iterable[str]) -> tuple[str, ...]:
    """Which of the `features` the plan of this name does not include, as sentences; none for an unknown plan."""
    lacking = _LACKS.get((plan or "").lower(), ())
    wanted = [feature for feature in _NEEDS if feature in set(features) and _NEEDS[feature] in lacking]
    return tuple(f"the {plan} plan does not include {_named(each)}: it needs {_NEEDS[each]}" for each in wanted)


def all_restrictions(plan: str | None) -> tuple[str, ...]:
    """Everything that the plan of this name does not include, as sentences."""
    return restrictions(plan, _NEEDS)


def _named(feature: str) -> str:
    return f"{feature} inputs" if feature in ("image", "audio", "video") else feature
