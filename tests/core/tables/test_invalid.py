"""Bad input is an error that names file, line and column, before anything is paid."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifaily_connectors import InvalidRequestError, classify_table

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

Refused = Callable[..., str]


@pytest.fixture
def refused(own_sandbox: Sandbox, connect: Any, tmp_path: Path) -> Refused:
    """The message of the refusal; nothing was paid and nothing written."""
    client = connect(own_sandbox)

    def refused(source: Any, **options: Any) -> str:
        if "template" not in options:
            options.setdefault("text", "body")
        with pytest.raises(InvalidRequestError) as caught:
            classify_table(
                client, source, categories=["a", "b"], output=options.pop("output", tmp_path / "out.jsonl"), **options
            )
        assert caught.value.outcome == "not_sent"
        assert own_sandbox.bill().charged == 0
        assert not (tmp_path / "out.jsonl").exists()
        return str(caught.value)

    return refused


def put(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


GOOD = "".join(f"{n},text {n}\n" for n in range(700))
CSVS = {
    "ragged": (f"id,body\n{GOOD}x\n", r"in\.csv, line 702 has 1 cells, the header 2"),
    "too wide": ("id,body\n1,a,b\n", r"in\.csv, line 2 has 3 cells, the header 2"),
    "ragged after an open cell": ('id,body\n1,"a\nb"\n\nx\n', r"in\.csv, line 5 has 1 cells"),
    "open quote": ('id,body\n1,"a\n2,b\n', r"in\.csv, line 2 cannot be read .*quote"),
    "encoding": (
        b"id,body\n1,fine\n" + "2,caf\u00e9\n".encode("cp1252"),
        r"in\.csv, line 3, byte 6 is not UTF-8.*iconv",
    ),
    "header encoding": ("id,b\u00f6dy\n".encode("cp1252"), r"in\.csv, line 1, byte 5 is not UTF-8"),
    "no bytes": ("", r"in\.csv is empty"),
    "missing column": ("id,text\n1,a\n", r"in\.csv: column 'body' is missing; it has id, text"),
    "repeated column": ("body,body\n1,a\n", r"line 1: column 'body' appears twice"),
}


@pytest.mark.parametrize("case", CSVS)
def test_csv(case: str, refused: Refused, tmp_path: Path) -> None:
    content, message = CSVS[case]
    assert re.search(message, refused(put(tmp_path / "in.csv", content)))


JSONLS = {
    "no text": ('{"body": "a"}\n{"body": 5}\n', r"in\.jsonl, line 2, column 'body' is a int, not text"),
    "list": ('{"body": ["a"]}\n', r"line 1, column 'body' is a list, not text"),
    "no object": ('{"body": "a"}\n\n[1]\n', r"in\.jsonl, line 3 is no JSON object"),
    "no JSON": ('{"body": "a"\n', r"in\.jsonl, line 1 is no JSON"),
    "encoding": (b'{"body": "caf\xe9"}\n', r"in\.jsonl, line 1 is not UTF-8"),
    "half a pair": (
        '{"body": "a"}\n{"body": "\\ud800"}\n{"body": "\\udc00"}\n',
        r"line 2, column 'body' holds half a surrogate pair",
    ),
    "missing column": ('{"a": 1}\n', r"column 'body' is missing; it has a"),
}


@pytest.mark.parametrize("case", JSONLS)
def test_jsonl(case: str, refused: Refused, tmp_path: Path) -> None:
    content, message = JSONLS[case]
    assert re.search(message, refused(put(tmp_path / "in.jsonl", content)))


def test_parquet(refused: Refused, tmp_path: Path) -> None:
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"body": [1, 2]}), path)
    assert "column 'body' holds int64, not text" in refused(path)
    assert "is no Parquet file" in refused(put(path, "id,body\n"))


def test_ids(refused: Refused, tmp_path: Path) -> None:
    path = put(tmp_path / "in.csv", f"id,body\n{GOOD}3,again\n")
    assert "line 702, column 'id' repeats the id of line 5: ids must be unique" in refused(path, id_column="id")
    path = put(tmp_path / "in.csv", "id,body\n1,a\n ,b\n")
    assert "line 3, column 'id' is empty" in refused(path, id_column="id")


def test_templates(refused: Refused) -> None:
    rows = [{"a": 1, "b": "x"}, {"a": {"deep": 1}, "b": "y"}]
    assert "row 1, column 'a' is a dict: a template joins" in refused(rows, template="{a} {b}")
    assert "column 'c' is missing; it has a, b" in refused(rows[:1], template="{a} {c}")
    assert "exclude each other" in refused(rows, text="a", template="{b}")


def test_frames(refused: Refused) -> None:
    assert "column 'body' holds int64, not text" in refused(pd.DataFrame({"body": [1]}))
    assert "row 1, column 'body' is a int, not text" in refused(pd.DataFrame({"body": ["a", 5]}, dtype=object))
    assert "row 2 is a str, not a mapping" in refused([{"body": "a"}, {"body": "b"}, "c"])
    assert "pass a path, a data frame, or a list of dicts" in refused(5)


def test_places(refused: Refused, tmp_path: Path) -> None:
    assert "No such file" in refused(tmp_path / "absent.csv")
    assert "name it .csv, .tsv, .jsonl, .json, .xlsx or .parquet" in refused(put(tmp_path / "in.docx", "x"))
    good = put(tmp_path / "in.csv", "id,body\n1,a\n")
    assert "output 'out.docx': name it" in refused(good, output=tmp_path / "out.docx")
    assert "is the source itself" in refused(good, output=good)
    assert "max_error_ratio is 2" in refused(good, max_error_ratio=2)
    assert "on_invalid is 'no'" in refused(good, on_invalid="no")
    assert "classify_table() takes no option 'ordered'" in refused(good, ordered=False)


def test_what_a_row_holds_is_in_no_error(refused: Refused, tmp_path: Path) -> None:
    secret = "the patient"
    for row in ({"body": [secret]}, {"body": secret + "\ud800"}):
        assert secret not in refused([row])
    assert secret not in refused(put(tmp_path / "in.csv", f'id,body\n1,"{secret}\n'))
    assert secret not in refused(put(tmp_path / "in.csv", f"id,body\n1,{secret},x\n"))


def test_a_source_that_comes_once_is_checked_before_each_batch(own_sandbox: Sandbox, connect: Any) -> None:
    """One-shot sources stop before the batch that holds the bad row."""

    def rows() -> Iterator[dict[str, Any]]:
        yield from ({"body": f"text {n}"} for n in range(600))
        yield {"body": 5}

    client = connect(own_sandbox)
    with pytest.raises(InvalidRequestError, match="row 600, column 'body' is a int"):
        classify_table(client, rows(), text="body", categories=["a", "b"])
    assert own_sandbox.bill().charged <= 512


def test_skip_keeps_the_rows_and_says_why(label: Any, tmp_path: Path) -> None:
    path = put(tmp_path / "in.jsonl", '{"id": 1, "body": "a"}\n{"id": 2, "body": 5}\nno\n{"id": 1, "body": "b"}\n')
    result = label(path, id_column="id", on_invalid="skip", output=tmp_path / "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["status"] for row in found] == ["completed", "skipped", "skipped", "skipped"]
    assert "line 2, column 'body' is a int, not text" in found[1]["error"]
    assert "line 3 is no JSON" in found[2]["error"]
    assert "line 4, column 'id' repeats the id of line 1" in found[3]["error"]
    assert all(row["label"] is None and row["route"] == "review" for row in found[1:])
    assert result.stats.statuses["skipped"] == 3


def test_skip_pads_ragged_lines(label: Any, tmp_path: Path) -> None:
    path = put(tmp_path / "in.csv", "id,body,more\n1,a,b\n2\n3,c,d,e\n")
    label(path, on_invalid="skip", output=tmp_path / "out.csv")
    found = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)
    assert found["status"].to_list() == ["completed", "skipped", "skipped"]
    assert found["body"].to_list() == ["a", "", "c"]


def test_skip_accepts_an_empty_table(label: Any, make: Any, tmp_path: Path) -> None:
    path = put(tmp_path / "in.csv", "id,body\n")
    assert label(path, on_invalid="skip", output=tmp_path / "out.parquet").rows == 0
    assert "labels" in pq.read_schema(tmp_path / "out.parquet").names
