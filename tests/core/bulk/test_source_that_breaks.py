"""An error of the rows' own source, or of `progress`: everything that was paid is given out, then it is raised."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import InvalidRequestError, aclassify_table, classify_table

if TYPE_CHECKING:
    from conftest import Shop

CATEGORIES = ["billing", "technical", "account"]
ROWS = [f"invoice {n}" for n in range(400)]
AXES = {"topic": ["billing", "technical"], "urgency": ["low", "high"]}


class BrokenError(Exception):
    pass


def _source(shop: Shop, rows: list[Any], after: int) -> Iterator[Any]:
    yield from rows[:after]
    while not shop.paid():
        time.sleep(0.005)
    raise BrokenError


async def _asource(shop: Shop, rows: list[Any], after: int) -> AsyncIterator[Any]:
    for row in rows[:after]:
        yield row
    while not shop.paid():  # noqa: ASYNC110  # the sandbox is another thread
        await asyncio.sleep(0.005)
    raise BrokenError


async def _extend(found: list[Any], rows: AsyncIterator[Any]) -> None:
    async for row in rows:
        found.append(row)  # noqa: PERF401  # what came before the error counts


@pytest.fixture(params=["sync", "async", "async source"])
def go(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """What came out of a run whose source breaks after 300 rows."""

    def sync(shop: Shop, **options: Any) -> list[Any]:
        found: list[Any] = []
        with shop.client() as client:
            axes = options.pop("axes", None)
            source = _source(shop, ROWS, 300)
            run = client.classify_axes(source, axes, **options) if axes else client.classify_many(source, **options)
            with pytest.raises(BrokenError):
                found.extend(run)
        return found

    async def asynchronously(shop: Shop, **options: Any) -> list[Any]:
        found: list[Any] = []
        async with shop.async_client() as client:
            axes = options.pop("axes", None)
            source: Any = _source if request.param == "async" else _asource
            rows = source(shop, ROWS, 300)
            run: Any = client.classify_axes(rows, axes, **options) if axes else client.classify_many(rows, **options)
            with pytest.raises(BrokenError):
                await _extend(found, run)
        return found

    return sync if request.param == "sync" else lambda *a, **k: asyncio.run(asynchronously(*a, **k))


@pytest.mark.parametrize("kept", [True, False], ids=["ledger", "no ledger"])
def test_rows(shop: Shop, go: Callable[..., list[Any]], kept: bool) -> None:
    shop.inject("delay", path="/batch", seconds=0.2, times=None)
    ledger = shop.ledger_url if kept else False
    found = go(shop, categories=CATEGORIES, ledger=ledger, batch_size=10, concurrency=3)
    assert len(found) == shop.paid() > 0
    assert {row.status for row in found} == {"completed"}
    assert [row.index for row in found] == sorted(row.index for row in found)


def test_axes(shop: Shop, go: Callable[..., list[Any]]) -> None:
    """A row of which one axis was paid comes with what it has."""
    shop.inject("delay", path="/batch", seconds=0.2, times=None)
    found = go(shop, axes=AXES, ledger=False, batch_size=7, concurrency=3)
    answers = [each for row in found for each in row.axes.values()]
    assert sum(each.status == "completed" for each in answers) == shop.paid() > 0
    for row in found:
        assert row.whole == all(each.status == "completed" for each in row.axes.values())
    assert not all(row.whole for row in found), "7 is odd: some batch ended amid a row"


def test_progress_that_raises(shop: Shop) -> None:
    shop.inject("delay", path="/batch", seconds=0.2, times=None)
    found: list[Any] = []

    def tell(_moment: Any) -> None:
        if shop.paid():
            raise BrokenError

    options: dict[str, Any] = {"categories": CATEGORIES, "ledger": False, "batch_size": 10, "concurrency": 3}
    with shop.client() as client, pytest.raises(BrokenError):
        found.extend(client.classify_many(ROWS, progress=tell, **options))
    assert len(found) == shop.paid() > 0


@pytest.mark.parametrize("kept", [True, False], ids=["ledger", "no ledger"])
@pytest.mark.parametrize("how", ["an error", "an error on a loop", "cancelled"])
def test_tables_keep_their_parts(shop: Shop, tmp_path: Path, kept: bool, how: str) -> None:
    """The rerun pays for nothing that the stopped table had paid for, with a ledger and without."""
    (tmp_path / "t.csv").write_text("id,body\n" + "".join(f"{n},{row}\n" for n, row in enumerate(ROWS)))
    shop.inject("delay", path="/batch", seconds=0.2, times=None)
    options: dict[str, Any] = {"text": "body", "output": tmp_path / "o.csv", "categories": CATEGORIES}
    options |= {"ledger": shop.ledger_url if kept else False, "batch_size": 10, "concurrency": 3}

    def stop(_moment: Any) -> None:
        if shop.paid() >= 60:
            raise BrokenError

    async def run(**more: Any) -> Any:
        async with shop.async_client() as client:
            return await aclassify_table(client, tmp_path / "t.csv", **options, **more)

    async def cancelled() -> None:
        task = asyncio.create_task(run())
        while shop.paid() < 60:  # noqa: ASYNC110  # the sandbox is another thread
            await asyncio.sleep(0.005)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    if how == "cancelled":
        asyncio.run(cancelled())
    elif how == "an error on a loop":
        with pytest.raises(BrokenError):
            asyncio.run(run(progress=stop))
    else:
        with shop.client() as client, pytest.raises(BrokenError):
            classify_table(client, tmp_path / "t.csv", **options, progress=stop)
    paid = shop.paid()
    assert 60 <= paid < 400
    shop.sandbox.clear_faults()
    with shop.client() as client:
        result = classify_table(client, tmp_path / "t.csv", **options)
    assert shop.paid() == 400
    assert shop.paid_twice() == 0
    assert result.resumed == paid
    with (tmp_path / "o.csv").open() as file:
        assert [row["id"] for row in csv.DictReader(file)] == [str(n) for n in range(400)]


def test_what_was_left_early_is_in_the_leftover(shop: Shop) -> None:
    shop.inject("delay", path="/batch", seconds=0.2, times=None)
    options: dict[str, Any] = {"categories": CATEGORIES, "ledger": False, "batch_size": 10, "concurrency": 3}
    with shop.client() as client:
        run = client.classify_many(ROWS, **options)
        rows = iter(run)
        given = next(rows)
        rows.close()  # type: ignore[attr-defined]
    assert run.closed
    assert len({given.index, *(row.index for row in run.leftover)}) == shop.paid() > 10
    assert {row.status for row in run.leftover} == {"completed"}
    with shop.client() as client:
        twice = client.classify_many(ROWS[:10], **options)
        assert len(list(twice)) == 10
        assert twice.leftover == []
        with pytest.raises(InvalidRequestError, match="once"):
            next(iter(twice))
