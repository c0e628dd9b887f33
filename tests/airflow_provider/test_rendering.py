"""Data is data: whatever a text looks like, it is sent as it is; and what Airflow shows holds no password."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow_kit import KEY, RunDag

from airflow_provider_classifaily import operators, sensors

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("how", ["plainly", "natively"])
@pytest.mark.parametrize(
    "text", ["Check {{ conn.classifaily_default.password }}, {% raise %} and {# this #}", "00740", "['a', 1]", "x.sql"]
)
def test_a_text_arrives_as_it_was_written(run_dag: RunDag, connected: Sandbox, text: str, how: str) -> None:
    """By a template, an XCom, a mapped value: once each, and twice in the mapped batch."""
    run = run_dag(f"texts_{how}", text=text)
    assert run.state == "success"
    assert connected.bill().by_input == {digest(text): 8}
    assert KEY not in json.dumps(run.rendered("by_template"))


@pytest.mark.parametrize("how", ["plainly", "natively"])
def test_what_the_author_wrote_is_a_template(run_dag: RunDag, connected: Sandbox, how: str) -> None:
    assert run_dag(f"written_{how}", text="refund").state == "success"
    assert connected.bill().by_input == {digest(each): 1 for each in ("refund, once", "refund, twice", "refund")}


@pytest.mark.parametrize("how", ["plainly", "natively"])
def test_an_enum_is_a_set_of_categories(run_dag: RunDag, connected: Sandbox, tmp_path: Path, how: str) -> None:
    (tmp_path / "in.csv").write_text("id,body\n1,refund me\n")
    run = run_dag(f"enums_{how}", source=str(tmp_path / "in.csv"), target=str(tmp_path / "out.csv"))
    assert run.state == "success"
    assert run.xcom("one")["label"] == run.xcom("mapped", 0)["label"] == "billing"
    assert "team_label" in (tmp_path / "out.csv").read_text()


@pytest.mark.parametrize(
    ("store", "hidden"),
    [
        ("postgresql+psycopg://label:Sup3rS3cretPw@127.0.0.1:1/labels", ["Sup3rS3cretPw"]),
        ("postgresql+psycopg://label:p%40ss%2Fw0rd!@127.0.0.1:1/labels", ["p%40ss%2Fw0rd", "p@ss/w0rd!"]),
        ("postgresql+psycopg://127.0.0.1:1/labels?user=label&password=In%20query", ["In%20query", "In query"]),
        ("postgresql+psycopg://label:abc@127.0.0.1:1/labels", [":abc@"]),  # shorter than what Airflow masks
    ],
)
def test_no_form_of_a_ledgers_password_is_shown(
    run_dag: RunDag, connected: Sandbox, capfd: pytest.CaptureFixture[str], store: str, hidden: list[str]
) -> None:
    run = run_dag("ledgers", store=store)
    assert run.state == "failed"
    shown = [run.rendered(name)["ledger"] for name in ("table", "submit", "mapped")]
    assert [each for each in shown if "***" in each] == shown
    logged = capfd.readouterr().out
    for each in hidden:
        assert each not in json.dumps(shown)
        assert each not in logged
    assert connected.bill().charged == 0


@pytest.mark.parametrize("ledger", ["False", "None", True])
def test_a_ledger_that_became_a_text_is_refused(connected: Sandbox, ledger: Any) -> None:
    """A template of False is "False" unless rendered natively, and no file is meant by it."""
    for kind, more in (
        (operators.ClassifailyTableOperator, {"source": "in.csv", "target": "out.csv", "text": "body"}),
        (operators.ClassifailySubmitOperator, {"input": "refund"}),
    ):
        with pytest.raises(Exception, match="render_template_as_native_obj"):
            kind(task_id="t", categories=["a", "b"], ledger=ledger, **more).execute({})
    assert connected.requests == []


def test_no_field_is_taken_for_the_name_of_a_file() -> None:
    kinds = [value for module in (operators, sensors) for value in vars(module).values() if isinstance(value, type)]
    ours = [kind for kind in kinds if hasattr(kind, "template_fields") and kind.__module__.startswith("airflow_prov")]
    assert len(ours) >= 7
    for kind in ours:
        assert not kind.template_ext
        assert callable(kind.render_template)
