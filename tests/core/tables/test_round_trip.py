"""Any CSV text comes out as it went in."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from classifaily_connectors import ClassifailyClient, classify_table
from classifaily_connectors.bulk.rows import COLUMNS

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

DIALECTS: list[dict[str, Any]] = [{"lineterminator": "\r\n"}, {"lineterminator": "\n", "quoting": csv.QUOTE_ALL}]
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NAME = st.text(st.characters(codec="utf-8", exclude_characters=";\t|\r\n"), min_size=1, max_size=8).filter(str.strip)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    """A header of different names and rows of any text; the first column is never all there is of a line."""
    others = draw(st.lists(NAME.filter(lambda name: name not in (*COLUMNS, "body")), max_size=3, unique=True))
    header = draw(st.permutations(["body", *others]))
    rows = draw(st.lists(st.lists(TEXT, min_size=len(header), max_size=len(header)), min_size=1, max_size=6))
    return [list(header), *rows]


def written(table: list[list[str]], **dialect: Any) -> str:
    text = io.StringIO(newline="")
    csv.writer(text, **dialect).writerows(table)
    return text.getvalue()


@pytest.fixture(scope="module")
def shared(sandbox: Sandbox) -> Any:
    with ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        yield client


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tables(), st.sampled_from(DIALECTS))
@example([["body", "b"], ["\r", "\n"], ["\r\n", '"']], DIALECTS[0])
@example([["body"], ["\r"], [""]], DIALECTS[1])
def test_any_text_round_trips(shared: Any, table: list[list[str]], dialect: dict[str, Any]) -> None:
    if table[0][0].startswith("\ufeff"):
        return  # a byte order mark in front of the file is none of its text
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "in.csv"), Path(folder, "out.csv")
        source.write_bytes(written(table, **dialect).encode())
        result = classify_table(shared, source, text="body", categories=["a", "b"], output=out, ledger=False)
        with out.open(newline="", encoding="utf-8") as file:
            found = list(csv.reader(file))
    width = len(table[0])
    assert [row[:width] for row in found] == table
    assert [row[width:] for row in found[:1]] == [list(COLUMNS)]
    place = table[0].index("body")
    skipped = sum(not row[place].strip() for row in table[1:])
    assert result.stats.statuses == {
        "completed": result.rows - skipped, "failed": 0, "unknown": 0, "skipped": skipped, "uncovered": 0
    }  # fmt: skip
