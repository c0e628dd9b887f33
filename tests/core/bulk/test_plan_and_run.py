"""A plan and the run after it decide alike: it is right to the item, whatever the ledger holds, or says at most."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from classifaily_connectors import RetryPolicy
from classifaily_connectors.sandbox import SandboxClock
from classifaily_connectors.store.migrations import entry

if TYPE_CHECKING:
    from conftest import Shop

ROWS = [f"invoice {n}" for n in range(48)]
STORIES = ("new", "bought", "failed", "executed", "not executed", "old and executed", "old", "with a job", "job gone")
DAY = 86_400.0


def _tell(shop: Shop, chance: random.Random) -> None:
    """Give each row of ROWS a story, and the ledger what is left of it."""
    stories: dict[str, list[str]] = {}
    for row in ROWS:
        stories.setdefault(chance.choice(STORIES), []).append(row)
    keys: dict[str, list[bytes]] = {}
    ledger = shop.ledger()
    for story, rows in stories.items():
        before = _keys(ledger)
        if story == "new":
            continue
        if story == "failed":
            results = {"code": "processing_error", "message": "broken"}
            shop.inject("answer", status=200, body=_failed(shop, rows, results), times=1)
        elif story != "bought":
            shop.inject("reset", after_work=story in ("executed", "old and executed", "with a job"), times=1)
        status = {"bought": "completed", "failed": "failed"}.get(story, "unknown")
        assert {row.status for row in shop.buy(rows, batch_size=50)} == {status}
        shop.sandbox.clear_faults()
        keys[story] = [key for key in _keys(ledger) if key not in before]
    with shop.client() as client:
        told = {result.id: job.id for job in client.jobs.iterate() for result in job.results}
    with ledger._begin() as connection:

        def change(story: str, **values: Any) -> None:
            for key in keys.get(story, ()):
                connection.execute(sa.update(entry).where(entry.c.key == key).values(**values))

        change("old", claimed_at=entry.c.claimed_at - 40 * DAY)
        change("old and executed", claimed_at=entry.c.claimed_at - 40 * DAY)
        change("job gone", job_id="no-such-job", state="open")
        for key in keys.get("with a job", ()):
            change_one = sa.update(entry).where(entry.c.key == key)
            connection.execute(change_one.values(job_id=told[key.hex()], state="open"))
        for key in keys.get("executed", [])[::2] + keys.get("not executed", [])[::2]:
            connection.execute(sa.update(entry).where(entry.c.key == key).values(state="open"))
        for key in keys.get("bought", [])[::3]:  # a refresh of these was interrupted
            connection.execute(sa.update(entry).where(entry.c.key == key).values(state="parked"))
    ledger.close()


def _keys(ledger: Any) -> list[bytes]:
    with ledger._begin() as connection:
        return list(connection.execute(sa.select(entry.c.key)).scalars())


def _failed(shop: Shop, rows: list[str], error: dict[str, str]) -> dict[str, Any]:
    """An answer in which every item has failed; items travel under their keys."""
    from classifaily_connectors.bulk.prepare import prepare
    from classifaily_connectors.operations.context import Context

    options = shop.options({})
    terms = prepare(Context(), shop.sandbox.base_url, rows, categories=options["categories"]).terms
    terms.namespace, terms.durable = "", True
    items = [terms.unit(n, row).item_id for n, row in enumerate(rows)]
    return {"results": [{"id": each, "status": "failed", "error": error} for each in items]}


@pytest.mark.parametrize("refresh", [False, "failed", True])
@pytest.mark.parametrize("on_unknown", [None, "park", "reconcile", "resend"])
@pytest.mark.parametrize("seed", range(3))
def test_a_plan_is_right_to_the_item(
    shop: Shop, settle_at_once: None, seed: int, on_unknown: str | None, refresh: Any
) -> None:
    _tell(shop, random.Random(f"{seed} {on_unknown} {refresh}"))
    options = {"refresh": refresh} if on_unknown is None else {"on_unknown": on_unknown, "refresh": refresh}
    before = shop.paid()
    plan = shop.plan([*ROWS, *ROWS[:5]], **options)
    assert shop.paid() == before
    assert plan.unique == len(ROWS) == plan.already_paid + plan.parked + plan.to_buy
    shop.buy([*ROWS, *ROWS[:5]], **options)
    assert (shop.paid() - before, plan.perhaps) == (plan.to_buy, 0)


def test_what_may_be_running_still_is_bought_at_most(shop: Shop) -> None:
    """Within a minute of its claim the history says nothing: the run waits, the plan does not."""
    shop.inject("reset")
    shop.buy(ROWS[:10])
    plan = shop.plan(ROWS[:15], on_unknown="reconcile")
    assert (plan.to_buy, plan.perhaps, plan.already_paid) == (5, 0, 10)
    shop.inject("reset", after_work=False)
    shop.buy(ROWS[15:25])
    plan = shop.plan(ROWS[:25], on_unknown="reconcile")
    assert (plan.to_buy, plan.perhaps, plan.already_paid) == (15, 10, 10)


def test_what_another_run_is_paying_for_is_bought_at_most(shop: Shop) -> None:
    ledger = shop.ledger()
    run_id = ledger.start_run()
    shop.inject("reset", after_work=False)
    shop.buy(ROWS[:10])
    ledger.take_over(run_id, ledger.unsettled())
    plan = shop.plan(ROWS)
    assert (plan.to_buy, plan.perhaps) == (len(ROWS), 10)
    ledger.release(run_id, _keys(ledger))
    ledger.end_run(run_id)
    ledger.close()
    plan = shop.plan(ROWS)
    assert (plan.to_buy, plan.perhaps) == (len(ROWS), 0)


def test_a_job_that_runs_still_is_bought_at_most(open_shop: Callable[..., Shop]) -> None:
    clock = SandboxClock(frozen=True)
    impatient = RetryPolicy(base=0.0, cap=0.0, poll_interval=0.01, max_wait=0.05)
    shop = open_shop(unasked_async="batch", job_delay=60, clock=clock, settings={"retry": impatient})
    shop.buy(ROWS[:10])
    for on_unknown, (to_buy, perhaps) in {"park": (0, 0), "reconcile": (0, 0), "resend": (10, 10)}.items():
        plan = shop.plan(ROWS[:10], on_unknown=on_unknown)
        assert (plan.to_buy, plan.perhaps) == (to_buy, perhaps), on_unknown
    clock.advance(seconds=61)
    assert shop.plan(ROWS[:10], on_unknown="resend").already_paid == 10
