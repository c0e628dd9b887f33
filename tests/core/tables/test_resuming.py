"""A half-written output is completed, not restarted; an output is complete or not there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from classifaily_connectors import (
    AuthenticationError,
    Budget,
    BudgetExceededError,
    ErrorRatioExceededError,
    Ledger,
    OutputBusyError,
    StorageError,
    classify_table,
)
from classifaily_connectors.bulk import progress as reporting
from classifaily_connectors.bulk import settling
from classifaily_connectors.sandbox import Fault
from classifaily_connectors.tables import encoders, job, sinks
from classifaily_connectors.tables.chunks import CHUNK

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

pytestmark = pytest.mark.slow

ROWS = 3000
CATEGORIES = ["billing", "technical"]


class Stopped(Exception):  # noqa: N818
    pass


def notes_of(out: Path) -> list[Path]:
    return list((out.parent / f".{out.name}.parts").glob("*.note"))


def stop_midway(out: Path) -> Callable[[Any], None]:
    """Rows may be done long before those in front of them: only what has landed is kept."""

    def progress(_moment: Any) -> None:
        if len(notes_of(out)) >= 2:
            raise Stopped

    return progress


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    path.write_text("id,body\n" + "".join(f"{n},ticket number {n}\n" for n in range(ROWS)))
    return path


@pytest.fixture
def label(own_sandbox: Sandbox, connect: Any, table: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(sinks, "_PART_ROWS", 500)
    monkeypatch.setattr(reporting, "_EVERY", 0.0)  # ten times a second is too seldom to stop a quick run early
    client = connect(own_sandbox)

    def label(source: Any = table, **options: Any) -> Any:
        return classify_table(client, source, **{"text": "body", "categories": CATEGORIES, **options})

    return label


def half(label: Any, out: Path, **options: Any) -> None:
    """Stops when a part of the rows has landed."""
    with pytest.raises(Stopped):
        label(output=out, progress=stop_midway(out), **options)
    assert not out.exists()
    assert (out.parent / f".{out.name}.parts").is_dir()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_completed_not_restarted(kind: str, label: Any, own_sandbox: Sandbox, tmp_path: Path) -> None:
    """Even without a ledger, rows that have landed are not paid again."""
    out = tmp_path / f"out.{kind}"
    half(label, out, ledger=False)
    paid = own_sandbox.bill().charged
    result = label(output=out, ledger=False)
    assert result.resumed > 0
    assert result.rows == sum(result.stats.statuses.values()) == sum(result.stats.labels.values()) == ROWS
    assert result.stats.billed == ROWS - result.resumed == own_sandbox.bill().charged - paid
    assert result.stats.reused == result.resumed
    label(output=tmp_path / f"whole.{kind}", ledger=False)
    read = {"csv": pd.read_csv, "jsonl": lambda path: pd.read_json(path, lines=True), "parquet": pd.read_parquet}[kind]
    found, whole = read(out), read(tmp_path / f"whole.{kind}")
    assert found["id"].astype(int).to_list() == list(range(ROWS))
    assert found["label"].equals(whole["label"])
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("change", ["input", "categories", "policy", "prefix", "mode"])
def test_a_change_begins_anew(change: str, label: Any, table: Path, tmp_path: Path) -> None:
    from classifaily_connectors import ConfidencePolicy

    out = tmp_path / "out.csv"
    half(label, out, ledger=f"sqlite:///{tmp_path}/ledger.db")
    options: dict[str, Any] = {
        "categories": {"categories": [*CATEGORIES, "other"]},
        "policy": {"policy": ConfidencePolicy(act=0.5, review=0.1)},
        "prefix": {"prefix": "x_"},
        "mode": {"mode": "multi"},
    }.get(change, {})
    if change == "input":
        table.write_text(table.read_text().replace("ticket number 1\n", "ticket number 001\n"))
    result = label(output=out, ledger=f"sqlite:///{tmp_path}/ledger.db", **options)
    assert result.resumed == 0
    assert result.rows == ROWS
    if change == "input":
        assert "ticket number 001" in out.read_text()


def test_the_same_input_made_again_goes_on(label: Any, table: Path, tmp_path: Path) -> None:
    """An orchestrator writes the file anew for its retry: the content counts, not the date."""
    half(label, tmp_path / "out.csv", ledger=False)
    content = table.read_bytes()
    table.unlink()
    table.write_bytes(content)
    os.utime(table, (1, 1))
    assert label(output=tmp_path / "out.csv", ledger=False).resumed > 0


def test_frames_go_on_too(label: Any, table: Path, tmp_path: Path) -> None:
    frame, out = pd.read_csv(table), tmp_path / "out.parquet"
    with pytest.raises(Stopped):
        label(frame, output=out, progress=stop_midway(out), ledger=False)
    assert label(frame, output=out, ledger=False).resumed > 0


def test_a_part_without_its_note_does_not_count(label: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    half(label, out, ledger=False)
    notes = sorted(notes_of(out))
    notes[0].unlink()
    result = label(output=out, ledger=False)
    assert result.rows == ROWS
    assert pd.read_csv(out)["id"].to_list() == list(range(ROWS))


def test_unsettled_rows_are_asked_again_only_with_a_ledger(
    label: Any, own_sandbox: Sandbox, connect: Any, tmp_path: Path
) -> None:
    """A part with unknown rows is made anew from the ledger; without one, asking again could mean paying twice."""
    out, url = tmp_path / "out.csv", f"sqlite:///{tmp_path}/ledger.db"

    for ledger in (False, url):
        own_sandbox.inject(Fault(kind="reset", method="POST", path="/batch", nth=2, times=1))
        with pytest.raises(Stopped):  # one call at a time: the second is the second of the table
            label(output=out, ledger=ledger, concurrency=1, batch_size=500, progress=stop_midway(out))
        notes = [json.loads(note.read_bytes()) for note in notes_of(out)]
        settled = sum(stop - start for start, stop, statuses, *_ in notes if not statuses["unknown"])
        landed = sum(stop - start for start, stop, *_ in notes)
        assert landed > settled
        result = label(output=out, ledger=ledger, on_unknown="park")
        assert result.resumed == (settled if ledger else landed)
        assert result.stats.unknown > 0
        out.unlink()
        own_sandbox.reset_bill()
    with closing(Ledger(url)) as book:
        assert len(book.unsettled()) == result.stats.unknown
        assert settling.reconcile(connect(own_sandbox), book).answered == result.stats.unknown
    final = label(output=out, ledger=url)
    assert (final.stats.unknown, final.stats.billed, own_sandbox.bill().charged) == (0, 0, 0)


def test_budget_keeps_what_was_paid_and_goes_on(label: Any, own_sandbox: Sandbox, tmp_path: Path) -> None:
    out, ledger = tmp_path / "out.csv", f"sqlite:///{tmp_path}/ledger.db"
    with pytest.raises(BudgetExceededError):
        label(output=out, ledger=ledger, budget=Budget(max_requests=1000))
    assert own_sandbox.bill().charged == 0
    first = label(output=out, ledger=ledger, budget=Budget(max_requests=1000, on_exceeded="partial"))
    assert first.stats.statuses["uncovered"] == ROWS - 1000
    second = label(output=out, ledger=ledger, budget=Budget(max_requests=ROWS - 1000))
    assert (second.stats.billed, second.stats.reused) == (ROWS - 1000, 1000)
    assert own_sandbox.bill().charged == ROWS


def test_looking_ahead_keeps_nothing(label: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A budget that may refuse goes through the table first: it is streamed then too, never held."""
    most = 0

    class Watched(deque[Any]):
        def append(self, span: Any) -> None:
            nonlocal most
            super().append(span)
            most = max(most, len(self))

    monkeypatch.setattr(job, "deque", Watched)
    label(output=tmp_path / "out.csv", ledger=False, budget=Budget(max_requests=ROWS), batch_size=10, concurrency=1)
    assert most < ROWS // CHUNK


def test_max_error_ratio_fails_only_after_landing(label: Any, own_sandbox: Sandbox, tmp_path: Path) -> None:
    own_sandbox.inject(
        Fault(
            kind="answer",
            method="POST",
            contains="number 7",
            times=None,
            status=400,
            body={"error": {"code": "invalid_request", "message": "No."}},
        )
    )
    out = tmp_path / "out.jsonl"
    small = [{"body": f"ticket number {n}"} for n in range(10)]
    with pytest.raises(ErrorRatioExceededError) as caught:
        label(small, output=out, max_error_ratio=0.05)
    assert (caught.value.errors, caught.value.rows, caught.value.output) == (1, 10, str(out))
    found = [json.loads(line)["status"] for line in out.read_text().splitlines()]
    assert found == ["completed"] * 7 + ["failed"] + ["completed"] * 2
    assert label(small, output=out, max_error_ratio=0.1).stats.failed == 1


def test_an_old_output_stays_until_the_new_one_is_whole(label: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")
    with pytest.raises(Stopped):
        label(output=out, progress=stop_midway(out), ledger=False)
    assert out.read_text() == "old"


def test_nothing_half_written_has_the_name(label: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full while the parts are put together: the old output stays, and the next call goes on."""
    out = tmp_path / "out.csv"
    out.write_text("old")
    whole = encoders.TextEncoder.whole

    def full(self: Any, parts: Any, file: Any) -> None:
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(encoders.TextEncoder, "whole", full)
    with pytest.raises(
        StorageError, match="No space left on device; run the same again once it can be. All answers are kept in"
    ):
        label(output=out, ledger=False)
    assert out.read_text() == "old"
    assert not (tmp_path / ".out.csv.tmp").exists()
    monkeypatch.setattr(encoders.TextEncoder, "whole", whole)
    assert label(output=out, ledger=False).resumed == ROWS
    assert len(pd.read_csv(out)) == ROWS


def test_one_writer_at_a_time(label: Any, tmp_path: Path) -> None:
    refused: list[str] = []

    def meanwhile(_moment: Any) -> None:
        if not refused:
            with pytest.raises(OutputBusyError) as caught:
                label([{"body": "x"}], output=tmp_path / "out.csv")
            refused.append(str(caught.value))

    label(output=tmp_path / "out.csv", progress=meanwhile)
    assert "another run is writing this output" in refused[0]
    assert len(pd.read_csv(tmp_path / "out.csv")) == ROWS


RUN = """
import sys
from classifaily_connectors import ClassifailyClient, classify_table
from classifaily_connectors.bulk import progress
from classifaily_connectors.tables import sinks
sinks._PART_ROWS = 500
progress._EVERY = 0.0
key, url, source, output, ledger = sys.argv[1:]

def tell(moment):
    if moment.done >= 600:
        print("there", flush=True)
        sys.stdin.read()  # whatever else is under way goes on meanwhile, but the run cannot end

with ClassifailyClient(key, base_url=url) as client:
    classify_table(client, source, text="body", categories=["billing", "technical"], output=output, ledger=ledger,
                   on_unknown="reconcile", progress=tell)
"""


def test_kill_9_in_the_middle(own_sandbox: Sandbox, connect: Any, table: Path, tmp_path: Path) -> None:
    """Killed twice, then finished: every row once in the output, no input billed twice."""
    out, ledger = tmp_path / "out.parquet", f"sqlite:///{tmp_path}/ledger.db"
    own_sandbox.inject(Fault(kind="delay", method="POST", path="/batch", seconds=0.05, times=None))
    command = [sys.executable, "-c", RUN, own_sandbox.key, own_sandbox.base_url, str(table), str(out), ledger]
    for _time in range(2):
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "there\n"
            process.send_signal(signal.SIGKILL)
        assert not out.exists()
    own_sandbox.clear_faults()
    result = classify_table(
        connect(own_sandbox), table, text="body", categories=CATEGORIES, output=out, ledger=ledger, on_unknown="park"
    )
    found = pq.read_table(out)
    assert found.column("id").to_pylist() == [str(n) for n in range(ROWS)]
    assert result.rows == ROWS
    assert max(own_sandbox.bill().by_input.values()) == 1
    unknown = result.stats.unknown
    again = classify_table(
        connect(own_sandbox), table, text="body", categories=CATEGORIES, output=out, ledger=ledger, on_unknown="park"
    )
    assert (again.stats.billed, again.stats.unknown) == (0, unknown)
    assert max(own_sandbox.bill().by_input.values()) == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("kept", [True, False], ids=["ledger", "no ledger"])
def test_rows_that_a_stopped_run_left_out_move_no_label(
    own_sandbox: Sandbox, connect: Any, tmp_path: Path, kind: str, kept: bool
) -> None:
    """The second of four batches is refused for good: those beside it were paid, and keep their places."""
    words = ["I was charged twice" if n // 10 % 2 else "the app crashes" for n in range(200)]
    frame = pd.DataFrame({"id": range(200), "body": [f"{word} {n}" for n, word in enumerate(words)]})
    source, out = tmp_path / f"t.{kind}", tmp_path / f"o.{kind}"
    _save(frame, source)
    refusal = {"error": {"code": "unauthorized", "message": "revoked"}}
    own_sandbox.inject(Fault(kind="answer", path="/batch", status=401, nth=2, times=1, body=refusal))
    own_sandbox.inject(Fault(kind="delay", path="/batch", seconds=0.2, times=None))
    options: dict[str, Any] = {"text": "body", "output": out, "categories": CATEGORIES, "batch_size": 10}
    options |= {"concurrency": 4, "ledger": f"sqlite:///{tmp_path}/l.db" if kept else False}
    client = connect(own_sandbox)
    with pytest.raises(AuthenticationError):
        classify_table(client, source, **options)
    own_sandbox.clear_faults()
    assert 0 < own_sandbox.bill().charged < 200
    assert classify_table(client, source, **options).resumed > 0
    labelled = _load(out)
    assert [str(each) for each in labelled["id"]] == [str(n) for n in range(200)]
    expected = ["billing" if "charged" in word else "technical" for word in words]
    assert list(labelled["label"]) == expected
    assert own_sandbox.bill().charged == 200


def _save(frame: pd.DataFrame, path: Path) -> None:
    if path.suffix == ".csv":
        frame.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path, index=False)


def _load(path: Path) -> pd.DataFrame:
    if path.suffix == ".csv":
        return pd.read_csv(path)
    return pd.read_json(path, lines=True) if path.suffix == ".jsonl" else pd.read_parquet(path)
