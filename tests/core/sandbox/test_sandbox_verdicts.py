"""Verdicts are worked out, not canned: the vendor's sentences, strange ones, and a public data set's shape of words."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from classifaily_connectors.sandbox.verdicts import GENERIC, Category, Matcher

RICH = (
    Category(
        "billing",
        "Payments, refunds, invoices, subscription charges",
        ("I was charged twice", "my refund hasnt arrived", "cancel my subscription"),
    ),
    Category(
        "technical",
        "Bugs, errors, API issues, performance problems",
        ("getting a 500 error", "the API is slow", "login is broken"),
    ),
    Category(
        "account",
        "Profile, password, permissions, 2FA",
        ("forgot my password", "change my email", "enable two-factor"),
    ),
    Category("general", "Everything else"),
)


def plain(*names: str) -> tuple[Category, ...]:
    return tuple(Category(name) for name in names)


REFERENCE = plain("billing", "technical", "account", "general")
GUIDE = plain("billing", "technical_bug", "account_access", "general")
FEATURES = plain("billing", "technical_bug", "account_access", "feature_request")
TEAMS = plain("finance", "engineering", "marketing", "support")
PARCELS = plain("lost_parcel", "damaged_goods", "address_change", "invoice", "other")


@pytest.mark.parametrize(
    ("categories", "text", "label"),
    [
        (RICH, "I was charged twice for my subscription.", "billing"),
        (RICH, "The API keeps returning a 500 error.", "technical"),
        (RICH, "How do I change my password?", "account"),
        (RICH, "My invoice shows a double charge this month.", "billing"),
        (RICH, "Refund was never processed after 2 weeks.", "billing"),
        (RICH, "Do you have an office in Oslo?", "general"),
        (REFERENCE, "I was charged twice for my subscription.", "billing"),
        (REFERENCE, "The API keeps returning a 500 error.", "technical"),
        (REFERENCE, "How do I change my password?", "account"),
        (REFERENCE, "Refund never processed after 2 weeks.", "billing"),
        (FEATURES, "I cannot log in - the password reset email never arrives.", "account_access"),
        (FEATURES, "Cannot log in after password reset.", "account_access"),
        (FEATURES, "Refund request for last month.", "billing"),
        (FEATURES, "Please add dark mode.", "feature_request"),
        (GUIDE, "My invoice shows a double charge this month.", "billing"),
        (GUIDE, "My subscription was charged twice.", "billing"),
        (TEAMS, "Our server costs doubled again this quarter.", "finance"),
        (TEAMS[:3], "Our server costs doubled this quarter.", "finance"),
        (PARCELS, "Lamp shade cracked.", "damaged_goods"),
        (PARCELS, "Box never came.", "lost_parcel"),
        (PARCELS, "New postcode is 4021.", "address_change"),
        (PARCELS, "Please resend the October bill.", "invoice"),
        (PARCELS, "Do you sell gift wrap?", "other"),
        (GENERIC, "The sunset over the lake was breathtaking.", "travel"),
        (GENERIC, "We crossed the fjord by ferry at dawn.", "travel"),
        (GENERIC, "The central bank raised interest rates.", "finance"),
    ],
)
def test_samples_get_the_documented_labels(categories: tuple[Category, ...], text: str, label: str) -> None:
    ranked = Matcher(categories).rank(text)
    assert ranked[0].label == label
    assert sorted(one.label for one in ranked) == sorted(category.name for category in categories)


def test_descriptions_and_examples_count() -> None:
    """Rich objects give the model more context (API reference, Category objects)."""
    poor = plain("desk_7", "desk_9")
    rich = (Category("desk_7", "Broken lifts"), Category("desk_9", examples=("the heating is cold",)))
    text = "Our heating has been cold since Monday"
    assert Matcher(poor).rank(text)[0].share == 0.5
    assert Matcher(rich).rank(text)[0].label == "desk_9"
    assert Matcher(rich).rank(text)[0].share > 0.9


def test_weak_words_of_a_name_weigh_little() -> None:
    assert Matcher(FEATURES).rank("Refund request for last month.")[0].share > 0.8


def test_confidences_look_calibrated() -> None:
    matcher = Matcher(RICH)
    sure, unsure = matcher.rank("I was charged twice, refund my invoice"), matcher.rank("xyzzy")
    assert sure[0].share > 0.9 > unsure[0].share
    for ranked in (sure, unsure):
        assert sum(one.share for one in ranked) == pytest.approx(1, abs=0.03)
        assert all(0 <= one.share <= 1 and 0 <= one.likelihood <= 1 for one in ranked)
        assert [one.share for one in ranked] == sorted((one.share for one in ranked), reverse=True)
        assert [one.likelihood for one in ranked] == sorted((one.likelihood for one in ranked), reverse=True)
        assert all(round(one.share, 2) == one.share for one in ranked)
    both = matcher.rank("I was charged twice and forgot my password")
    assert both[0].likelihood + both[1].likelihood > 1, "labels of mode multi stand on their own"


def test_scores_are_scikit_learns() -> None:
    """The short way through the numbers gives what the library's own product gives."""
    from typing import cast

    from sklearn.feature_extraction.text import TfidfVectorizer

    from classifaily_connectors.sandbox.verdicts import _analyse, _as_is, _document

    categories = RICH[:3]
    vectorizer: Any = TfidfVectorizer(analyzer=cast("Any", _as_is), sublinear_tf=True)
    matrix = vectorizer.fit_transform([_document(category) for category in categories])
    for text in ("I was charged twice, charged again, and my password is broken", "nothing of the kind", ""):
        wanted = (vectorizer.transform([_analyse(text)]) @ matrix.T).toarray()[0]
        assert Matcher(categories).scores(text) == pytest.approx(wanted)


def test_an_explanation_names_words_of_the_input(start: Callable[..., Any]) -> None:
    matcher = Matcher(RICH)
    text = "I was charged twice for my subscription."
    assert (
        matcher.explain(text, matcher.rank(text)[0])
        == "Mentions 'charged', 'twice', 'subscription', which points to billing."
    )
    assert "general" in matcher.explain("hm", matcher.rank("hm")[0])
    answer = start().classify(text, categories=["billing", "technical"], mode="top_n", top_n=2, explain=True).json()
    assert all(label["explanation"] for label in answer["result"]["labels"])


def test_media_are_judged_by_path_or_bytes() -> None:
    matcher = Matcher(plain("apparel", "electronics", "furniture", "food"))
    assert matcher.rank_media("https://cdn.example.org/shop/blue-sofa.jpg")[0].label == "furniture"
    assert matcher.rank_media("https://food.example.org/laptop%20bag/charger.png")[0].label == "electronics"
    labels = {matcher.rank_media(f"https://e.org/{n}.jpg")[0].label for n in range(40)}
    assert len(labels) == 4, "what no word decides, the bytes do"
    uris = [f"data:image/png;base64,iVBORw0KGgo{n}AAA" for n in range(10, 50)]
    assert {matcher.rank_media(uri)[0].label for uri in uris} == labels
    assert matcher.rank_media(uris[0]) == Matcher(plain("apparel", "electronics", "furniture", "food")).rank_media(
        uris[0]
    )


def test_verdicts_are_the_same_in_every_process() -> None:
    script = (
        "from classifaily_connectors.sandbox.verdicts import GENERIC, Matcher; m = Matcher(GENERIC);"
        "print(m.rank('a bank by the river, a film about soup'), m.rank_media('https://e.org/7.jpg'))"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


@pytest.mark.parametrize("text", ["", "🦜🦜", "的确 如此", "a" * 100_000, "' '' '", "\x00", "_ _"])
def test_any_text_gets_a_verdict(text: str) -> None:
    assert len(Matcher(plain("x", "???", "règlement")).rank(text)) == 3


def test_scripts_answer_instead(start: Callable[..., Any]) -> None:
    api = start()
    api.script("twice", "special", times=2)
    api.script("whole", {"label": None, "confidence": 0.0})
    seen = [api.classify("twice", categories=["a", "b"]).json()["result"]["label"] for _ in range(3)]
    assert seen == ["special", "special", "a"]
    assert api.classify("whole").json()["result"] == {"label": None, "confidence": 0.0}
    api.script("whole")
    assert api.classify("whole").json()["result"]["label"]
    assert "twice" not in repr(api._core.service.scripts)
