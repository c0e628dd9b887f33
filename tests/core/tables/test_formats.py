"""JSON arrays, Excel workbooks, folders and patterns as tables, and files whose name does not say what they are."""

from __future__ import annotations

import csv
import datetime as dt
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifaily_connectors import InvalidRequestError
from classifaily_connectors.tables import jsonarrays
from classifaily_connectors.tables.opening import Reading, open_table

Label = Callable[..., Any]
BODIES = ["I was charged twice", "The app crashes", "I was charged twice", "=1+1", "Where is my invoice?"]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- JSON arrays ------------------------------------------------------------------------------


@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_an_array_goes_in_and_out(
    label: Label, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, indent: int | None, piece: int
) -> None:
    """However it is laid out, and wherever the pieces end in which it is read."""
    monkeypatch.setattr(jsonarrays, "_PIECE", piece)
    rows = [
        {"n": number, "body": f'{body} "\\[{{]}}\n', "deep": [{"a": [1.5, None]}]} for number, body in enumerate(BODIES)
    ]
    source, output = tmp_path / "in.json", tmp_path / "out.json"
    source.write_text(json.dumps(rows, indent=indent), encoding="utf-8")
    assert label(source, output=output).rows == 5
    found = json.loads(output.read_text(encoding="utf-8"))
    assert [{name: row[name] for name in ("n", "body", "deep")} for row in found] == rows
    assert all(row["status"] == "completed" for row in found)


def test_numbers_of_an_array_keep_their_digits(label: Label, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text('[{"n": 12345678901234567890.123456789, "big": 1E400, "body": "x"}]')
    label(tmp_path / "in.json", output=tmp_path / "out.json")
    assert '"n": 12345678901234567890.123456789, "big": 1E400' in (tmp_path / "out.json").read_text()


def test_an_empty_array_is_an_empty_table(label: Label, tmp_path: Path) -> None:
    (tmp_path / "in.json").write_text(" [ ]\n")
    assert label(tmp_path / "in.json", output=tmp_path / "out.json").rows == 0
    assert json.loads((tmp_path / "out.json").read_text()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"body": "x"}', "is no JSON array of objects: name it .jsonl"),
        ('{"body": "x"}\n{"body": "y"}', "is no JSON array of objects"),
        ("", "is no JSON array of objects"),
        ('[{"body": "x"}', "is cut off"),
        ('[{"body": "x"', "is cut off"),
        ('[{"body": "x"} {"body": "y"}]', "a comma or the closing bracket"),
        ('[{"body": "x"}, 12]', "line 2 is no JSON object"),
        ('[{"body": "x", "body": "y"}]', "has the key 'body' twice"),
        ('[{"body": "x"},]', "is cut off"),
    ],
)
def test_what_is_no_array_is_refused(label: Label, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "in.json").write_text(text)
    with pytest.raises(InvalidRequestError, match=message):
        label(tmp_path / "in.json", output=tmp_path / "out.json")


# --- Excel ------------------------------------------------------------------------------------


def workbook(path: Path, rows: list[list[Any]]) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(path)
    return path


def test_a_workbook_goes_in_and_out_and_cells_keep_their_types(label: Label, tmp_path: Path) -> None:
    moment, day = dt.datetime.fromisoformat("2026-01-31T12:30"), dt.datetime.fromisoformat("2026-02-01")
    rows = [["id", " body ", "amount", "at"], [1, "charged twice", 12.5, moment], [None] * 4, [2, "crashes", -3, day]]
    source, output = workbook(tmp_path / "in.xlsx", rows), tmp_path / "out.xlsx"
    assert label(source, output=output).rows == 2
    sheet = openpyxl.load_workbook(output).active
    found = [list(row) for row in sheet.iter_rows(values_only=True)]
    assert found[0][:5] == ["id", "body", "amount", "at", "label"]
    assert [row[:4] for row in found[1:]] == [[1, "charged twice", 12.5, moment], [2, "crashes", -3, day]]
    label(source, output=tmp_path / "out.parquet")
    assert pq.read_schema(tmp_path / "out.parquet").field("at").type == pa.timestamp("us")


def test_a_text_is_no_formula(label: Label, tmp_path: Path) -> None:
    output = tmp_path / "out.xlsx"
    label([{"body": '=HYPERLINK("https://x.example","go")', "note": "+1"}], output=output)
    cell = openpyxl.load_workbook(output).active["A2"]
    assert (cell.data_type, cell.value) == ("s", '=HYPERLINK("https://x.example","go")')


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("x" * 32_768, "column 'odd' has 32,768 characters"),
        ("a\x07b", "column 'odd' holds a control character"),
        (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), "column 'odd' has a time zone"),
        (object(), "column 'odd' is a object"),
    ],
)
def test_what_a_sheet_cannot_hold_is_refused(label: Label, tmp_path: Path, value: Any, message: str) -> None:
    rows = [{"body": "x", "odd": "fine"}, {"body": "y", "odd": value}]
    with pytest.raises(InvalidRequestError, match=f"row 1, {message}"):
        label(rows, output=tmp_path / "out.xlsx")
    assert not (tmp_path / "out.xlsx").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "is empty"),
        ([["id", None, "body"], [1, 2, "x"]], "column 2 has no name"),
        ([["body", "body"], ["x", "y"]], "column 'body' appears twice"),
        ([["id", "body"], [1, "x", "more"]], "line 2 has more cells than the header's 2"),
    ],
)
def test_sheets_that_are_no_tables(label: Label, tmp_path: Path, rows: list[list[Any]], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        label(workbook(tmp_path / "in.xlsx", rows), output=tmp_path / "out.csv")


def test_what_is_no_workbook_says_how_to_go_on(label: Label, tmp_path: Path) -> None:
    (tmp_path / "in.xlsx").write_bytes(b"PK nonsense")
    for name, message in (
        ("in.xlsx", "save it as .xlsx, or as .csv"),
        ("none.xlsx", "No such file.*saved"),
        ("in.xls", "save"),
    ):
        with pytest.raises(InvalidRequestError, match=message):
            label(tmp_path / name, output=tmp_path / "out.csv")
    assert label(workbook(tmp_path / "empty.xlsx", [["body"]]), output=tmp_path / "out.xlsx").rows == 0


# --- folders and patterns ---------------------------------------------------------------------


def test_a_folder_is_one_table_in_the_order_people_count(label: Label, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    order = [f"part-{number}.csv" for number in range(12)]
    folder.mkdir()
    for name in random.Random(1).sample(order, len(order)):
        (folder / name).write_text(f"name,body\n{name},case {name}\n")
    for ignored in ("_SUCCESS", ".part-0.csv.crc"):
        (folder / ignored).write_text("x")
    assert label(folder, output=tmp_path / "out.csv").rows == 12
    assert [row["name"] for row in read(tmp_path / "out.csv")] == order
    assert label(str(folder / "part-1*.csv"), output=tmp_path / "some.csv").rows == 3
    assert [row["name"] for row in read(tmp_path / "some.csv")] == ["part-1.csv", "part-10.csv", "part-11.csv"]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_folders_named_for_values_are_columns(label: Label, tmp_path: Path, ending: str) -> None:
    for day, region in (("2026-01-09", "eu"), ("2026-01-10", "a%2Fb"), ("2026-01-10", "__HIVE_DEFAULT_PARTITION__")):
        folder = tmp_path / "in" / f"day={day}" / f"region={region}"
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"body": [f"case {day} {region}"]}), folder / "part-0.parquet")
        if ending != "parquet":
            (folder / "part-0.parquet").unlink()
            (folder / f"part-0.{ending}").write_text(
                f"body\ncase {day} {region}\n" if ending == "csv" else json.dumps({"body": f"case {day} {region}"})
            )
    for source in (tmp_path / "in", f"{tmp_path}/in/*/*/*.{ending}", f"{tmp_path}/in/**/*.{ending}"):
        label(source, output=tmp_path / "out.jsonl")
        rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
        found = {(row["day"], row["region"]) for row in rows}
        assert found == {("2026-01-09", "eu"), ("2026-01-10", "a/b"), ("2026-01-10", None)}
    label(tmp_path / "in", output=tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").column_names[:3] == ["body", "day", "region"]


def test_folders_in_an_object_store(label: Label, tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    for number in (2, 10):
        fs.pipe(f"/folders/n={number}/x.csv", f"body\ncase {number}\n".encode())
    for source in ("memory://folders", "memory://folders/*/x.csv"):
        label(source, output=tmp_path / "out.csv")
        assert [row["n"] for row in read(tmp_path / "out.csv")] == ["2", "10"]


def test_a_changed_file_is_noticed(label: Label, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.csv", "b.csv"):
        (tmp_path / "in" / name).write_text(f"body\n{name}\n")
    before = open_table(tmp_path / "in").fingerprint()
    (tmp_path / "in" / "b.csv").write_text("body\nanother\n")
    assert open_table(tmp_path / "in").fingerprint() != before


def test_folders_that_are_no_table(label: Label, tmp_path: Path) -> None:
    def refused(message: str, **options: Any) -> None:
        with pytest.raises(InvalidRequestError, match=message):
            label(tmp_path / "in", **{"output": tmp_path / "out.csv", **options})

    (tmp_path / "in").mkdir()
    refused("holds no table")
    (tmp_path / "in" / "a.csv").write_text("body\nx\n")
    refused("would be read as part of", output=tmp_path / "in" / "out.csv")
    (tmp_path / "in" / "b.csv").write_text("body,more\nx,y\n")
    refused("column 'more' is not in all files")
    (tmp_path / "in" / "b.csv").rename(tmp_path / "in" / "b.jsonl")
    refused("files of several formats, such as 'a.csv' and 'b.jsonl'")
    (tmp_path / "in" / "b.jsonl").unlink()
    (tmp_path / "in" / "body=1").mkdir()
    (tmp_path / "in" / "a.csv").rename(tmp_path / "in" / "body=1" / "a.csv")
    refused("has a column 'body', and so has the folder's name")


def test_a_name_with_brackets_that_exists_is_a_file(label: Label, tmp_path: Path) -> None:
    (tmp_path / "in[1].csv").write_text("body\nx\n")
    assert label(tmp_path / "in[1].csv", output=tmp_path / "out.csv").rows == 1
    with pytest.raises(InvalidRequestError, match="holds no table"):
        label(tmp_path / "in[2].csv", output=tmp_path / "out.csv")


# --- what the name does not say ---------------------------------------------------------------


def test_format_encoding_and_delimiter(label: Label, tmp_path: Path) -> None:
    (tmp_path / "in.dat").write_bytes("id;body\n1;Überweisung, doppelt\n".encode("cp1252"))
    label(tmp_path / "in.dat", output=tmp_path / "out.txt", format="csv", encoding="cp1252", delimiter=";")
    assert (tmp_path / "out.txt").read_text(encoding="utf-8").splitlines()[1].startswith("1;Überweisung, doppelt;")
    (tmp_path / "in.json").write_text('{"body": "x"}\n')
    assert label(tmp_path / "in.json", output=tmp_path / "out.csv", format="jsonl").rows == 1
    with pytest.raises(InvalidRequestError, match="is not in the encoding ascii"):
        label(tmp_path / "in.dat", output=tmp_path / "out.csv", format="csv", encoding="ascii", delimiter=";")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "docx"}, "format is 'docx'; it must be one of csv, tsv, jsonl"),
        ({"encoding": "klingon"}, "encoding is 'klingon', which is none"),
        ({"delimiter": ";;"}, "delimiter is ';;'; it must be one character"),
        ({"delimiter": '"'}, "it must be one character"),
        ({"format": "jsonl", "delimiter": ";"}, "encoding, delimiter and quoting are for CSV"),
        ({"quoting": "all"}, "quoting is 'all'; it must be minimal, or none"),
    ],
)
def test_what_cannot_be_read_so_is_refused(label: Label, tmp_path: Path, options: dict[str, Any], message: str) -> None:
    (tmp_path / "in.csv").write_text("body\nx\n")
    with pytest.raises(InvalidRequestError, match=message):
        label(tmp_path / "in.csv", output=tmp_path / "out.csv", **options)


def test_a_quote_may_be_a_letter(label: Label, tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text('id\tbody\n1\t"refund me\n2\t5" screen\n3\tslow page"\n')
    label(tmp_path / "in.tsv", output=tmp_path / "out.jsonl", quoting="none")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["body"] for row in rows] == ['"refund me', '5" screen', 'slow page"']


def test_a_delimiter_may_be_named() -> None:
    assert [Reading.of({"delimiter": name}).delimiter for name in ("tab", "\\t", "\t", "pipe")] == [
        "\t",
        "\t",
        "\t",
        "|",
    ]
