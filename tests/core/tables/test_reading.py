"""What people's files look like, read as meant or refused with the cause; and files that change while they are read."""

from __future__ import annotations

import csv
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifaily_connectors import (
    AsyncClassifailyClient,
    ClassifailyError,
    InvalidRequestError,
    aclassify_table,
    classify_table,
    plan_table,
)
from classifaily_connectors.tables.surveying import Survey

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

OPTIONS: dict[str, Any] = {"text": "body", "categories": ["a", "b"], "ledger": False}


def put(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def cells(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


# --- quotes, and what Excel writes ------------------------------------------------------------


def test_a_stray_quote_costs_one_row(label: Any, tmp_path: Path) -> None:
    source = put(tmp_path / "in.csv", 'id,body\n1,one\n2,"Best" shop\n3,"never closed\n4,four\n5,five\n')
    with pytest.raises(InvalidRequestError, match="line 3 .*quote"):
        label(source, output=tmp_path / "out.csv")
    result = label(source, output=tmp_path / "out.csv", on_invalid="skip")
    assert (result.rows, result.stats.statuses["completed"], result.stats.statuses["skipped"]) == (5, 3, 2)
    found = cells(tmp_path / "out.csv")
    assert [row["id"] for row in found] == list("12345")
    assert "line 4" in found[2]["error"]


def test_a_quote_that_joins_rows_of_a_tsv_is_told(label: Any, tmp_path: Path) -> None:
    source = put(tmp_path / "in.tsv", 'id\tbody\n1\t"one\n2\ttwo\n3\tthree"\n4\tfour\n')
    with pytest.raises(InvalidRequestError, match="line 2 opens a quote that line 4 closes"):
        label(source, output=tmp_path / "out.tsv")
    result = label(source, output=tmp_path / "out.tsv", on_invalid="skip")
    assert result.stats.statuses["completed"] == 3
    put(source, 'id\tbody\n1\t"one,\ntwo lines"\n2\ttwo\n')
    assert label(source, output=tmp_path / "out.tsv").rows == 2


EXCEL: dict[str, tuple[bytes | str, str]] = {
    "sep= before the header": ("sep=;\nid;body\n1;a, b\n", ";"),
    "UTF-16": ("id,body\n1,a\n".encode("utf-16"), ","),
    "UTF-16 of big machines": (b"\xfe\xff" + "id\tbody\n1\ta\n".encode("utf-16-be"), "\t"),
    "a comma in a quoted name": ('id;"a, b";body\n1;2;a\n', ";"),
    "a byte order mark before a quoted name": (b'\xef\xbb\xbf"id","body"\n1,a\n', ","),
}


@pytest.mark.parametrize("case", EXCEL)
def test_what_excel_writes(case: str, label: Any, tmp_path: Path) -> None:
    content, delimiter = EXCEL[case]
    label(put(tmp_path / "in.csv", content), output=tmp_path / "out.csv", id_column="id")
    assert cells(tmp_path / "out.csv", delimiter)[0]["id"] == "1"


def test_what_excel_writes_and_nobody_can_read(label: Any, tmp_path: Path) -> None:
    causes = {
        "id,body,,\n1,a,,\n": "line 1: two columns have no name",
        "id, body \n1,a\n": "is ' body ' meant, blanks and capitals included",
        "id,Body\n1,a\n": "is 'Body' meant",
        "id,body,x\n1,a\n": "line 2 has 2 cells, the header 3",
    }
    for content, cause in causes.items():
        with pytest.raises(InvalidRequestError, match=cause):
            label(put(tmp_path / "in.csv", content), output=tmp_path / "out.csv")
    with pytest.raises(InvalidRequestError, match="begins as UTF-16"):
        label(put(tmp_path / "in.csv", b"\xff\xfeabc"), output=tmp_path / "out.csv")


# --- columns that only look like terms, and cells without text ---------------------------------


def test_a_type_of_the_tables_own_is_no_input_type(label: Any, own_sandbox: Sandbox, connect: Any) -> None:
    rows = [{"input": "refund", "type": "incident", "categories": "a;b"}, {"input": "api", "type": "question"}]
    client, options, paid = connect(own_sandbox), {"categories": ["a", "b"], "ledger": False}, 0
    for name in ("type", "categories"):
        given = [{"input": row["input"], name: row.get(name)} for row in rows]
        with pytest.raises(InvalidRequestError, match=rf"row 0, column '{name}' holds no .*text='input'"):
            classify_table(client, given, **options)
        assert own_sandbox.bill().charged == paid
        result = classify_table(client, given, on_invalid="skip", **options)
        assert result.stats.statuses["completed"] == 2
        assert [row.get(name) for row in result.frame] == [row.get(name) for row in given]
        paid = own_sandbox.bill().charged
    assert classify_table(client, rows, text="input", **options).stats.statuses["completed"] == 2


def test_an_empty_cell_is_named(label: Any, tmp_path: Path) -> None:
    label(put(tmp_path / "in.csv", "id,body\n1,a\n2, \n"), output=tmp_path / "out.csv")
    assert "line 3, column 'body' is empty" in cells(tmp_path / "out.csv")[1]["error"]
    assert "row 1, column 'body' is empty" in label([{"body": "a"}, {"body": None}]).frame[1]["error"]


# --- files that are no files, and files that change --------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_a_named_pipe_is_read_once(kind: str, make: Any, label: Any, tmp_path: Path) -> None:
    content = make(kind).read_bytes()
    pipe = tmp_path / f"pipe.{kind}"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(content), daemon=True)
    writer.start()
    assert label(pipe, output=tmp_path / "out.jsonl").rows == 5
    writer.join(10)
    (tmp_path / "null.csv").symlink_to("/dev/null")
    with pytest.raises(InvalidRequestError, match="no file, but a device"):
        label(tmp_path / "null.csv", output=tmp_path / "out.csv")


LINE: dict[str, Callable[[int], str]] = {
    "csv": lambda n: f"{n},text {n}\n",
    "jsonl": lambda n: json.dumps({"id": n, "body": f"text {n}"}) + "\n",
}


@pytest.mark.parametrize("kind", LINE)
@pytest.mark.parametrize("rows", [300, 512, 600])
def test_a_file_that_grows_is_read_to_where_it_was(
    kind: str, rows: int, own_sandbox: Sandbox, connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = put(
        tmp_path / f"in.{kind}", ("id,body\n" if kind == "csv" else "") + "".join(map(LINE[kind], range(rows)))
    )
    look = Survey.run

    def grow(survey: Survey) -> None:
        look(survey)
        with source.open("a") as file:
            file.write("".join(LINE[kind](n) for n in range(rows, rows + 700)))

    monkeypatch.setattr(Survey, "run", grow)
    result = classify_table(connect(own_sandbox), source, output=tmp_path / "out.jsonl", **OPTIONS)
    assert (result.rows, own_sandbox.bill().charged) == (rows, rows)
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == rows


def test_a_file_that_shrinks_or_changes_its_columns_is_told(
    own_sandbox: Sandbox, connect: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, later = Survey.run, [""]
    source = tmp_path / "in.jsonl"

    def change(survey: Survey) -> None:
        look(survey)
        put(source, later[0])

    monkeypatch.setattr(Survey, "run", change)
    for content, cause in (
        ('{"body": "a"}\n', "changed while it was read: it had 3 rows, and now has 1"),
        ('{"body": "a", "new": 1}\n' * 3, "brings the new column 'new'"),
        ('{"body": "a", "label": 1}\n' * 3, "'label'"),
    ):
        later[0] = content
        put(source, '{"body": "a"}\n' * 3)
        with pytest.raises(InvalidRequestError, match=cause):
            classify_table(connect(own_sandbox), source, output=tmp_path / "out.csv", **OPTIONS)
    assert own_sandbox.bill().charged <= 1


# --- anything at all ---------------------------------------------------------------------------

JUNK = np.random.default_rng(4).bytes(3000)


def broken(folder: Path) -> Iterator[tuple[str, Any]]:
    """Tables that something is wrong with, or that look like it."""
    good = pa.table({"body": [f"text {n}" for n in range(2000)], "n": range(2000)})
    pq.write_table(good, folder / "good.parquet")
    parquet = (folder / "good.parquet").read_bytes()
    spoilt = bytearray(parquet)
    spoilt[len(spoilt) // 3 :][:200] = b""
    spoilt[len(spoilt) // 3 : len(spoilt) // 3 + 200] = b"\xff" * 200
    files: dict[str, bytes | str] = {
        "empty.csv": "", "empty.jsonl": "", "empty.parquet": "", "blank.csv": "\n\n", "blank.jsonl": "\n\n",
        "junk.csv": JUNK, "junk.tsv": JUNK, "junk.jsonl": JUNK, "junk.parquet": JUNK, "junk.csv.gz": JUNK,
        "junk.jsonl.zst": JUNK, "junk.csv.xz": JUNK, "junk.jsonl.bz2": JUNK, "cut.parquet": parquet[:-20],
        "half.parquet": parquet[: len(parquet) // 2], "spoilt.parquet": bytes(spoilt),
        "magic.parquet": b"PAR1" + JUNK + b"PAR1", "utf16.jsonl": '{"body": "a"}\n'.encode("utf-16"),
        "cp1252.csv": "body\ncafé\n".encode("cp1252"), "late.csv": b"body\n" + b"a\n" * 2000 + b"\xff\n",
        "twice.csv": "body,body\na,b\n", "twice.jsonl": '{"body": "a", "body": "b"}\n', "nul.csv": "body\n\0\n",
        "open.csv": 'body\n"a\n', "header.csv": '"body\n', "ragged.csv": "body,x\na\nb,c,d\n",
        "quote.tsv": 'body\t"\n"',
        "huge.jsonl": '{"body": "a", "n": ' + "9" * 5000 + "}\n",
        "deep.jsonl": '{"body": "a", "n": ' + "[" * 100_000 + "\n",
        "nested.jsonl": '{"body": "a", "n": {"a": [1, {"b": NaN}]}}\n', "list.jsonl": "[1]\n", "number.jsonl": "5\n",
        "surrogate.jsonl": '{"body": "a", "n": "\\ud83d"}\n', "name.jsonl": '{"body": "a", "\\ud83d": 1}\n',
        "infinite.jsonl": '{"body": "a", "n": -Infinity}\n',
        "mixed.jsonl": '{"body": "a", "n": 1}\n{"body": "b", "n": "x"}\n',
        "number.csv": "body\n" + "9" * 5000 + "\n",
    }  # fmt: skip
    for name, content in files.items():
        yield name, put(folder / name, content)
    (folder / "folder.csv").mkdir()
    yield "folder", folder / "folder.csv"
    yield "nowhere", folder / "nowhere.parquet"
    cyclic: list[Any] = []
    cyclic.append(cyclic)

    class Odd:
        def __eq__(self, other: object) -> bool:
            raise ZeroDivisionError

        __hash__ = None  # type: ignore[assignment]

        def __repr__(self) -> str:
            raise ZeroDivisionError

    for name, value in {
        "cyclic": cyclic, "odd": Odd(), "nested odd": {"a": Odd()}, "generator": (n for n in "ab"), "type": int,
        "int128": 2**127, "year": np.datetime64("20000-01-01"), "generic": np.datetime64("NaT"), "lambda": len,
        "series": pd.Series([1]), "frame": pl.DataFrame({"a": [1]}), "scalar": pa.scalar(1),
        "interval": pd.Interval(0, 1),
    }.items():  # fmt: skip
        yield name, [{"body": "a", "v": value}]
    yield "pandas object", pd.DataFrame({"body": ["a", "b"], "v": [1, "x"]})
    yield "pandas odd", pd.DataFrame({"body": ["a"], "v": [{"a": {1}}]})
    yield "pandas names", pd.DataFrame([["a", 1]], columns=["body", 5])
    yield "pandas levels", pd.DataFrame([["a", 1]], columns=pd.MultiIndex.from_tuples([("body", ""), ("v", "x")]))
    yield "pandas interval", pd.DataFrame({"body": ["a"], "v": pd.interval_range(0, 1)})
    yield "pandas categories", pd.DataFrame({"body": ["a"], "v": pd.Categorical([(1, 2)])})
    yield "pandas far", pd.DataFrame({"body": ["a"], "v": np.array(["20000-01-01"], "datetime64[s]")})
    yield "polars duration", pl.DataFrame({"body": ["a"], "v": [1]}).with_columns(pl.col("v").cast(pl.Duration("ms")))
    yield "arrow twice", pa.table([pa.array(["a"]), pa.array(["b"])], ["body", "body"])
    yield (
        "arrow union",
        pa.table({"body": ["a"], "v": pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])}),
    )
    yield "arrow runs", pa.table({"body": ["a"], "v": pa.RunEndEncodedArray.from_arrays([1], [5])})
    yield "arrow dates", pa.table({"body": ["a"], "v": pa.array([2**62]).cast(pa.date64())})
    yield "arrow nested", pa.table({"body": ["a"], "v": pa.array([[2**62]], pa.list_(pa.timestamp("us")))})
    yield "arrow uint64", pa.table({"body": ["a"], "v": pa.array([2**64 - 1], pa.uint64())})
    yield "arrow map", pa.table({"body": ["a"], "v": pa.array([[("k", float("nan"))]], pa.map_("string", "float64"))})
    yield "arrow bytes", pa.table({"body": pa.array([b"\xff"], pa.binary()).cast(pa.binary()), "v": [1]})
    yield "nothing", None
    yield "number", 5
    yield "a set of rows", {("body", "a")}


def test_whatever_is_wrong_is_told_in_our_words(own_sandbox: Sandbox, connect: Any, tmp_path: Path) -> None:
    """No other library's error leaves, and nothing is paid for what is refused."""
    client, problems = connect(own_sandbox), list[str]()
    for name, source in broken(tmp_path):
        for output in (None, "o.csv", "o.jsonl", "o.parquet"):
            for on_invalid in ("raise", "skip"):
                paid = own_sandbox.bill().charged
                target = output and tmp_path / output
                try:
                    classify_table(client, source, output=target, on_invalid=on_invalid, **OPTIONS)
                except ClassifailyError:
                    if own_sandbox.bill().charged != paid:
                        problems.append(f"{name} to {output}: refused after it was paid for")
                except Exception as error:  # noqa: BLE001  # that is what is looked for
                    problems.append(f"{name} to {output}, {on_invalid}: {type(error).__name__}: {str(error)[:100]}")
        try:
            plan_table(client, source, **OPTIONS)
        except ClassifailyError:
            pass
        except Exception as error:  # noqa: BLE001  # that is what is looked for
            problems.append(f"{name}, planned: {type(error).__name__}: {str(error)[:100]}")
    assert problems == []


async def test_the_asynchronous_client_tells_it_too(own_sandbox: Sandbox, tmp_path: Path) -> None:
    problems = list[str]()
    async with AsyncClassifailyClient(own_sandbox.key, base_url=own_sandbox.base_url) as client:
        for name, source in broken(tmp_path):
            try:
                await aclassify_table(client, source, output=tmp_path / "o.parquet", **OPTIONS)
            except ClassifailyError:
                pass
            except Exception as error:  # noqa: BLE001  # that is what is looked for
                problems.append(f"{name}: {type(error).__name__}: {str(error)[:100]}")
    assert problems == []
