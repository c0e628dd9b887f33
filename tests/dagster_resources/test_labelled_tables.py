"""`classify_asset`: the labelled table, what it costs, what it says, and what may run again."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from classifaily_connectors import Budget, ConfigurationError, InvalidRequestError
from classifaily_connectors.sandbox import Fault, Sandbox
from dagster_classifaily import ClassifailyResource, Table, classify_asset

TEAMS = ["billing", "technical"]
TEXTS = ["I was charged twice.", "The API answers 500.", "", "I was charged twice."]
ROWS = [{"id": number, "body": text} for number, text in enumerate(TEXTS)]
LABELS = ["billing", "technical", None, "billing"]

Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def run(sandbox: Sandbox, dagster_home: Path) -> Iterator[Run]:
    """Materializes assets in the Dagster of DAGSTER_HOME; a failure is in the result, not raised."""
    with dg.DagsterInstance.get() as instance:

        def materialize(*assets: Any, resource: Any = None, **options: Any) -> dg.ExecuteInProcessResult:
            resources = {"classifaily": resource or ClassifailyResource()}
            return dg.materialize(assets, instance=instance, resources=resources, raise_on_error=False, **options)

        yield materialize


@classify_asset(text="body", categories=TEAMS, retry_policy=None)
def tickets() -> list[dict[str, Any]]:
    """The tickets of today."""
    return ROWS


def told(result: dg.ExecuteInProcessResult, asset: str = "tickets") -> dict[str, Any]:
    """The metadata of the materialization."""
    (event,) = result.asset_materializations_for_node(asset)
    return {name.removeprefix("classifaily/"): each.value for name, each in event.metadata.items()}


def check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


# --- what it makes ----------------------------------------------------------------------------


def test_a_rerun_bills_nothing_and_the_ui_shows_it(run: Run, sandbox: Sandbox, dagster_home: Path) -> None:
    first, second = run(tickets), run(tickets)
    assert [row["label"] for row in second.output_for_node("tickets")] == LABELS
    assert [row["body"] for row in second.output_for_node("tickets")] == TEXTS
    assert sandbox.bill().charged == 2
    assert (told(first)["billed"], told(first)["reused"]) == (2, 0)
    assert (told(second)["billed"], told(second)["reused"], told(second)["duplicate"]) == (0, 3, 0)
    assert (dagster_home.parent / "state" / "classifaily" / "ledger.db").is_file()


def test_numbers_are_metadata_to_plot(run: Run) -> None:
    metadata = told(run(tickets))
    assert metadata["dagster/row_count"] == 4
    assert (metadata["completed"], metadata["skipped"], metadata["failed"], metadata["unknown"]) == (3, 1, 0, 0)
    assert (metadata["act"], metadata["review"], metadata["error_ratio"]) == (3, 1, 0.0)
    assert metadata["quota_remaining"] > 0
    assert "| billing | 2 | 67% |" in metadata["labels"]
    schema = {column.name: column.type for column in metadata["dagster/column_schema"].columns}
    assert list(schema)[:4] == ["id", "body", "label", "confidence"]
    assert schema["confidence"] == "double"


def test_no_text_of_an_input_is_left_in_dagster(
    run: Run, tmp_path: Path, places_of: Callable[[str, Path], list[str]]
) -> None:
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("body\nMy invoice is wrong.\n")

    @classify_asset(text="body", categories=TEAMS, output=output)
    def filed() -> str:
        return str(source)

    result = run(filed)
    assert result.output_for_node("filed") == str(output)
    assert told(result, "filed")["output"] == str(output)
    home = Path(os.environ["DAGSTER_HOME"])
    assert {*places_of("My invoice is wrong.", tmp_path)} == {str(source), str(output)}
    assert places_of(os.environ["CLASSIFAILY_KEY"], home) == []


def test_a_frame_comes_back_as_a_frame_and_its_columns_are_traced(run: Run) -> None:
    @dg.asset
    def raw() -> Any:
        return pa.Table.from_pylist(ROWS)

    @classify_asset(
        template="{id}: {body}", categories=TEAMS, prefix="cai_", columns_of="raw", on_invalid="skip", name="framed"
    )
    async def made_async(context: dg.AssetExecutionContext, raw: Any, classifaily: ClassifailyResource) -> pa.Table:
        context.log.info("the resource is %s", type(classifaily).__name__)
        return raw

    result = run(raw, made_async)
    frame = result.output_for_node("framed")
    assert isinstance(frame, pa.Table)
    assert frame.column_names[:3] == ["id", "body", "cai_label"]
    lineage = told(result, "framed")["dagster/column_lineage"].deps_by_column
    assert {dep.column_name for dep in lineage["cai_label"]} == {"id", "body"}
    assert lineage["body"] == [dg.TableColumnDep(dg.AssetKey("raw"), "body")]


def test_each_axis_has_its_columns_and_the_version_changes_with_it(run: Run) -> None:
    def on(moods: list[str]) -> dg.AssetsDefinition:
        @classify_asset(text="body", axes={"team": TEAMS, "mood": moods}, retry_policy=None, name="tickets")
        def made() -> list[dict[str, Any]]:
            return ROWS

        return made

    two = on(["angry", "calm"])
    result = run(two)
    schema = {column.name: column.type for column in told(result)["dagster/column_schema"].columns}
    assert list(schema)[:4] == ["id", "body", "team_label", "team_confidence"]
    assert [schema[name] for name in ("id", "team_confidence", "mood_label", "mood_confidence")] == [
        "", "double", "string", "double",
    ]  # fmt: skip
    versions = [each.code_versions_by_key[dg.AssetKey("tickets")] for each in (two, on(["angry", "sad"]))]
    assert len(set(versions)) == 2


def test_a_table_may_bring_its_options(run: Run, sandbox: Sandbox) -> None:
    class Tickets(dg.Config):
        refresh: bool = False

    @classify_asset(text="nothing", categories=TEAMS)
    def chosen(config: Tickets) -> Table:
        return Table(ROWS, text="body", refresh=config.refresh)

    assert run(chosen).success
    again = run(chosen, run_config={"ops": {"chosen": {"config": {"refresh": True}}}})
    assert told(again, "chosen")["billed"] == 2
    assert sandbox.bill().charged == 4


@pytest.mark.parametrize("early", [{"ledger": False}, {"max_error_ratio": 0.5}])
def test_what_the_decorator_must_know_cannot_come_with_the_table(
    run: Run, sandbox: Sandbox, early: dict[str, Any]
) -> None:
    @classify_asset(text="body", categories=TEAMS)
    def late() -> Table:
        return Table(ROWS, **early)

    result = run(late)
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    assert "give it to classify_asset" in str(failed.step_failure_data.error)
    assert sandbox.bill().charged == 0


def test_each_partition_has_its_rows_and_all_share_the_ledger(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    days = dg.StaticPartitionsDefinition(["mon", "tue"])

    @classify_asset(text="body", categories=TEAMS, partitions_def=days, output=str(tmp_path / "{partition_key}.jsonl"))
    def daily(context: dg.AssetExecutionContext) -> list[dict[str, Any]]:
        return [{"day": context.partition_key, "body": text} for text in TEXTS]

    billed = [told(run(daily, partition_key=day), "daily")["billed"] for day in ("mon", "tue")]
    assert billed == [2, 0]
    assert {path.name for path in tmp_path.glob("*.jsonl")} == {"mon.jsonl", "tue.jsonl"}


def test_one_run_takes_one_partition(run: Run, sandbox: Sandbox) -> None:
    """Dagster's own file storage fails on several, and it would do so after they were paid for."""
    days = dg.StaticPartitionsDefinition(["mon", "tue"])

    @classify_asset(text="body", categories=TEAMS, partitions_def=days, retry_policy=None)
    def weekly(context: dg.AssetExecutionContext) -> Any:
        return [{"day": day, "body": text} for day in context.partition_keys for text in TEXTS]

    whole = {"dagster/asset_partition_range_start": "mon", "dagster/asset_partition_range_end": "tue"}
    assert not run(weekly, tags=whole).success
    assert sandbox.bill().charged == 0


def test_progress_is_in_the_event_log(run: Run) -> None:
    with dg.DagsterInstance.get() as instance:
        result = run(tickets)
        lines = [each.user_message for each in instance.all_logs(result.run_id) if " rows: " in each.user_message]
    assert len(lines) == 1
    assert lines[0].startswith("4 of 4 rows: 2 billed, 1 duplicate; ")


def test_without_a_home_of_its_own_dagster_shares_the_users_ledger(sandbox: Sandbox, tmp_path: Path) -> None:
    """A temporary home ends with the command; the command line's ledger does not."""
    shown = []
    for _ in "12":
        result = dg.materialize([tickets], resources={"classifaily": ClassifailyResource()})
        shown.append(told(result)["ledger"])
    assert shown == [f"sqlite:///{tmp_path}/state/classifaily/ledger.db"] * 2
    assert sandbox.bill().charged == 2


# --- what it costs ----------------------------------------------------------------------------


def test_two_dagsters_that_share_a_url_pay_once(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = f"sqlite:///{tmp_path / 'shared.db'}"
    resources = [ClassifailyResource(store_url=shared), ClassifailyResource()]
    monkeypatch.setenv("CLASSIFAILY_STORE_URL", shared)
    for resource in resources:
        with dg.DagsterInstance.ephemeral(str(tmp_path)) as instance:
            assert dg.materialize([tickets], instance=instance, resources={"classifaily": resource}).success
    assert sandbox.bill().charged == 2


def test_without_a_ledger_a_rerun_pays_again_so_no_step_is_retried(run: Run, sandbox: Sandbox) -> None:
    @classify_asset(text="body", categories=TEAMS, ledger=False)
    def unkept() -> Any:
        return ROWS

    assert [told(run(unkept), "unkept")["billed"] for _ in "12"] == [2, 2]
    assert sandbox.bill().charged == 4
    assert unkept.op.retry_policy is None
    with pytest.raises(ConfigurationError, match="a retry would pay again"):
        classify_asset(text="body", ledger=False, retry_policy=dg.RetryPolicy(max_retries=1))


@pytest.mark.parametrize("options", [{"refresh": True}, {"refresh": "failed"}, {"on_unknown": "resend"}])
def test_what_pays_again_on_purpose_is_not_retried(options: dict[str, Any]) -> None:
    renewed = classify_asset(name="renewed", text="body", categories=TEAMS, **options)(lambda: ROWS)
    assert renewed.op.retry_policy is None


QUICK = dg.RetryPolicy(max_retries=2)


class Flaky(dg.IOManager):
    """A storage that is down for the first write."""

    def __init__(self) -> None:
        self.kept: list[Any] = []

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        self.kept.append(obj)
        if len(self.kept) == 1:
            raise OSError("no space left")

    def load_input(self, context: dg.InputContext) -> Any: ...


def test_a_retry_pays_nothing_twice(run: Run, sandbox: Sandbox) -> None:
    @classify_asset(text="body", categories=TEAMS, retry_policy=QUICK, io_manager_key="flaky")
    def kept() -> Any:
        return ROWS

    with dg.DagsterInstance.get() as instance:
        resources = {"classifaily": ClassifailyResource(), "flaky": (flaky := Flaky())}
        result = dg.materialize([kept], instance=instance, resources=resources, raise_on_error=False)
    assert result.success
    assert len(flaky.kept) == 2
    assert sandbox.bill().charged == 2
    assert (told(result, "kept")["billed"], told(result, "kept")["reused"]) == (0, 3)


def test_what_no_retry_can_mend_is_tried_once(run: Run, sandbox: Sandbox) -> None:
    attempts: list[int] = []

    @classify_asset(text="body", categories=TEAMS, retry_policy=QUICK, budget=Budget(max_requests=1))
    def poor() -> Any:
        attempts.append(1)
        return ROWS

    result = run(poor)
    assert (result.success, len(attempts), sandbox.bill().charged) == (False, 1, 0)
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    failure = failed.step_failure_data
    assert failure.error.cls_name == "BudgetExceededError"  # type: ignore[union-attr]
    assert failure.user_failure_data.metadata["needed"] == dg.IntMetadataValue(2)  # type: ignore[union-attr]


# --- what is missing --------------------------------------------------------------------------


def failing(**options: Any) -> tuple[dg.AssetsDefinition, dg.AssetsDefinition]:
    @classify_asset(text="body", categories=TEAMS, retry_policy=QUICK, **options)
    def partly() -> Any:
        return ROWS

    @dg.asset(deps=[partly])
    def after() -> None: ...

    return partly, after


def test_a_row_without_an_answer_is_a_warning(run: Run, sandbox: Sandbox) -> None:
    sandbox.script(TEXTS[1], error="no", times=None)
    try:
        result = run(*failing())
    finally:
        sandbox.script(TEXTS[1])
    assert result.success
    assert (check(result).passed, check(result).severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check(result).metadata["error_ratio"].value == 0.25
    assert told(result, "partly")["failed"] == 1


def test_too_many_of_them_hold_back_what_comes_after_once_the_table_is_safe(run: Run, sandbox: Sandbox) -> None:
    sandbox.script(TEXTS[1], error="no", times=None)
    try:
        result = run(*failing(max_error_ratio=0.2))
    finally:
        sandbox.script(TEXTS[1])
    assert not result.success
    assert check(result).severity == dg.AssetCheckSeverity.ERROR
    assert told(result, "partly")["completed"] == 2
    assert result.asset_materializations_for_node("after") == []
    assert sum(event.is_step_restarted for event in result.all_events) == 0


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"categories": ["a", "a"]}, InvalidRequestError, "repeats"),
        ({"text": "a", "template": "{a}"}, InvalidRequestError, "exclude each other"),
        ({"catgories": ["a"]}, InvalidRequestError, "did you mean 'categories'"),
        ({"progress": print}, InvalidRequestError, "takes no option 'progress'"),
        ({"max_error_ratio": 5}, InvalidRequestError, "from 0 to 1"),
        (
            {"output": "out.csv", "partitions_def": dg.StaticPartitionsDefinition(["a"])},
            ConfigurationError,
            "partition_key",
        ),
    ],
)
def test_what_cannot_work_is_refused_where_it_is_defined(
    options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        classify_asset(**options)


def test_an_edited_taxonomy_is_another_code_version() -> None:
    def version(**options: Any) -> str | None:
        @classify_asset(text="body", **options)
        def table() -> Any: ...

        return table.get_asset_spec(dg.AssetKey("table")).code_version

    one = version(categories=TEAMS)
    assert one == version(categories=list(reversed(TEAMS)))
    assert len({one, version(categories=[*TEAMS, "other"]), version(categories=TEAMS, mode="multi")}) == 3


# --- and when it is killed --------------------------------------------------------------------

PROGRAM = """
import dagster as dg
from dagster_classifaily import ClassifailyResource, classify_asset

@classify_asset(text="body", categories=["billing", "technical"], batch_size=10, concurrency=2)
def many():
    return [{"body": f"I was charged {number} times."} for number in range(200)]

defs = dg.Definitions(assets=[many], resources={"classifaily": ClassifailyResource()})
"""


def test_a_killed_run_pays_nothing_twice(sandbox: Sandbox, dagster_home: Path, tmp_path: Path) -> None:
    program = tmp_path / "killed.py"
    program.write_text(PROGRAM)
    command = [sys.executable, "-m", "dagster", "asset", "materialize", "-f", str(program), "--select", "many"]
    sandbox.inject(Fault(kind="delay", path="/batch", seconds=0.4, times=None))
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, cwd=tmp_path
    )
    until = time.monotonic() + 120
    while sandbox.bill().charged < 40:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=60)
    sandbox.clear_faults()
    again = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, timeout=300)
    assert again.returncode == 0, again.stderr[-3000:]
    # What was under way when it was killed, two batches at most, is parked: perhaps paid, so never bought unasked.
    assert set(sandbox.bill().by_input.values()) == {1}
    assert 180 <= sandbox.bill().charged <= 200
