"""Act, flag or review: in doubt a human, and no label without a way to go."""

from __future__ import annotations

import pickle
from enum import Enum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifaily_connectors import ConfidencePolicy, ConfigurationError, Label
from classifaily_connectors.routing import check_targets

ALLOWED = frozenset({"billing", "technical"})


class Team(Enum):
    billing = "Payments, refunds, invoices"
    technical = "Bugs and errors"


class Topic(StrEnum):
    BILLING = "billing"
    OTHER = "other"


def labels(*confidences: float | None, label: str = "billing") -> tuple[Label, ...]:
    names = (label, "technical", "third")
    return tuple(Label(label=name, confidence=each) for name, each in zip(names, confidences, strict=False))


@pytest.mark.parametrize(
    ("policy", "found", "route", "reason"),
    [
        ({}, (0.85,), "act", "confidence at least 0.85"),
        ({}, (0.8499,), "flag", "confidence below 0.85"),
        ({}, (0.6,), "flag", "confidence below 0.85"),
        ({}, (0.5999,), "review", "confidence below 0.6"),
        ({}, (None,), "review", "no confidence"),
        ({"on_missing": "flag"}, (None,), "flag", "no confidence"),
        ({"margin": 0.2}, (0.95, 0.9), "flag", "lead below 0.2"),
        ({"margin": 0.2}, (0.95, 0.5), "act", "confidence at least 0.85"),
        ({"margin": 0.2}, (0.95,), "act", "confidence at least 0.85"),
        ({"margin": 0.2}, (0.95, None), "act", "confidence at least 0.85"),
        ({"per_label": {"billing": 0.99}}, (0.95,), "flag", "confidence below 0.99"),
        ({"per_label": {"billing": 0.3}}, (0.4,), "act", "confidence at least 0.3"),
        ({"per_label": {"technical": 0.99}}, (0.95,), "act", "confidence at least 0.85"),
    ],
)
def test_the_bars(policy: dict[str, Any], found: Any, route: str, reason: str) -> None:
    decision = ConfidencePolicy(**policy).decide(labels(*found), allowed=ALLOWED)
    assert (decision.route, decision.reason) == (route, reason)


@given(
    st.floats(0, 1), st.floats(0, 1), st.none() | st.floats(0, 1), st.sampled_from(["act", "flag", "review"]),
    st.dictionaries(st.sampled_from(["billing", "foreign"]), st.floats(0, 1)), st.none() | st.floats(0, 1),
)  # fmt: skip
def test_no_bar_lets_nothing_or_a_foreign_label_pass(
    one: float, other: float, margin: float | None, on_missing: Any, bars: dict[str, float], confidence: float | None
) -> None:
    """Issue: no label, a label outside the set, and a failed item are always review."""
    low, high = sorted((one, other))
    policy = ConfidencePolicy(act=high, review=low, margin=margin, per_label=bars, on_missing=on_missing)
    assert policy.decide((), allowed=ALLOWED).route == "review"
    assert policy.decide(labels(confidence, label="foreign"), allowed=ALLOWED).route == "review"


@pytest.mark.parametrize(
    ("bars", "field"),
    [
        ({"act": 1.1}, "act"),
        ({"review": float("nan")}, "review"),
        ({"margin": -0.1}, "margin"),
        ({"per_label": {"billing": 85}}, r"per_label\['billing'\]"),
        ({"act": 0.5, "review": 0.6}, "above act"),
        ({"on_missing": "guess"}, "on_missing"),
    ],
)
def test_bars_that_contradict_each_other_are_refused(bars: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        ConfidencePolicy(**bars)


def test_the_fingerprint_changes_with_every_bar_and_with_the_taxonomy() -> None:
    changed = [
        {"act": 0.9}, {"review": 0.5}, {"margin": 0.1}, {"per_label": {"a": 0.9}}, {"on_missing": "flag"},
    ]  # fmt: skip
    prints = [ConfidencePolicy(**bars).fingerprint() for bars in changed]
    prints += [ConfidencePolicy().fingerprint(), ConfidencePolicy().fingerprint("taxonomy")]
    assert len(set(prints)) == len(prints)
    reordered = [ConfidencePolicy(per_label=bars) for bars in ({"a": 0.7, "b": 0.9}, {"b": 0.9, "a": 0.7})]
    assert reordered[0].fingerprint() == reordered[1].fingerprint()
    assert pickle.loads(pickle.dumps(reordered[0])) == reordered[0]


@pytest.mark.parametrize(
    ("known", "targets", "why"),
    [
        (["billing", "technical"], {"billing": "x"}, "no target for the label 'technical'"),
        (["billing"], {"billing": "x", "biling": "y"}, "a target for 'biling'"),
        (Team, {Team.billing: "x"}, "no target for the label <Team.technical"),
        (Topic, {Topic.BILLING: "x"}, "no target for the label <Topic.OTHER"),
        (Topic, {Topic.BILLING: "x", Topic.OTHER: "y", Team.billing: "z"}, "a target for <Team.billing"),
        (Team, {Team.billing: "x", Team.technical: "y", "billing": "z"}, "a target for 'billing'"),
    ],
)
def test_an_unmapped_label_is_an_error_when_the_map_is_made(known: Any, targets: Any, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        check_targets(known, targets)


@pytest.mark.parametrize(
    ("known", "targets"),
    [
        (["billing"], {"billing": "x"}),
        (Team, {Team.billing: "x", Team.technical: None}),
        (Topic, {"billing": "x", "other": "y"}),
    ],
)
def test_a_complete_map_comes_back_as_it_is(known: Any, targets: Any) -> None:
    assert check_targets(known, targets) is targets
