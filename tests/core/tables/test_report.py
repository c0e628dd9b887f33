"""A table's result in a few lines: plain data, and Markdown that a label cannot break."""

from __future__ import annotations

import json
from pathlib import Path

from classifaily_connectors import ClassifailyClient, classify_table
from classifaily_connectors.bulk.progress import Progress
from classifaily_connectors.sandbox import Sandbox
from classifaily_connectors.tables.report import histogram, markdown, progress_line, summary


def test_progress_in_a_line_says_what_is_paid_and_of_the_rest_what_there_is() -> None:
    counts = {"billed": 900, "reused": 300, "duplicate": 0, "failed": 0, "unknown": 0}
    moment = Progress(done=1200, total=3000, **counts, rate=150.4, eta=12.3, remaining=None)
    assert progress_line(moment) == "1,200 of 3,000 rows: 900 billed, 300 reused; 150 a second, 12 s left"
    counts |= {"billed": 0, "reused": 0, "failed": 2, "unknown": 1}
    moment = Progress(done=3, total=None, **counts, rate=1.0, eta=None, remaining=5)
    assert progress_line(moment) == "3 rows: 0 billed, 2 failed, 1 unknown; 1 a second"


def test_a_summary_is_plain_data_and_holds_no_row(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "body": "I was charged twice."},
        {"id": 2, "body": "An error when I log in"},
        {"id": 3, "body": ""},
    ]
    with Sandbox(plan="pro") as sandbox, ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        output = tmp_path / "labelled.csv"
        result = classify_table(client, rows, text="body", categories=["billing", "technical"], output=output)
    told = json.loads(json.dumps(summary(result)))
    assert (told["rows"], told["billed"], told["reused"], told["duplicate"], told["resumed"]) == (3, 2, 0, 0, 0)
    assert told["labels"] == {"billing": 1, "technical": 1}
    assert sum(told["statuses"].values()) == sum(told["routes"].values()) == 3
    assert told["output"] == str(output)
    assert "charged" not in str(told)
    shown = markdown(told)
    assert "| billed | 2 |" in shown
    assert "| skipped | 1 |" in shown
    assert "| billing | 1 | 50% | █" in shown
    assert str(output) in shown


def test_a_table_that_bought_nothing_has_no_histogram(tmp_path: Path) -> None:
    with Sandbox(plan="pro") as sandbox, ClassifailyClient(sandbox.key, base_url=sandbox.base_url) as client:
        result = classify_table(client, [{"body": " "}], text="body")
    told = summary(result)
    assert (told["output"], told["labels"], told["remaining"]) == (None, {}, None)
    assert "share" not in markdown(told)


def test_labels_are_ranked_escaped_and_summed_up() -> None:
    shown = histogram({"rare": 1, "a|b <i>": 30, "often": 60})
    assert [line.split(" |")[0] for line in shown.splitlines()[2:]] == ["| often", "| a\\|b &lt;i>", "| rare"]
    many = histogram({f"label {number:02}": 1 for number in range(60)})
    assert many.splitlines()[-1].startswith("| 10 more | 10 |")
