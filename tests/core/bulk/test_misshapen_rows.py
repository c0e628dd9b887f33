"""What can be gone through but is not a series of inputs is refused, with the fix, before anything is paid."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import sqlalchemy as sa

from classifaily_connectors import InvalidRequestError

if TYPE_CHECKING:
    from conftest import Shop

COLUMNS = {"id": ["1", "2"], "body": ["I was charged twice", "The API is slow"]}


def _file(folder: Path) -> Any:
    (folder / "t.csv").write_text("id,body\n1,I was charged twice\n")
    return (folder / "t.csv").open()


def _temporary(folder: Path) -> Any:
    file = tempfile.NamedTemporaryFile("w+", dir=folder, suffix=".csv")  # noqa: SIM115  # closed by its collection
    file.write("id,body\n1,I was charged twice\n")
    file.seek(0)
    return file


SHAPES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pandas frame": (lambda _: pd.DataFrame(COLUMNS), "classify_table"),
    "a polars frame": (lambda _: pl.DataFrame(COLUMNS), "classify_table"),
    "a lazy frame": (lambda _: pl.LazyFrame(COLUMNS), "classify_table"),
    "an Arrow table": (lambda _: pa.table(COLUMNS), "classify_table"),
    "a record batch": (lambda _: pa.RecordBatch.from_pydict(COLUMNS), "classify_table"),
    "a mapping": (lambda _: {"a1": "I was charged", "a2": "slow"}, "its values"),
    "an open file": (_file, "classify_table"),
    "a temporary file": (_temporary, "classify_table"),
    "text in memory": (lambda _: io.StringIO("id,body\n1,charged\n"), "classify_table"),
    "bytes in memory": (lambda _: io.BytesIO(b"id,body\n1,charged\n"), "classify_table"),
    "a path": (lambda folder: folder / "t.csv", "classify_table"),
    "one text": (lambda _: "I was charged twice", "use classify for one"),
    "bytes": (lambda _: b"I was charged twice", "use classify for one"),
    "a bytearray": (lambda _: bytearray(b"charged"), "use classify for one"),
    "a function": (lambda _: lambda: iter(["charged"]), "call it"),
    "a number": (lambda _: 3, "cannot be gone through"),
    "nothing": (lambda _: None, "cannot be gone through"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_refused_at_every_door(shop: Shop, tmp_path: Path, shape: str) -> None:
    make, fix = SHAPES[shape]
    given, options = make(tmp_path), {"categories": ["billing", "technical"], "ledger": False}
    axes = {"topic": ["billing", "technical"]}

    async def asynchronously(call: Callable[[Any], Any]) -> None:
        async with shop.async_client() as client:
            found = call(client)
            if asyncio.iscoroutine(found):
                await found

    with shop.client() as client:
        doors: list[Callable[[Any], Any]] = [
            lambda client: client.classify_many(given, **options),
            lambda client: client.plan(given, **options),
            lambda client: client.classify_axes(given, axes, ledger=False),
            lambda client: client.plan_axes(given, axes, ledger=False),
            lambda client: client.batch(given, categories=options["categories"]),
        ]
        for door in doors:
            with pytest.raises(InvalidRequestError, match=fix):
                door(client)
            with pytest.raises(InvalidRequestError, match=fix):
                asyncio.run(asynchronously(door))
    assert shop.paid() == 0
    if hasattr(given, "close"):
        given.close()


def test_what_gives_one_input_after_the_other_is_taken(shop: Shop) -> None:
    database = sa.create_engine("sqlite://")
    with database.connect() as connection:
        connection.exec_driver_sql("create table t (body text)")
        connection.exec_driver_sql("insert into t values ('invoice 1'), ('invoice 2')")
        rows = shop.buy(connection.exec_driver_sql("select body from t").mappings(), text="body")
        assert [row.status for row in rows] == ["completed", "completed"]
        for series in (pd.Series(COLUMNS["body"]), pl.Series(COLUMNS["body"]), {"a": "invoice 3"}.values()):
            assert {row.status for row in shop.buy(series)} == {"completed"}
    database.dispose()


def test_a_batch_of_an_asynchronous_series_is_refused(shop: Shop) -> None:
    async def series() -> Any:
        yield "invoice 1"

    with shop.client() as client, pytest.raises(InvalidRequestError, match="asynchronous"):
        client.batch(series(), categories=["billing"])  # type: ignore[arg-type]
