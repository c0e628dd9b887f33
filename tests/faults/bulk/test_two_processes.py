"""Two processes over the same rows: neither pays what the other does, and both complete."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Yard

BOTH = pytest.mark.parametrize("ledger_url", ["sqlite", "postgresql"], indirect=True)


@BOTH
def test_both_complete_and_nothing_is_paid_twice(yard: Yard) -> None:
    workers = [yard.start(4000, 3201, batch_size=20) for _ in range(2)]
    reports = [yard.finish(worker) for worker in workers]
    assert [report["statuses"] for report in reports] == [{"completed": 4000}] * 2
    assert yard.times_paid() == {1: 3201}
    assert sum(report["sources"].get("api", 0) for report in reports) == 3201
    assert yard.unsettled() == 0


@BOTH
def test_one_is_killed_and_the_other_takes_what_is_certain(yard: Yard) -> None:
    first, second = (yard.start(3000, 3000, batch_size=20, on_unknown="reconcile") for _ in range(2))
    while yard.sandbox.bill().charged < 500 and first.poll() is None:
        time.sleep(0.002)
    yard.kill(first)
    assert yard.finish(second)["statuses"] == {"completed": 3000}
    assert yard.times_paid() == {1: 3000}
    assert yard.unsettled() == 0


def test_two_refreshes_pay_once_more_each_at_most(yard: Yard) -> None:
    yard.run(500, 500)
    workers = [yard.start(500, 500, batch_size=10, refresh=True) for _ in range(2)]
    for worker in workers:
        assert yard.finish(worker)["statuses"] == {"completed": 500}
    assert set(yard.times_paid()) <= {2, 3}
    assert yard.unsettled() == 0
