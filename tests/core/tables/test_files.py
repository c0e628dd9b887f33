"""Any file in, any file out: the input's own columns unchanged, and the row shape with types of its own."""

from __future__ import annotations

import csv
import gzip
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from classifaily_connectors import classify_table
from classifaily_connectors.bulk.rows import COLUMNS
from classifaily_connectors.sandbox import Fault, Sandbox

KINDS = ("csv", "jsonl", "parquet")
TYPES = {
    "confidence": "double",
    "labels": "list<element: struct<label: string, confidence: double, explanation: string>>",
}


def read(path: Path) -> list[dict[str, Any]]:
    if path.name.endswith(".parquet"):
        return pq.read_table(path).to_pylist()
    if path.name.endswith(".jsonl"):
        return [json.loads(line) for line in path.read_text().splitlines()]
    with path.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        row["labels"] = json.loads(row["labels"])
        row["confidence"] = float(row["confidence"]) if row["confidence"] else None
        row |= {name: row[name] or None for name in COLUMNS if name not in ("labels", "confidence")}
    return rows


@pytest.mark.parametrize(("given", "wanted"), [*itertools.product(KINDS, KINDS)])
def test_every_format_to_every_format(given: str, wanted: str, rows: Any, make: Any, label: Any) -> None:
    source: Path = make(given)
    out = source.with_name(f"out.{wanted}")
    result = label(source, output=out, id_column="id")
    found = read(out)
    assert [{name: row[name] for name in rows[0]} for row in found] == rows
    assert [row["status"] for row in found] == ["completed", "completed", "completed", "skipped", "completed"]
    assert found[0]["labels"][0]["label"] == found[0]["label"] == found[2]["label"]
    assert found[3]["label"] is None
    assert found[3]["labels"] == []
    assert "empty" in found[3]["error"]
    assert list(found[0]) == [*rows[0], *COLUMNS]
    assert (result.rows, result.stats.billed, result.stats.duplicate) == (5, 3, 1)
    assert [path.name for path in source.parent.iterdir() if "parts" in path.name or ".tmp" in path.name] == []


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_compressed_both_ways(kind: str, ending: str, make: Any, label: Any, tmp_path: Path) -> None:
    plain = tmp_path / f"plain.{kind}"
    label(make(kind), output=plain)
    label(plain, output=tmp_path / f"packed.{kind}.{ending}", prefix="b_")
    label(plain, output=tmp_path / f"again.{kind}", prefix="b_")
    label(tmp_path / f"packed.{kind}.{ending}", output=tmp_path / f"twice.{kind}", prefix="c_")
    label(tmp_path / f"again.{kind}", output=tmp_path / f"thrice.{kind}", prefix="c_")
    assert (tmp_path / f"twice.{kind}").read_bytes() == (tmp_path / f"thrice.{kind}").read_bytes()
    assert (tmp_path / f"packed.{kind}.{ending}").stat().st_size != (tmp_path / f"again.{kind}").stat().st_size


def test_truncated_gzip_is_refused(make: Any, label: Any, tmp_path: Path) -> None:
    path = tmp_path / "in.csv.gz"
    path.write_bytes(gzip.compress(make("csv").read_bytes())[:-12])
    with pytest.raises(ValueError, match=r"in\.csv\.gz: cannot be decompressed"):
        label(path, output=tmp_path / "out.csv")


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_delimiter_is_the_inputs_own(delimiter: str, rows: Any, label: Any, tmp_path: Path) -> None:
    pd.DataFrame(rows).to_csv(tmp_path / "in.csv", index=False, sep=delimiter)
    label(tmp_path / "in.csv", output=tmp_path / "out.csv")
    found = pd.read_csv(tmp_path / "out.csv", sep=delimiter, keep_default_na=False)
    assert found["body"].to_list() == [row["body"] for row in rows]


def test_byte_order_mark_of_excel_is_no_part_of_a_name(make: Any, label: Any, tmp_path: Path) -> None:
    path = tmp_path / "bom.csv"
    path.write_bytes(b"\xef\xbb\xbf" + make("csv").read_bytes())
    label(path, output=tmp_path / "out.csv", id_column="id")
    assert (tmp_path / "out.csv").read_bytes().startswith(b"id,")


def test_parquet_columns_keep_their_types(label: Any, tmp_path: Path) -> None:
    table = pa.table(
        {
            "body": pa.array(["one", None, "two"]).dictionary_encode(),
            "when": pa.array([1, 2, None], pa.timestamp("ns", "UTC")),
            "price": pa.array([1, 2, 3]).cast(pa.decimal128(30, 2)),
            "tags": pa.array([["x"], [], None]),
        }
    )
    pq.write_table(table, tmp_path / "in.parquet")
    label(tmp_path / "in.parquet", output=tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(table.column_names).equals(table)


@pytest.mark.parametrize("kind", KINDS)
def test_types_are_fixed_even_when_every_row_fails(
    kind: str, own_sandbox: Sandbox, connect: Callable[..., Any], label: Any, make: Any
) -> None:
    """Output columns and types are fixed before row one."""
    tmp_path = make(kind).parent
    own_sandbox.inject(
        Fault(
            kind="answer",
            method="POST",
            status=400,
            times=None,
            body={"error": {"code": "invalid_request", "message": "No."}},
        )
    )
    client = connect(own_sandbox)
    result = classify_table(client, make(kind), text="body", output=tmp_path / "failed.parquet", categories=["a", "b"])
    good = label(make(kind), output=tmp_path / "good.parquet")
    assert result.stats.statuses["failed"] == 4
    assert result.stats.labels == {}
    assert good.stats.statuses["completed"] == 4
    schema = pq.read_schema(tmp_path / "failed.parquet")
    assert schema.equals(pq.read_schema(tmp_path / "good.parquet"))
    assert {name: str(schema.field(name).type) for name in COLUMNS} == {
        name: TYPES.get(name, "string") for name in COLUMNS
    }


def test_prefix_keeps_columns_apart(rows: Any, make: Any, label: Any, tmp_path: Path, own_sandbox: Sandbox) -> None:
    path = make("csv", [{**row, "label": "by hand"} for row in rows])
    with pytest.raises(ValueError, match=r"'label'.*prefix='classifaily_'"):
        label(path, output=tmp_path / "out.csv")
    label(path, output=tmp_path / "out.csv", prefix="c_")
    found = pd.read_csv(tmp_path / "out.csv")
    assert set(found["label"]) == {"by hand"}
    assert "c_label" in found


@pytest.mark.parametrize("kind", KINDS)
def test_any_file_system(kind: str, make: Any, label: Any, tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    fs.pipe(f"/in/{kind}/in.{kind}", make(kind).read_bytes())
    result = label(f"memory://in/{kind}/in.{kind}", output=f"memory://out/{kind}/deep/out.{kind}")
    label(make(kind), output=tmp_path / f"out.{kind}", refresh=False)
    found = tmp_path / f"found.{kind}"
    found.write_bytes(fs.cat(f"/out/{kind}/deep/out.{kind}"))
    assert [row["label"] for row in read(found)] == [row["label"] for row in read(tmp_path / f"out.{kind}")]
    assert result.output == f"memory://out/{kind}/deep/out.{kind}"
    assert fs.find(f"/out/{kind}") == [f"/out/{kind}/deep/out.{kind}"]


def test_plain_files_need_only_the_standard_library(make: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    """Local CSV and JSONL are read and written where no extra is installed."""
    code = f"""
import sys
for name in ("pyarrow", "narwhals", "fsspec", "pandas", "polars", "numpy"):
    sys.modules[name] = None
from classifaily_connectors import ClassifailyClient, classify_table
with ClassifailyClient({sandbox.key!r}, base_url={sandbox.base_url!r}) as client:
    for given, wanted in (("csv", "jsonl"), ("jsonl", "csv")):
        classify_table(client, {str(tmp_path)!r} + "/in." + given, text="body", categories=["a", "b"],
                       output={str(tmp_path)!r} + "/bare." + wanted)
    try:
        classify_table(client, {str(tmp_path)!r} + "/in.parquet", text="body", output="x.csv")
    except ImportError as error:
        print(error)
"""
    for kind in KINDS:
        make(kind)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "pip install 'classifaily-connectors[frames]'" in done.stdout
    assert [len(read(tmp_path / f"bare.{kind}")) for kind in ("csv", "jsonl")] == [5, 5]
