"""Partitions: where each one's table is, what may not be shared, and what the UI shows of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from classifaily_connectors import ConfigurationError
from classifaily_connectors.sandbox import Sandbox
from dagster_classifaily import ClassifailyResource, classify_asset
from dagster_classifaily.partitions import partition_path

TEAMS = ["billing", "technical"]
ROWS = [{"body": "I was charged twice."}, {"body": "The API answers 500."}]
KEYS = [
    "a/b", "a//b", "/a/b", "a/b/", "a/./b", "./a/b", "x/../a/b", "../a/b", "..", ".", "%2Fa/b", "%252Fa/b", "/", "a b",
]  # fmt: skip

Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def run(sandbox: Sandbox, dagster_home: Path) -> Any:
    with dg.DagsterInstance.get() as instance:

        def materialize(*assets: Any, **options: Any) -> dg.ExecuteInProcessResult:
            resources = {"classifaily": ClassifailyResource()}
            return dg.materialize(assets, instance=instance, resources=resources, raise_on_error=False, **options)

        yield materialize


def path_of(key: str, path: str = "/out/labelled/{partition_key}.csv") -> str:
    with dg.build_asset_context(partition_key=key) as context:
        return partition_path(path, context)


def test_no_key_leaves_the_folder_and_no_two_share_a_file() -> None:
    folder = Path("/out/labelled")
    made = [(folder / path_of(key)).resolve() for key in KEYS]
    assert all(each.is_relative_to(folder) for each in made)
    assert len(set(made)) == len(KEYS)
    assert path_of("2026-11-01") == "/out/labelled/2026-11-01.csv"
    assert path_of("..") == "/out/labelled/%2E%2E.csv"


@pytest.mark.parametrize(("key", "words"), [("x" * 300, "too long"), ("a\0b", "NUL")])
def test_a_key_that_is_no_file_name_is_refused(key: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        path_of(key)
    with pytest.raises(ConfigurationError, match="URL"):
        path_of("s3:", "{partition_key}//bucket/x.csv")


def test_each_dimension_has_its_place(run: Run, sandbox: Sandbox, tmp_path: Path) -> None:
    both = dg.MultiPartitionsDefinition({
        "day": dg.StaticPartitionsDefinition(["1", "11"]), "region": dg.StaticPartitionsDefinition(["1", "11", "../x"]),
    })  # fmt: skip

    def asset(output: str) -> dg.AssetsDefinition:
        @classify_asset(text="body", categories=TEAMS, partitions_def=both, output=tmp_path / output, retry_policy=None)
        def labelled() -> Any:
            return ROWS

        return labelled

    for region in ("1", "../x"):
        key = dg.MultiPartitionKey({"day": "11", "region": region})
        assert run(asset("{day}/{region}.csv"), partition_key=key).success
    assert {str(each.relative_to(tmp_path)) for each in tmp_path.rglob("*.csv")} == {"11/1.csv", "11/%2E%2E%2Fx.csv"}
    with pytest.raises(ConfigurationError, match=r"\{day\} and \{region\}"):
        asset("{day}.csv")
    paid = sandbox.bill().charged
    assert not run(asset("{day}{region}.csv"), partition_key=dg.MultiPartitionKey({"day": "1", "region": "11"})).success
    assert sandbox.bill().charged == paid


@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.PreviewWarning")
def test_partitions_that_came_by_post_processing_are_checked_before_anything_is_paid(
    sandbox: Sandbox, dagster_home: Path, tmp_path: Path
) -> None:
    @classify_asset(text="body", categories=TEAMS, output=tmp_path / "all.csv")
    def labelled() -> Any:
        return ROWS

    days = dg.StaticPartitionsDefinition(["mon", "tue"])
    given = dg.Definitions(assets=[labelled], resources={"classifaily": ClassifailyResource()}).map_asset_specs(
        func=lambda spec: spec.replace_attributes(partitions_def=days)
    )
    (job,) = given.get_repository_def().get_all_jobs()
    with dg.DagsterInstance.get() as instance:
        result = job.execute_in_process(instance=instance, partition_key="mon", raise_on_error=False)
    (failed,) = (event for event in result.all_events if event.is_step_failure)
    assert "every partition would replace" in str(failed.step_failure_data.error)
    assert sandbox.bill().charged == 0
    assert not (tmp_path / "all.csv").exists()


def test_a_partitions_rows_and_its_check_are_its_own(run: Run, sandbox: Sandbox) -> None:
    days = dg.StaticPartitionsDefinition(["bad", "good"])

    @classify_asset(text="body", categories=TEAMS, partitions_def=days, retry_policy=None)
    def labelled(context: dg.AssetExecutionContext) -> Any:
        return ROWS[:1] if context.partition_key == "good" else ROWS[1:]

    @dg.asset(partitions_def=days)
    def other() -> None: ...

    @classify_asset(text="body", categories=TEAMS, retry_policy=None)
    def whole() -> Any:
        return ROWS

    sandbox.script(ROWS[1]["body"], error="no", times=None)
    try:
        checked = [run(labelled, partition_key=key) for key in ("bad", "good")]
    finally:
        sandbox.script(ROWS[1]["body"])
    (made,) = checked[0].asset_materializations_for_node("labelled")
    assert made.metadata["dagster/partition_row_count"].value == 1
    assert "dagster/row_count" not in made.metadata
    found = [(each.partition, each.passed) for one in checked for each in one.get_asset_check_evaluations()]
    assert found == [("bad", False), ("good", True)]

    span = {"dagster/asset_partition_range_start": "bad", "dagster/asset_partition_range_end": "good"}
    result = run(whole, tags=span)
    assert result.success, "an asset without partitions takes no note of the run's"
    (made,) = result.asset_materializations_for_node("whole")
    assert made.metadata["dagster/row_count"].value == 2


def test_the_data_version_is_that_of_the_content(run: Run, tmp_path: Path) -> None:
    rows = [dict(each) for each in ROWS]

    @classify_asset(text="body", categories=TEAMS, output=tmp_path / "out.csv", name="labelled")
    def filed() -> Any:
        return rows

    @classify_asset(text="body", categories=TEAMS, name="labelled")
    def kept() -> Any:
        return rows

    def version(asset: dg.AssetsDefinition) -> str:
        (made,) = run(asset).asset_materializations_for_node("labelled")
        return str((made.tags or {})["dagster/data_version"])

    for asset in (filed, kept):
        first, again = version(asset), version(asset)
        rows.append({"body": "How do I export?"})
        assert first == again != version(asset)
        rows.pop()
