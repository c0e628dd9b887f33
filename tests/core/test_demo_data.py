"""The table of the demo holds what the demo is to prove: duplicates, awkward text, and rows no request is worth."""

from __future__ import annotations

import csv
import json
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from classifaily_connectors.taxonomy import parse_categories

DATA = Path(__file__).parents[2] / "examples" / "data"
TICKETS = DATA / "support_tickets.csv"
COLUMNS = ["ticket_id", "created_at", "channel", "language", "subject", "body"]
LONGEST = 100_000


@pytest.fixture(scope="module")
def tickets() -> list[dict[str, str]]:
    with TICKETS.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file, strict=True)
        assert reader.fieldnames == COLUMNS
        rows = list(reader)
    assert all(None not in row and None not in row.values() for row in rows)
    return rows


def test_there_are_enough_tickets_and_no_two_have_one_id(tickets: list[dict[str, str]]) -> None:
    assert len(tickets) >= 320
    assert len({ticket["ticket_id"] for ticket in tickets}) == len(tickets)
    assert [ticket["created_at"] for ticket in tickets] == sorted(ticket["created_at"] for ticket in tickets)
    assert len({ticket["body"] for ticket in tickets}) >= 250


def test_the_file_is_small_enough_for_a_repository() -> None:
    assert TICKETS.stat().st_size < 300_000


def test_about_twenty_rows_repeat_another_word_for_word(tickets: list[dict[str, str]]) -> None:
    bodies = Counter(ticket["body"] for ticket in tickets)
    assert 18 <= len(tickets) - len(bodies) <= 26
    assert max(bodies.values()) >= 3


def test_one_body_is_empty_and_one_is_too_long(tickets: list[dict[str, str]]) -> None:
    assert [ticket["body"] for ticket in tickets if not ticket["body"].strip()] == [""]
    (log,) = (ticket["body"] for ticket in tickets if len(ticket["body"]) > LONGEST)
    assert len(log) == 110_000


@pytest.mark.parametrize("awkward", ["\n", "\n\n", '"', ",", ";", "\t", "'", "=SUM(", "€", "🙏", "\u200d"])
def test_bodies_hold_what_breaks_a_careless_reader(tickets: list[dict[str, str]], awkward: str) -> None:
    assert any(awkward in ticket["body"] for ticket in tickets if len(ticket["body"]) <= LONGEST)


@pytest.mark.parametrize(
    "script", ["LATIN SMALL LETTER E WITH ACUTE", "CJK", "HIRAGANA", "HANGUL", "ARABIC", "HEBREW", "CYRILLIC", "GREEK"]
)
def test_bodies_are_written_in_many_scripts(tickets: list[dict[str, str]], script: str) -> None:
    letters = {letter for ticket in tickets for letter in ticket["body"] if letter.isalpha()}
    assert any(unicodedata.name(letter, "").startswith(script) for letter in letters)


def test_accents_come_composed_and_decomposed(tickets: list[dict[str, str]]) -> None:
    """A reader that normalises text changes it, and with it the key that says what was paid."""
    assert any(not unicodedata.is_normalized("NFC", ticket["body"]) for ticket in tickets)


def test_the_categories_are_the_four_teams_of_the_reference() -> None:
    """API reference, Category objects: "Rich objects … significantly improve accuracy"."""
    categories = parse_categories(json.loads((DATA / "categories.json").read_text(encoding="utf-8")))
    assert [category.name for category in categories] == ["billing", "technical", "account", "general"]
    assert all(category.description and len(category.examples) >= 3 for category in categories)
