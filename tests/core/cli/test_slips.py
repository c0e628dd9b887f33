"""What is nearly always a slip is refused before it is paid for, and a plan says what it would ask and of whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors import ClassifailyClient, InvalidRequestError, PlanRestrictionError, classify_table
from classifaily_connectors.sandbox import Sandbox
from classifaily_connectors.store.address import default_store

pytestmark = pytest.mark.slow

READ = ("--text", "body", "--no-ledger", "--out", "labelled.csv")
ASK = ("--text", "body", "--categories", "billing,technical")


def test_a_single_category_is_a_slip_unless_it_is_meant(
    run: Any, tickets: Path, sandbox: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "cats.txt").write_text("billing\ntechnical\n")
    slip = run("classify", tickets, *READ, "--categories", "cats.txt")
    assert (slip.code, "write --categories @cats.txt" in slip.err) == (2, True)
    alone = run("classify", tickets, *READ, "--categories", "billing")
    assert (alone.code, "--one-category" in alone.err) == (2, True)
    assert sandbox.bill().charged == 0
    assert run("classify", tickets, *READ, "--categories", "billing", "--one-category").code == 0


def test_categories_may_be_given_several_times_and_are_shown(run: Any, tickets: Path, tmp_path: Path) -> None:
    (tmp_path / "cats.txt").write_text("billing\ntechnical\n")
    words = ("--categories", "account", "--categories", "@cats.txt")
    plan = run("classify", tickets, "--text", "body", *words, "--plan")
    assert "3 labels may be answered: account, billing, technical" in plan.out
    told = run("classify", tickets, "--text", "body", *words, "--plan", "--json").json
    assert told["categories"] == ["account", "billing", "technical"]
    assert told["longest"] < told["characters"]


def test_the_name_of_a_file_is_no_category_anywhere(tmp_path: Path) -> None:
    with Sandbox(plan="pro") as sandbox, ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        for name in ("cats.txt", "Cats.YAML"):
            with pytest.raises(InvalidRequestError, match="the name of a file"):
                classify_table(client, [{"body": "x"}], text="body", categories=[name])
        assert classify_table(client, [{"body": "x"}], text="body", categories=[{"name": "cats.txt"}]).rows == 1


def test_what_the_plan_of_a_key_lacks_is_known_before_anything_is_sent(
    run: Any, tickets: Path, sandbox: Sandbox
) -> None:
    sandbox.add_key(sandbox.key, plan="free")
    plan = run("classify", tickets, *ASK, "--plan")
    assert (plan.code, "the free plan does not include categories of your own" in plan.out) == (1, True)
    assert run("classify", tickets, *ASK, "--plan", "--json").json["fits"] is False
    refused = run("classify", tickets, *ASK, "--out", "labelled.csv")
    assert (refused.code, "it needs Starter. Nothing was billed" in refused.err) == (1, True)
    assert not any(each.path.endswith(("/batch", "/classify")) for each in sandbox.requests)
    assert "the free plan does not include categories of your own" in run("doctor").out
    sandbox.add_key(sandbox.key, plan="starter")
    with ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        with pytest.raises(PlanRestrictionError, match="audio inputs: it needs Pro"):
            list(client.classify_many(["https://x.example/a.mp3"], type="audio"))
        rows = [{"input": "text"}, {"input": "https://x.example/a.mp3", "type": "audio"}]
        planned = client.plan(rows, categories=["a", "b"])
    assert planned.restrictions == ("the starter plan does not include audio inputs: it needs Pro",)
    assert (planned.fits, planned.has_quota) == (False, True)


def test_partial_names_the_quota_and_its_date(run: Any, tickets: Path, sandbox: Sandbox) -> None:
    sandbox.add_key(sandbox.key, plan="starter", used=9_990)
    ended = run("classify", tickets, *ASK, "--out", "labelled.csv", "--partial")
    assert ended.code == 5
    assert "Not all rows are covered: the month's quota is used up; it starts anew at 20" in ended.out
    sandbox.add_key(sandbox.key, plan="pro")
    own = run("classify", tickets, *ASK, "--out", "more.csv", "--partial", "--max-requests", "0")
    assert "the budget of 0 requests is used up" in own.out


def test_one_ledger_serves_the_command_line_and_python(
    run: Any, tickets: Path, sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run("classify", tickets, *ASK, "--out", "labelled.csv")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("CLASSIFAILY_STORE_URL", raising=False)
    assert f"Answers are kept in {default_store()}" in first.out
    with ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        result = classify_table(
            client, tickets, text="body", categories=["billing", "technical"], output=tmp_path / "again.csv",
            ledger=default_store(),
        )  # fmt: skip
    assert (result.stats.billed, result.stats.ledger) == (0, default_store())
