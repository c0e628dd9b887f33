"""The input is in no log, no error, no repr and no byte of the ledger; neither is the key."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import Budget, ClassifailyError, StoreError

if TYPE_CHECKING:
    from conftest import Shop

SECRET = "xyzzy-patient-4711"
ROWS = [f"{SECRET} number {n} was charged twice" for n in range(50)]


def _bytes_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file() and "ledger" in path.name)


@pytest.mark.parametrize("on_unknown", ["park", "reconcile", "resend"])
def test_no_input_reaches_the_ledger_or_the_log(
    shop: Shop, settle_at_once: None, tmp_path: Path, caplog: pytest.LogCaptureFixture, on_unknown: Any
) -> None:
    for nth, kind in enumerate(("reset", "cut", "500", "wrong_size_batch", "429"), 2):
        shop.inject(kind, nth=nth, **({"retry_after": 0.0} if kind == "429" else {}))
    columns = [{"input": row, "patient": SECRET} for row in ROWS]
    ledger = shop.ledger()  # held open, so that the write-ahead log is there to be searched
    with caplog.at_level(logging.DEBUG), shop.client() as client:
        run = client.classify_many(columns, **shop.options({"batch_size": 5, "on_unknown": on_unknown}))
        rows = list(run)
        assert SECRET not in repr((run, run.stats, ledger))
    assert len(rows) == 50
    found = _bytes_on_disk(tmp_path)
    assert len(found) > 10_000
    assert (tmp_path / "ledger.db-wal").exists()
    ledger.close()
    for secret in (SECRET, "charged twice", shop.sandbox.key):
        assert secret.encode() not in found
        assert secret not in caplog.text


@pytest.mark.parametrize(
    "options", [{"budget": Budget(max_requests=1)}, {"type": "image"}, {}], ids=["budget", "type", "refused"]
)
def test_no_error_repeats_an_input(shop: Shop, options: dict[str, Any]) -> None:
    shop.inject("answer", status=401, body={"error": {"code": "unauthorized", "message": "no"}}, times=None)
    try:
        rows = shop.buy(ROWS, **options)
    except ClassifailyError as error:
        shown = "".join(traceback.format_exception(error)) + repr(vars(error))
    else:
        shown = " ".join(row.error or "" for row in rows)
    assert shown
    assert SECRET not in shown
    assert shop.sandbox.key not in shown


def test_an_error_of_the_database_repeats_no_answer(shop: Shop) -> None:
    """SQLAlchemy prints the parameters of a failed statement unless told not to."""
    ledger = shop.ledger()
    with ledger._begin() as connection:
        connection.exec_driver_sql("DROP TABLE classifaily_run")
    with pytest.raises(StoreError) as caught:
        ledger.beat(SECRET)
    assert SECRET not in str(caught.value)
    ledger.close()
