"""Every value is written as what it is, or refused by row and column before anything is paid."""

from __future__ import annotations

import csv
import datetime as dt
import json
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifaily_connectors import InvalidRequestError, classify_table

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

Refused = Callable[..., str]
KINDS = ("csv", "jsonl", "parquet")
DAY = dt.datetime(2024, 1, 1)  # noqa: DTZ001  # a time without a zone is what tables are full of
UUID = uuid.UUID("12345678123456781234567812345678")


class Thing:
    """A value that no file can hold."""


@pytest.fixture
def refused(own_sandbox: Sandbox, connect: Any, tmp_path: Path) -> Refused:
    """The message of the refusal; nothing was paid."""
    client = connect(own_sandbox)

    def refused(source: Any, output: str | None = None, **options: Any) -> str:
        options.setdefault("text", "body")
        with pytest.raises(InvalidRequestError) as caught:
            classify_table(
                client, source, categories=["a", "b"], output=output and tmp_path / output, ledger=False, **options
            )
        assert own_sandbox.bill().charged == 0
        return str(caught.value)

    return refused


def read(path: Path) -> Any:
    """The column `v` as the file has it."""
    if path.suffix == ".parquet":
        return pq.read_table(path)["v"].to_pylist()
    if path.suffix == ".jsonl":

        def never(word: str) -> None:
            raise AssertionError(f"{word} is no JSON")

        lines = path.read_text().splitlines()
        return [json.loads(line, parse_constant=never, parse_float=Decimal)["v"] for line in lines]
    with path.open(newline="") as file:
        return [row["v"] for row in csv.DictReader(file)]


NO = None
VALUES: dict[str, tuple[Any, Any, Any, Any]] = {
    # given, and what CSV, JSONL and Parquet make of it; NO where it is refused
    "numpy integer": (np.int64(5), "5", 5, 5),
    "numpy float": (np.float32(1.5), "1.5", 1.5, 1.5),
    "numpy boolean": (np.bool_(True), "True", True, True),
    "numpy text": (np.str_("x"), "x", "x", "x"),
    "numpy date": (np.datetime64("2024-01-01", "s"), "2024-01-01T00:00:00", "2024-01-01T00:00:00", DAY),
    "numpy duration": (np.timedelta64(90, "s"), "P0DT0H1M30S", "P0DT0H1M30S", dt.timedelta(seconds=90)),
    "a long vector": (np.arange(1500), json.dumps([*range(1500)]), [*range(1500)], [*range(1500)]),
    "a matrix": (np.eye(2, dtype=int), "[[1, 0], [0, 1]]", [[1, 0], [0, 1]], NO),
    "a vector with NaN": (np.array([1.5, float("nan")]), "[1.5, null]", [1.5, None], ...),
    "decimal": (Decimal("12345678901234567890.10"), "12345678901234567890.10", Decimal("12345678901234567890.10"), ...),
    "a nested decimal": ({"a": Decimal("0.10")}, '{"a": 0.10}', {"a": Decimal("0.10")}, ...),
    "uuid": (UUID, str(UUID), str(UUID), UUID),
    "bytes": (b"x", "eA==", "eA==", b"x"),
    "a date and time of a zone": (DAY.replace(tzinfo=dt.UTC), "2024-01-01T00:00:00+00:00", ..., ...),
    "a time of a zone": (dt.time(1, tzinfo=dt.UTC), "01:00:00+00:00", "01:00:00+00:00", NO),
    "nanoseconds": (pd.Timestamp("2024-01-01 00:00:00.000000001"), "2024-01-01T00:00:00.000000001", ..., ...),
    "a short time": (pd.Timedelta(1, "ns"), "P0DT0H0M0.000000001S", "P0DT0H0M0.000000001S", pd.Timedelta(1, "ns")),
    "a large whole number": (2**100, str(2**100), 2**100, NO),
    "an infinite number": (float("inf"), "inf", NO, float("inf")),
    "nested and infinite": ([float("inf")], NO, NO, [float("inf")]),
    "half a pair": ("\ud83d", NO, "\ud83d", NO),
    "a set": ({1}, NO, NO, NO),
    "keys that are numbers": ({1: "a"}, NO, NO, NO),
    "a complex number": (1 + 2j, NO, NO, NO),
    "an object": (Thing(), NO, NO, NO),
    "nested object": ({"a": [Thing()]}, NO, NO, NO),
    "a period": (pd.Period("2024"), NO, NO, NO),
    "an empty object": ({}, "{}", {}, NO),
    "nested and empty": ({"a": {}}, '{"a": {}}', {"a": {}}, NO),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", VALUES)
def test_a_value_of_a_row(case: str, kind: str, refused: Refused, label: Any, tmp_path: Path) -> None:
    given, *wanted = VALUES[case]
    rows = [{"body": "one", "v": None}, {"body": "two", "v": given}]
    right = wanted[KINDS.index(kind)]
    if right is NO:
        said = refused(rows, f"out.{kind}")
        assert "'v'" in said
        assert "row" in said
        return
    label(rows, output=tmp_path / f"out.{kind}", ledger=False)
    none, found = read(tmp_path / f"out.{kind}")
    assert none in (None, "")
    assert found == right if right is not ... else True


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("nothing", [None, float("nan"), np.float64("nan"), pd.NA, pd.NaT, Decimal("NaN")])
@pytest.mark.parametrize("other", [5, "x", DAY])
def test_missing_is_null(nothing: Any, other: Any, kind: str, label: Any, tmp_path: Path) -> None:
    label([{"body": "one", "v": other}, {"body": "two", "v": nothing}], output=tmp_path / f"out.{kind}", ledger=False)
    found = read(tmp_path / f"out.{kind}")
    assert found[1] in (None, "") or (other == 5 and kind == "parquet" and found[1] != found[1])


MIXED: dict[str, list[Any]] = {
    "numbers and texts": [1, "a"],
    "numbers and truth": [1, True],
    "bytes and texts": [b"x", "y"],
    "dates and times": [DAY.date(), DAY],
    "with a zone and without": [DAY.replace(tzinfo=dt.UTC), DAY],
    "too large for a float": [2**60 + 1, 1.5],
}


@pytest.mark.parametrize("case", MIXED)
@pytest.mark.parametrize("late", [False, True])
def test_a_column_of_parquet_needs_one_type(case: str, late: bool, refused: Refused) -> None:
    """Also where the second kind comes only after many rows of the first."""
    first, second = MIXED[case]
    values = [first] * (600 if late else 1) + [second]
    assert "'v'" in (said := refused([{"body": "x", "v": value} for value in values], "out.parquet")) or "v has" in said


def arrow(type: Any, *values: Any) -> Any:
    return pa.table({"body": ["x"] * len(values), "v": pa.array(values, pa.int64()).cast(type)})


def test_types_that_parquet_has_not(refused: Refused) -> None:
    months = pa.array([(1, 2, 3)], type=pa.month_day_nano_interval())
    for output in ("out.parquet", "out.csv", "out.jsonl"):
        assert "column 'v'" in refused(pa.table({"body": ["x"], "v": months}), output)
    assert "column 'v'" in refused(pa.table({"body": ["x"], "v": pa.array([{}], pa.struct([]))}), "out.parquet")
    many = pa.table({"body": ["x"] * 3, "v": pa.array([0, 2**62, 0], pa.timestamp("s"))})
    assert "row 1, column 'v'" in refused(many, "out.parquet")


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_dates_that_text_cannot_show(kind: str, refused: Refused, label: Any, tmp_path: Path) -> None:
    far = arrow(pa.timestamp("us"), *[0] * 700, 260000000000000000)
    pq.write_table(far, tmp_path / "far.parquet")
    assert "row 700, column 'v' is a date outside the years 1 to 9999" in refused(tmp_path / "far.parquet", f"o.{kind}")
    early = pa.table({"body": ["x"], "v": pa.array([-1000000], pa.int32()).cast(pa.date32())})
    assert "row 0, column 'v' is a date outside" in refused(early, f"o.{kind}")
    label(tmp_path / "far.parquet", output=tmp_path / "kept.parquet")
    assert pq.read_table(tmp_path / "kept.parquet")["v"].equals(far["v"])


FINE: dict[str, tuple[Any, str]] = {
    "the last second of a zone in the east": (
        arrow(pa.timestamp("us", "Asia/Tokyo"), 253402300799000000), "9999-12-31T23:59:59.000000Z"
    ),
    "a zone that nobody knows": (arrow(pa.timestamp("us", "Mars/Base"), 1000), "1970-01-01T00:00:00.001000Z"),
    "nanoseconds of a day": (arrow(pa.time64("ns"), 1), "00:00:00.000000001"),
    "a long time": (arrow(pa.duration("s"), 10**15), "P11574074074DT1H46M40S"),
    "a zone": (arrow(pa.timestamp("us", "Asia/Tokyo"), 0), "1970-01-01T09:00:00+09:00"),
}  # fmt: skip


@pytest.mark.parametrize("case", FINE)
def test_dates_and_times_of_arrow(case: str, label: Any, tmp_path: Path) -> None:
    table, wanted = FINE[case]
    for kind in ("csv", "jsonl"):
        label(table, output=tmp_path / f"o.{kind}")
        assert read(tmp_path / f"o.{kind}") == [wanted]


@pytest.mark.parametrize("kind", KINDS)
def test_the_oldest_dates_of_parquet(kind: str, label: Any, refused: Refused, tmp_path: Path) -> None:
    def old(*values: dt.datetime, type: Any) -> Path:
        table = pa.table({"body": ["x"] * len(values), "v": pa.array(values, type)})
        pq.write_table(table, tmp_path / "old.parquet", use_deprecated_int96_timestamps=True)
        return tmp_path / "old.parquet"

    end = dt.datetime(9999, 12, 31)  # noqa: DTZ001
    label(old(end, DAY, type=pa.timestamp("us")), output=tmp_path / f"o.{kind}")
    assert str(read(tmp_path / f"o.{kind}")[0]).startswith("9999-12-31")
    fine = pd.Timestamp("2024-01-01 00:00:00.000000001")
    label(old(fine, type=pa.timestamp("ns")), output=tmp_path / f"o.{kind}")
    assert str(read(tmp_path / f"o.{kind}")[0]).endswith("00.000000001")


def test_frames_of_types_that_files_have_not(refused: Refused, label: Any, tmp_path: Path) -> None:
    things = pl.DataFrame({"body": ["x"], "v": pl.Series([Thing()], dtype=pl.Object)})
    frames: dict[str, Any] = {
        "complex": pd.DataFrame({"body": ["x"], "v": [1 + 2j]}),
        "objects": things,
        "periods": pd.DataFrame({"body": ["x"], "v": pd.period_range("2024", periods=1)}),
        "sets": pd.DataFrame({"body": ["x"], "v": [{1}]}),
    }
    for case, frame in frames.items():
        for kind in ("csv", "jsonl"):
            assert "column 'v'" in refused(frame, f"o.{kind}"), case
        assert label(frame).rows == 1  # what stays a frame keeps its values
    large = pl.DataFrame({"body": ["x"], "v": pl.Series([2**100], dtype=pl.Int128)})
    assert "column 'v'" in refused(large, "o.parquet")
    label(large, output=tmp_path / "o.csv")
    assert read(tmp_path / "o.csv") == [str(2**100)]
    sparse = pd.DataFrame({"body": ["x"], "v": pd.arrays.SparseArray([7])})
    label(sparse, output=tmp_path / "o.csv")
    assert read(tmp_path / "o.csv") == ["7"]
    twice = pd.DataFrame([["x", 1, 2]], columns=["body", "v", "v"])
    assert "column 'v' appears twice" in refused(twice)


@pytest.mark.parametrize("frame", [pl.DataFrame, pd.DataFrame, pa.Table.from_pydict])
def test_nan_is_null_in_text(frame: Any, label: Any, tmp_path: Path) -> None:
    source = frame({"body": ["x", "y"], "v": [1.5, float("nan")]})
    for kind, nothing in (("csv", ""), ("jsonl", None)):
        label(source, output=tmp_path / f"o.{kind}")
        assert read(tmp_path / f"o.{kind}")[1] == nothing


def test_a_named_index_is_a_column(label: Any, refused: Refused, tmp_path: Path) -> None:
    frame = pd.DataFrame({"body": ["one", "two"]}, index=pd.Index([7, 8], name="ticket"))
    label(frame, output=tmp_path / "o.csv", id_column="ticket")
    assert (tmp_path / "o.csv").read_text().splitlines()[1].startswith("7,one,")
    assert label(frame).frame.index.name == "ticket"
    frame["ticket"] = 1
    assert "both called 'ticket'" in refused(frame, "o.csv")


def test_numbers_of_jsonl_stay_as_written(label: Any, refused: Refused, tmp_path: Path) -> None:
    own = '"body": "x", "amount": 12345678901234567890.123456789, "big": 1E400, "n":  1.50, "i": 1234567890123456789012'
    (tmp_path / "in.jsonl").write_text("{" + own + "}\n")
    label(tmp_path / "in.jsonl", output=tmp_path / "o.jsonl")
    assert (tmp_path / "o.jsonl").read_text().startswith("{" + own + ', "label": ')
    label(tmp_path / "in.jsonl", output=tmp_path / "o.csv")
    assert "x,12345678901234567890.123456789,1E+400,1.5,1234567890123456789012," in (tmp_path / "o.csv").read_text()
    assert "line 1, column 'big'" in refused(tmp_path / "in.jsonl", "o.parquet")
    (tmp_path / "nan.jsonl").write_text('{"body": "x", "v": NaN, "w": 0.12345678901234567891}\n')
    label(tmp_path / "nan.jsonl", output=tmp_path / "o.jsonl")
    assert '"v": null, "w": 0.12345678901234567891, ' in (tmp_path / "o.jsonl").read_text()
    (tmp_path / "twice.jsonl").write_text('{"body": "x", "body": "y"}\n')
    assert "line 1 has the key 'body' twice" in refused(tmp_path / "twice.jsonl", "o.jsonl")


@pytest.mark.parametrize("output", [None, "o.csv", "o.jsonl", "o.parquet"])
@pytest.mark.parametrize("late", [{"extra": 1}, {"label": "by a human"}, {"Status": "open"}, {"v": {1}}])
def test_what_comes_late_in_a_generator(
    output: str | None, late: dict[str, Any], own_sandbox: Sandbox, connect: Any, tmp_path: Path
) -> None:
    """It is written, or refused by name before its own rows are bought."""

    def rows() -> Iterator[dict[str, Any]]:
        for n in range(1100):
            yield {"body": f"text {n}", **(late if n == 1090 else {"v": 5} if "v" in late else {})}

    target = output and tmp_path / output
    options: dict[str, Any] = {"text": "body", "categories": ["a", "b"], "output": target, "ledger": False}
    name = next(iter(late))
    if (name == "extra" and output in (None, "o.jsonl")) or (name == "v" and output is None):
        assert classify_table(connect(own_sandbox), rows(), **options).rows == 1100
        return
    with pytest.raises(InvalidRequestError, match=f"'{name}'"):
        classify_table(connect(own_sandbox), rows(), **options)
    assert own_sandbox.bill().charged <= 1024


def test_names_that_differ_in_case_only(refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,body,Label,STATUS\n1,x,old,open\n")
    assert "'Label'" in refused(tmp_path / "in.csv", "o.csv")
    assert "'Label'" in refused(pd.DataFrame({"body": ["x"], "Label": [1]}))
    assert "'classifaily_LABEL'" in refused([{"body": "x", "classifaily_LABEL": 1}], prefix="classifaily_")


def test_notes_beside_the_columns_of_parquet_stay(label: Any, tmp_path: Path) -> None:
    field = pa.field("v", pa.int64(), metadata={"unit": "m"})
    schema = pa.schema([pa.field("body", pa.string()), field], metadata={"geo": "{}", "mine": "yes"})
    table = pa.table({"body": ["x"], "v": [1]}, schema=schema)
    pq.write_table(table, tmp_path / "in.parquet")
    frame = pd.DataFrame({"body": ["x"], "v": pd.Categorical(["a"])}, index=pd.Index([5], name="key"))
    frame.to_parquet(tmp_path / "pandas.parquet")
    for source in (tmp_path / "in.parquet", table):
        label(source, output=tmp_path / "o.parquet")
        found = pq.read_schema(tmp_path / "o.parquet")
        assert (found.metadata[b"geo"], found.metadata[b"mine"]) == (b"{}", b"yes")
        assert found.field("v").metadata[b"unit"] == b"m"
    label(tmp_path / "pandas.parquet", output=tmp_path / "o.parquet")
    found = pd.read_parquet(tmp_path / "o.parquet")
    assert found.index.name == "key"
    assert found[["v"]].equals(frame[["v"]])


EMPTY: dict[str, bytes] = {"csv": b"id,body\n", "tsv": b"id\tbody\n", "jsonl": b""}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("given", [*EMPTY, "parquet"])
def test_a_table_without_rows_gives_one_without_rows(given: str, kind: str, label: Any, tmp_path: Path) -> None:
    source, output = tmp_path / f"in.{given}", tmp_path / f"out.{kind}"
    if given == "parquet":
        pq.write_table(pa.table({"id": pa.array([], "int64"), "body": pa.array([], "string")}), source)
    else:
        source.write_bytes(EMPTY[given])
    result = label(source, output=output)
    assert (result.rows, result.stats.billed) == (0, 0)
    own = [] if given == "jsonl" else ["id", "body"]
    if kind == "csv":
        assert output.read_text().split(",")[: len(own) + 1] == [*own, "label"]
    elif kind == "parquet":
        assert pq.read_schema(output).names[: len(own) + 1] == [*own, "label"]
        assert pq.read_table(output).num_rows == 0
    else:
        assert output.read_bytes() == b""


def test_resuming_knows_long_vectors_apart(label: Any, tmp_path: Path) -> None:
    """What an earlier run has landed is used for the same values only, though they look alike when printed."""
    stop = RuntimeError("stopped half-way")

    def halt(moment: Any) -> None:
        if moment.done:
            raise stop

    def rows(middle: int) -> list[dict[str, Any]]:
        vector = np.zeros(2000, dtype=int)
        vector[1000] = middle
        return [{"body": f"text {n}", "v": vector} for n in range(600)]

    with pytest.raises(RuntimeError, match="half-way"):
        label(rows(1), output=tmp_path / "o.jsonl", progress=halt)
    label(rows(2), output=tmp_path / "o.jsonl")
    assert {vector[1000] for vector in read(tmp_path / "o.jsonl")} == {2}


def test_zones_of_one_column_keep_their_instants(label: Any, tmp_path: Path) -> None:
    here, there = DAY.replace(tzinfo=dt.UTC), DAY.replace(tzinfo=ZoneInfo("Asia/Tokyo"))
    label([{"body": "x", "v": here}, {"body": "y", "v": there}], output=tmp_path / "o.parquet")
    assert read(tmp_path / "o.parquet") == [here, there]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_times_finer_than_pythons_within_a_list(kind: str, refused: Refused, label: Any, tmp_path: Path) -> None:
    fine = pa.table({"body": ["x"], "v": pa.array([[{"at": 1}]], pa.list_(pa.struct([("at", pa.time64("ns"))])))})
    assert "column 'v' holds a time in nanoseconds" in refused(fine, f"o.{kind}")
    rough = pa.table({"body": ["x"], "v": pa.array([[1000]], pa.list_(pa.time64("ns")))})
    label(rough, output=tmp_path / f"o.{kind}")
    assert "00:00:00.000001" in str(read(tmp_path / f"o.{kind}")[0])
