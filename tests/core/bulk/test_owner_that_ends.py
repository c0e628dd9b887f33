"""Whoever looks at another run's claims sees how they ended, however closely the other ends: on both databases."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from classifaily_connectors import Ledger
from classifaily_connectors.bulk.rows import Verdict
from classifaily_connectors.bulk.submitting import submit_once
from classifaily_connectors.bulk.terms import Terms
from classifaily_connectors.models import Label
from classifaily_connectors.store import SUBMITTED
from classifaily_connectors.taxonomy import parse_categories

if TYPE_CHECKING:
    from conftest import Shop

CATEGORIES = ["billing", "technical", "account"]
ROWS = [f"invoice {n}" for n in range(50)]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/shared.db"
    return str(request.getfixturevalue("postgres")())


class BetweenTheLooks:
    """A ledger in which something happens after the entries were looked up and before their owners are."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, happen: Callable[[], None]) -> None:
        self.happened = threading.Event()
        live_runs = Ledger.live_runs

        def look(ledger: Ledger, run_ids: Any) -> set[str]:
            if run_ids and not self.happened.is_set():
                self.happened.set()
                happen()
            return live_runs(ledger, run_ids)

        monkeypatch.setattr(Ledger, "live_runs", look)


def _keys(shop: Shop) -> list[bytes]:
    terms = Terms(shared={}, categories=parse_categories(CATEGORIES), base_url=shop.sandbox.base_url)
    return [terms.unit(0, row).key for row in ROWS]


def test_an_owner_that_answers_and_ends_between_the_two_looks(
    shop: Shop, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Ledger(url)
    run_id, keys = owner.start_run(), _keys(shop)
    assert owner.claim(run_id, keys) == set(keys)
    verdict = Verdict((Label.model_construct(label="billing", confidence=0.9, explanation=None),)).dump()

    def end() -> None:
        owner.finish(run_id, dict.fromkeys(keys, verdict))
        owner.end_run(run_id)

    looks = BetweenTheLooks(monkeypatch, end)
    rows = shop.buy(ROWS, ledger=url)
    owner.close()
    assert looks.happened.is_set()
    assert [(row.status, row.source, row.label) for row in rows] == [("completed", "ledger", "billing")] * 50
    assert shop.paid() == 0


def test_an_owner_that_gives_its_claims_back_between_the_two_looks(
    shop: Shop, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Ledger(url)
    run_id, keys = owner.start_run(), _keys(shop)
    owner.claim(run_id, keys)

    def end() -> None:
        owner.release(run_id, keys)
        owner.end_run(run_id)

    BetweenTheLooks(monkeypatch, end)
    rows = shop.buy(ROWS, ledger=url)
    owner.close()
    assert {(row.status, row.source) for row in rows} == {("completed", "api")}
    assert shop.paid() == 50


def test_claims_that_somebody_takes_over_between_the_two_looks_are_waited_for(
    shop: Shop, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Ledger(url)
    run_id, keys = owner.start_run(), _keys(shop)
    owner.claim(run_id, keys)
    verdict = Verdict((Label.model_construct(label="billing", confidence=0.9, explanation=None),)).dump()

    def take_over() -> None:
        other = owner.start_run()
        owner.end_run(run_id)
        assert owner.take_over(other, list(owner.lookup(keys).values()))
        later = threading.Timer(0.5, lambda: owner.finish(other, dict.fromkeys(keys, verdict)))
        later.start()

    BetweenTheLooks(monkeypatch, take_over)
    rows = shop.buy(ROWS, ledger=url)
    owner.close()
    assert {(row.status, row.source) for row in rows} == {("completed", "ledger")}
    assert shop.paid() == 0


def test_a_submitter_that_keeps_its_job_and_ends_between_the_two_looks(
    shop: Shop, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Ledger(url, namespace=SUBMITTED)
    run_id = owner.start_run()
    with shop.client() as client:
        first = submit_once(client, ROWS[0], ledger=url, categories=CATEGORIES)
        (entry,) = owner.unsettled()
        key = entry.key
        owner.forget([entry])
        owner.claim(run_id, [key])

        def end() -> None:
            owner.attach(run_id, [key], str(first.id))
            owner.end_run(run_id)

        BetweenTheLooks(monkeypatch, end)
        assert submit_once(client, ROWS[0], ledger=url, categories=CATEGORIES).id == first.id
    owner.close()
    assert shop.paid() == 1
