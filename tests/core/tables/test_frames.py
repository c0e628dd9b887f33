"""Frames in, frames out: the same library, the same columns, the same answers whoever asks."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifaily_connectors import AsyncClassifailyClient, InvalidRequestError, aclassify_table, aplan_table, plan_table
from classifaily_connectors.bulk.rows import COLUMNS

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox


def test_same_library_same_columns_same_answers(framed: Any, rows: Any, label: Any, records: Any) -> None:
    """Every library gives what the list of dicts gives."""
    plain = label(rows).frame
    source = framed(rows)
    result = label(source)
    assert type(result.frame) is type(source)
    found = records(result.frame)
    assert [list(row) for row in found] == [[*rows[0], *COLUMNS]] * len(rows)
    varying = ("source",)
    assert [{k: v for k, v in row.items() if k not in varying} for row in found] == [
        {k: v for k, v in row.items() if k not in varying} for row in plain
    ]
    assert (result.rows, result.output) == (5, None)


async def test_the_asynchronous_twin(framed: Any, label: Any, records: Any, sandbox: Sandbox, ledger: str) -> None:
    rows = [{"body": f"text {n}"} for n in range(700)]
    label(rows)  # paid once; from here on the ledger answers
    options: dict[str, Any] = {"text": "body", "categories": ["billing", "technical", "account", "general"]}
    async with AsyncClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        assert (await aplan_table(client, framed(rows), ledger=ledger, **options)).to_buy == 0
        result = await aclassify_table(client, framed(rows), ledger=ledger, **options)
    assert records(result.frame) == records(label(framed(rows)).frame)
    assert result.stats.billed == 0


def test_an_index_of_any_kind_stays(label: Any) -> None:
    frame = pd.DataFrame({"body": ["one", "two", "one"]}, index=["x", "x", "y"])
    found = label(frame).frame
    assert found.index.to_list() == ["x", "x", "y"]
    assert list(found["status"]) == ["completed"] * 3
    assert list(frame.columns) == ["body"]


def test_columns_of_ours_have_their_types(label: Any) -> None:
    found = label(pl.DataFrame({"body": ["one"]})).frame
    struct = pl.Struct({"label": pl.String, "confidence": pl.Float64, "explanation": pl.String})
    assert found.schema["labels"] == pl.List(struct)
    assert found.schema["confidence"] == pl.Float64
    assert label(pl.DataFrame({"body": ["", ""]})).frame.schema == found.schema


@pytest.mark.parametrize("nothing", [None, float("nan"), pd.NA, pd.NaT])
def test_missing_text_is_skipped_whatever_it_is_called(nothing: Any, label: Any) -> None:
    for source in (pd.DataFrame({"body": ["a", nothing]}, dtype=object), [{"body": "a"}, {"body": nothing}]):
        for how in ({"text": "body"}, {"template": "Text: {body}"}):
            result = label(source, **how)
            assert result.stats.statuses["skipped"] == 1
            assert result.stats.statuses["completed"] == 1


def test_a_frame_may_go_to_a_file(framed: Any, rows: Any, label: Any, tmp_path: Path) -> None:
    result = label(framed(rows), output=tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(list(rows[0])).to_pylist() == rows
    assert result.frame is None


def test_template_joins_columns_of_any_type(label: Any) -> None:
    frame = pl.DataFrame({"n": [1, 2], "day": [dt.date(2026, 1, 1), None], "body": ["a", None]})
    found = label(frame, template="{n} of {day}: {body}")
    assert found.stats.statuses["completed"] == 2
    assert found.stats.billed == 2


def test_a_generator_is_labelled_as_it_comes(rows: Any, label: Any, tmp_path: Path) -> None:
    def source() -> Iterator[dict[str, str]]:
        yield from rows

    assert [row["id"] for row in label(source()).frame] == list("abcde")
    label(source(), output=tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").column("id").to_pylist() == list("abcde")


def test_empty_frames_come_back_empty(framed: Any, label: Any) -> None:
    if framed is list:
        assert label([]).frame == []
        return
    empty = label(pl.DataFrame({"body": []}, schema={"body": pl.String})).frame
    assert empty.shape == (0, 1 + len(COLUMNS))
    assert label(pa.table({"body": pa.array([], "string")})).frame.num_columns == 1 + len(COLUMNS)
    assert label(pd.DataFrame({"body": pd.Series([], dtype="str")})).frame.shape == (0, 1 + len(COLUMNS))


def test_lazy_frames_must_be_collected(label: Any) -> None:
    with pytest.raises(InvalidRequestError, match="collect"):
        label(pl.LazyFrame({"body": ["a"]}))


def test_items_with_terms_of_their_own(label: Any) -> None:
    """Without text= or template=, rows are items: `input` and perhaps `categories` and `type`."""
    rows = [{"input": "refund my invoice", "categories": ["billing", "other"]}, {"input": "refund my invoice"}]
    result = label(rows, text=None)
    assert result.stats.billed == 2
    assert {row["status"] for row in result.frame} == {"completed"}


def test_plan_is_right_to_the_item(rows: Any, label: Any, client: Any, ledger: str) -> None:
    options: dict[str, Any] = {"text": "body", "categories": ["billing", "technical", "account", "general"]}
    label(rows[:1])
    plan = plan_table(client, rows, ledger=ledger, **options)
    assert (plan.rows, plan.unique, plan.already_paid, plan.skipped) == (5, 3, 1, 1)
    assert plan.to_buy == label(rows).stats.billed == 2
