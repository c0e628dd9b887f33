"""An Enum as a taxonomy, and a taxonomy as an Enum."""

from __future__ import annotations

import gc
from enum import Enum, StrEnum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifaily_connectors import BatchResult, Category, Classification, ConfigurationError, members
from classifaily_connectors.enums import categories_of, label_of, member_for, source_of, typed
from classifaily_connectors.taxonomy import parse_categories


class Team(Enum):
    billing = "Payments, refunds, invoices"
    technical = "Bugs and errors"
    general = 3


class Topic(StrEnum):
    BILLING = "billing"
    """Payments,
    refunds."""
    NEEDS_REVIEW = "needs review"
    FEATURE = "A wish for something new"


def pairs(taxonomy: type[Enum]) -> list[tuple[str, str | None]]:
    return [(each.name, each.description) for each in categories_of(taxonomy)]


def test_values_become_descriptions() -> None:
    assert pairs(Team) == [
        ("billing", "Payments, refunds, invoices"),
        ("technical", "Bugs and errors"),
        ("general", None),
    ]


def test_values_that_spell_the_name_are_labels_and_texts_below_members_describe() -> None:
    assert pairs(Topic) == [
        ("billing", "Payments,\nrefunds."),
        ("needs review", None),
        ("FEATURE", "A wish for something new"),
    ]


def test_an_enum_stands_wherever_categories_do() -> None:
    assert parse_categories(Team) == categories_of(Team)
    assert parse_categories([Team.billing, "other"])[0].description == "Payments, refunds, invoices"


def test_an_answer_becomes_a_member_and_a_foreign_label_none() -> None:
    answer = Classification.model_validate({"result": {"label": "needs review", "confidence": 0.9}})
    assert label_of(Topic, answer) is Topic.NEEDS_REVIEW
    assert member_for(Topic, "something else") is None
    assert member_for(Topic, None) is None


def stored(answer: Classification[Any]) -> Classification[Any]:
    """The answer as a result store that writes JSON gives it back."""
    return Classification.model_validate_json(answer.model_dump_json())


def answer(label: str) -> Classification[Any]:
    return Classification.model_validate({"result": {"label": label, "confidence": 0.9}})


def test_a_label_is_still_a_member_after_json() -> None:
    team = typed(answer("billing"), Team)
    assert team.label is Team.billing
    assert stored(team).label is Team.billing
    assert stored(stored(team)).label is Team.billing
    assert Classification[Team].model_validate(team.model_dump()).label is Team.billing
    assert stored(typed(answer("sales"), Team)).label is None
    batch = BatchResult[Team](results=(team,))
    assert BatchResult[Team].model_validate_json(batch.model_dump_json()).results[0].label is Team.billing


class OnlyHere(Enum):
    billing = "Payments"


def test_an_enum_is_found_where_its_file_has_another_module_name() -> None:
    script = Classification[Any].model_validate({**answer("billing").model_dump(), "label_enum": "__main__:OnlyHere"})
    assert script.label is OnlyHere.billing


def test_a_label_whose_enum_is_not_known_says_so() -> None:
    def lone() -> Classification[Any]:
        class Passing(Enum):
            billing = "Payments"

        return typed(answer("billing"), Passing)

    read = stored(lone())
    gc.collect()
    with pytest.warns(UserWarning, match=r"the label is a text.*no Enum .*Passing; import its module"):
        assert read.label == "billing"


@pytest.mark.parametrize("path", ["os:system", "nowhere:Team2", "enum:Enum", "pathlib:Path", "a b", "", None, 7, ["x"]])
def test_a_name_in_an_answer_runs_no_code(path: object) -> None:
    assert members.find(path) is None


NAMES = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1).filter(str.strip).map(str.strip)


@given(
    st.lists(
        st.builds(Category, name=NAMES, description=st.none() | NAMES), min_size=1, unique_by=lambda each: each.name
    )
)
def test_written_source_stands_for_the_same_categories(categories: list[Category]) -> None:
    try:
        source = source_of(categories, "Written")
    except ConfigurationError:  # two names that differ only in what an identifier cannot hold
        return
    space: dict[str, Any] = {}
    exec(source, space)
    assert [str(member) for member in space["Written"]] == [each.name for each in categories]


@pytest.mark.parametrize("name", ["", "two words", "class", "1st"])
def test_a_class_needs_a_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match="name of a class"):
        source_of([Category(name="a")], name)
