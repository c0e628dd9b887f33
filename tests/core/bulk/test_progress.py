"""A run says what it has done, in numbers that sum."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from classifaily_connectors import Progress, Row
from classifaily_connectors.bulk import progress
from classifaily_connectors.bulk.progress import BulkStats

if TYPE_CHECKING:
    from conftest import Shop

Buy = Callable[..., list[Row]]


@pytest.mark.parametrize("total", [130, None])
def test_progress_grows_and_ends_complete(
    shop: Shop, buy: Buy, total: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_EVERY", 0.0)
    shop.inject("wrong_size_batch", nth=2)
    seen: list[Progress] = []
    rows = [*(f"invoice {n}" for n in range(100)), *["invoice 1"] * 29, ""]
    buy(shop, rows if total else iter(rows), batch_size=10, concurrency=1, progress=seen.append)
    assert [each.done for each in seen] == sorted(each.done for each in seen)
    assert len(seen) > 2
    last = seen[-1]
    assert (last.done, last.total, last.billed, last.duplicate, last.unknown) == (130, total, 99, 29, 1)
    assert last.eta == (0 if total else None)
    assert last.remaining is not None
    assert shop.stats.statuses == {"completed": 128, "failed": 0, "unknown": 1, "skipped": 1, "uncovered": 0}
    assert sum(shop.stats.labels.values()) == 128
    assert sum(shop.stats.routes.values()) == 130


def test_a_progress_that_breaks_loses_nothing(shop: Shop) -> None:
    def broken(_: Progress) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        shop.buy([f"invoice {n}" for n in range(50)], progress=broken)
    assert shop.unsettled() == 0
    shop.buy([f"invoice {n}" for n in range(50)])
    assert shop.paid() == 50


def test_buckets_that_do_not_sum_are_a_defect() -> None:
    stats = BulkStats()
    stats.count(Row(index=0))
    stats.check()
    stats.rows += 1
    with pytest.raises(RuntimeError, match="2 rows"):
        stats.check()
