"""A table asked about on several axes: our columns once for each, and everything else as ever."""

from __future__ import annotations

import csv
import json
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from classifaily_connectors import (
    Budget,
    BudgetExceededError,
    ErrorRatioExceededError,
    InvalidRequestError,
    aclassify_table,
    aplan_table,
    classify_table,
    plan_table,
)
from classifaily_connectors.async_client import AsyncClassifailyClient
from classifaily_connectors.bulk.rows import COLUMNS
from classifaily_connectors.sandbox import Fault, Sandbox
from classifaily_connectors.tables import sinks


class Urgency(StrEnum):
    HIGH = "high"
    LOW = "low"


class Team(Enum):
    billing = "Payments, refunds, invoices"
    technical = "Bugs and errors"


AXES: dict[str, Any] = {"team": Team, "urgency": Urgency}
NAMES = [f"{axis}_{name}" for axis in AXES for name in COLUMNS]


@pytest.fixture
def ask(client: Any, ledger: str) -> Any:
    def ask(source: Any, **options: Any) -> Any:
        return classify_table(client, source, **{"text": "body", "axes": AXES, "ledger": ledger, **options})

    return ask


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_every_format(kind: str, ask: Any, make: Any, tmp_path: Path) -> None:
    out = tmp_path / f"out.{kind}"
    result = ask(make(kind), output=out)
    assert (result.rows, result.stats.rows, result.stats.billed) == (5, 10, 3 * 2)
    assert result.stats.statuses == {"completed": 8, "skipped": 2, "failed": 0, "unknown": 0, "uncovered": 0}
    if kind == "parquet":
        assert pq.read_schema(out).names == ["id", "subject", "body", *NAMES]
        found = pq.read_table(out).to_pylist()
    elif kind == "jsonl":
        found = [json.loads(line) for line in out.read_text().splitlines()]
    else:
        with out.open(newline="") as file:
            found = list(csv.DictReader(file))
    assert list(found[0]) == ["id", "subject", "body", *NAMES] == list(result.columns)
    assert [row["id"] for row in found] == list("abcde")
    assert [row["team_label"] or None for row in found][:4] == ["billing", "technical", "billing", None]
    assert {row["urgency_label"] for row in found[:3]} <= {"high", "low"}
    assert [row["urgency_status"] for row in found] == ["completed"] * 3 + ["skipped", "completed"]
    assert ask(make(kind), output=out).stats.billed == 0


def test_frames_of_every_library(framed: Any, rows: Any, ask: Any, records: Any) -> None:
    result = ask(framed(rows), prefix="our_")
    found = records(result.frame)
    assert list(found[0]) == ["id", "subject", "body", *(f"our_{name}" for name in NAMES)]
    assert found[0]["our_team_label"] == "billing"
    assert {label.partition(": ")[0] for label in result.stats.labels} == {"team", "urgency"}
    assert sum(result.stats.labels.values()) == 8


def test_empty_frames_come_back_empty(framed: Any, rows: Any, ask: Any, records: Any) -> None:
    empty = framed(rows)[:0] if not hasattr(framed(rows), "slice") else framed(rows).slice(0, 0)
    assert len(ask(empty).frame) == 0


def test_an_enum_is_written_in_words(ask: Any, rows: Any) -> None:
    found = ask(rows, axes=None, categories=Team).frame
    assert [row["label"] for row in found] == ["billing", "technical", "billing", None, found[4]["label"]]
    assert type(found[0]["label"]) is str


async def test_the_twin_the_plan_and_the_budget(own_sandbox: Sandbox, connect: Any, rows: Any, ledger: str) -> None:
    options: dict[str, Any] = {"text": "body", "axes": AXES, "ledger": ledger}
    plan = plan_table(connect(own_sandbox), rows, **options)
    assert (plan.rows, plan.unique, plan.skipped, plan.to_buy) == (10, 6, 2, 6)
    with pytest.raises(BudgetExceededError):
        classify_table(connect(own_sandbox), rows, **options, budget=Budget(max_requests=5))
    assert own_sandbox.bill().charged == 0
    async with AsyncClassifailyClient(own_sandbox.key, base_url=own_sandbox.base_url) as client:
        assert await aplan_table(client, rows, **options) == plan
        result = await aclassify_table(client, rows, **options)
    assert result.stats.billed == own_sandbox.bill().charged == 6


@pytest.mark.parametrize("change", [{}, {"axes": {"team": Team, "urgency": ["high", "low", "none"]}}])
def test_a_half_written_output_is_completed(
    ask: Any, own_sandbox: Sandbox, connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    monkeypatch.setattr(sinks, "_PART_ROWS", 50)
    table, out = tmp_path / "in.csv", tmp_path / "out.csv"
    table.write_text("id,body\n" + "".join(f"{n},ticket number {n}\n" for n in range(300)))
    own_sandbox.inject(Fault(kind="answer", status=401, method="POST", contains="number 150", times=None))
    options: dict[str, Any] = {"text": "body", "axes": AXES, "output": out, "ledger": False}
    with pytest.raises(Exception, match=r"(?i)key|401"):
        classify_table(connect(own_sandbox), table, **options, concurrency=1, batch_size=100)
    own_sandbox.clear_faults()
    paid = own_sandbox.bill().charged
    result = classify_table(connect(own_sandbox), table, **{**options, **change})
    assert result.resumed == 0 if change else 0 < result.resumed <= paid // 2
    assert (result.rows, result.stats.rows) == (300, 600)
    assert sum(result.stats.labels.values()) == sum(result.stats.statuses.values()) == 600
    assert own_sandbox.bill().charged == paid + 600 - 2 * result.resumed
    assert len(out.read_text().splitlines()) == 301


def test_too_many_errors_are_counted_in_answers(own_sandbox: Sandbox, connect: Any) -> None:
    own_sandbox.inject(Fault(kind="reset", method="POST", times=None))
    with pytest.raises(ErrorRatioExceededError, match="2 of 2 answers are missing"):
        classify_table(connect(own_sandbox), [{"body": "x"}], text="body", axes=AXES, max_error_ratio=0.5, ledger=False)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"categories": ["a"]}, "axes exclude categories and schema"),
        ({"schema": 17}, "axes exclude categories and schema"),
        ({"axes": {"team": ["a", "a"]}}, r"team\[1\].name 'a' repeats"),
        ({"ordered": False}, r"classify_table\(\) takes no option 'ordered'"),
    ],
)
def test_refused_before_anything(ask: Any, rows: Any, options: dict[str, Any], why: str) -> None:
    with pytest.raises(InvalidRequestError, match=why):
        ask(rows, **options)


def test_a_column_that_is_taken(ask: Any) -> None:
    with pytest.raises(InvalidRequestError, match="column 'team_label' of its own"):
        ask([{"body": "x", "team_label": "y"}])
