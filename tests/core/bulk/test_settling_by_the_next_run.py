"""What an earlier run left open is settled from the API's history once that is safe; a table says what is not."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from classifaily_connectors import InvalidRequestError, UnsettledRowsError, classify_table
from classifaily_connectors.retry import mendable

if TYPE_CHECKING:
    from conftest import Shop

ROWS = [f"invoice {n}" for n in range(60)]


def _statuses(rows: list[Any]) -> dict[str, int]:
    return {status: sum(row.status == status for row in rows) for status in {row.status for row in rows}}


def _lose(shop: Shop) -> None:
    """One batch was answered into nowhere, another was never executed."""
    shop.inject("reset", nth=1)
    shop.inject("reset", nth=2, after_work=False)
    assert _statuses(shop.buy(ROWS, batch_size=20, concurrency=1)) == {"unknown": 40, "completed": 20}
    assert shop.paid() == 40


def test_the_next_run_settles_what_is_old_enough(shop: Shop) -> None:
    _lose(shop)
    assert _statuses(shop.buy(ROWS, batch_size=20)) == {"unknown": 40, "completed": 20}, "too early to ask"
    time.sleep(0.3)
    assert _statuses(shop.buy(ROWS, batch_size=20, settle_after=0.2)) == {"completed": 60}
    assert shop.paid() == 60
    assert shop.paid_twice() == 0
    assert shop.unsettled() == 0


def test_what_is_to_be_parked_stays_so(shop: Shop) -> None:
    _lose(shop)
    time.sleep(0.1)
    found = shop.buy(ROWS, batch_size=20, on_unknown="park", settle_after=0.0)
    assert _statuses(found) == {"unknown": 40, "completed": 20}


def test_reconciling_waits_until_it_is_safe(shop: Shop) -> None:
    _lose(shop)
    began = time.time()
    assert _statuses(shop.buy(ROWS, batch_size=20, on_unknown="reconcile", settle_after=1.0)) == {"completed": 60}
    assert time.time() - began < 30
    assert shop.paid_twice() == 0


@pytest.mark.parametrize("seconds", [-1, "60", True, 1e9, float("nan")])
def test_a_delay_that_cannot_be_is_refused(shop: Shop, seconds: Any) -> None:
    with pytest.raises(InvalidRequestError, match="settle_after"):
        shop.buy(ROWS, settle_after=seconds)


def test_a_table_with_unsettled_rows_is_complete_and_an_error(shop: Shop, tmp_path: Path) -> None:
    source, out = tmp_path / "t.csv", tmp_path / "o.csv"
    pd.DataFrame({"body": ROWS}).to_csv(source, index=False)
    options: dict[str, Any] = {"text": "body", "output": out, "ledger": shop.ledger_url, "batch_size": 20}
    options |= {"categories": ["billing", "technical"], "concurrency": 1}
    with shop.client() as client:
        shop.inject("reset", nth=2)
        with pytest.raises(UnsettledRowsError, match="20 of 60 rows") as caught:
            classify_table(client, source, **options)
        assert (caught.value.unknown, caught.value.rows, caught.value.output) == (20, 60, str(out))
        assert caught.value.result.stats.statuses["completed"] == 40
        assert mendable(caught.value)
        assert pickle.loads(pickle.dumps(caught.value)).result.rows == 60
        assert list(pd.read_csv(out)["status"]).count("unknown") == 20
        assert classify_table(client, source, **options, on_unknown="park").stats.unknown == 20
        settled = classify_table(client, source, **options, settle_after=0.0)
    assert settled.stats.statuses["completed"] == 60
    assert shop.paid() == 60


def test_without_a_ledger_a_rerun_is_not_recommended(shop: Shop, tmp_path: Path) -> None:
    source = tmp_path / "t.csv"
    pd.DataFrame({"body": ROWS}).to_csv(source, index=False)
    options: dict[str, Any] = {"text": "body", "ledger": False, "batch_size": 20, "categories": ["billing", "x"]}
    with shop.client() as client:
        shop.inject("reset", nth=1)
        with pytest.raises(UnsettledRowsError, match="pays for every row anew") as caught:
            classify_table(client, source, **options, output=tmp_path / "o.csv")
        assert not mendable(caught.value)
        shop.inject("reset", nth=1)
        framed = classify_table(client, pd.DataFrame({"body": ROWS}), **options)
    assert framed.stats.unknown == 20
    assert len(framed.frame) == 60
