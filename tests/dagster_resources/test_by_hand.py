"""What people do beside a run: calls in tests, wrapped results, settings outside Dagster, spending shown."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from classifaily_connectors import ConfigurationError
from classifaily_connectors.sandbox import Sandbox
from dagster_classifaily import ClassifailyResource, Table, classify_asset
from dagster_classifaily.ledgers import Launching

TEAMS = ["billing", "technical"]
ROWS = [{"body": "I was charged twice."}]

Materialize = Callable[..., dg.ExecuteInProcessResult]


@classify_asset(text="body", categories=TEAMS)
def labelled(tickets: Any) -> Any:
    return tickets


@classify_asset(text="body", categories=TEAMS)
async def labelled_async(tickets: Any) -> Any:
    return tickets


async def test_an_asset_may_be_called_in_a_test(sandbox: Sandbox, tmp_path: Path) -> None:
    resource = ClassifailyResource(store_url=f"sqlite:///{tmp_path}/test.db")
    assert labelled(ROWS, classifaily=resource).value[0]["label"] == "billing"
    assert (await labelled_async(ROWS, classifaily=resource)).value[0]["label"] == "billing"
    with dg.build_asset_context(resources={"classifaily": resource}) as context:
        assert labelled(context, ROWS).value[0]["label"] == "billing"
    assert sandbox.bill().charged == 1


@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning")
def test_what_an_asset_may_return_this_one_may_too(materialize: Materialize, sandbox: Sandbox) -> None:
    own = dg.AssetCheckSpec("enough", asset="a_result")

    @classify_asset(text="body", categories=TEAMS)
    def an_output() -> Any:
        return dg.Output(Table(ROWS), metadata={"files": 1}, data_version=dg.DataVersion("mine"))

    @classify_asset(text="body", categories=TEAMS, check_specs=[own])
    def a_result() -> Any:
        results = [dg.AssetCheckResult(check_name="enough", passed=True)]
        return dg.MaterializeResult(value=ROWS, metadata={"files": 1}, check_results=results)

    @classify_asset(text="body", categories=TEAMS, check_specs=[dg.AssetCheckSpec("enough", asset="events")])
    def events() -> Any:
        yield dg.AssetCheckResult(check_name="enough", passed=True)
        yield dg.Output(ROWS, metadata={"files": 1})

    @classify_asset(text="body", categories=TEAMS)
    def rows() -> Any:
        yield from ROWS

    for made in (an_output, a_result, events, rows):
        result = materialize(made)
        assert result.success, made
        (event,) = result.asset_materializations_for_node(made.op.name)
        assert result.output_for_node(made.op.name)[0]["label"] == "billing"
        if made is not rows:
            assert event.metadata["files"].value == 1
    assert sandbox.bill().charged == 1


@pytest.mark.parametrize("given", [dg.MaterializeResult(metadata={"files": 1}), None], ids=["no value", "two"])
def test_a_wrapping_without_a_table_is_refused_by_name(
    materialize: Materialize, failure: Callable[..., Any], given: Any
) -> None:
    @classify_asset(text="body", categories=TEAMS)
    def wrong() -> Any:
        if given is not None:
            return given
        return (dg.Output(each) for each in (ROWS, ROWS))

    told = failure(materialize(wrong)).error
    assert "MaterializeResult(value=" in told.message if given is not None else "2 tables" in told.message


def test_an_annotation_that_is_not_there_is_named() -> None:
    def table(context: "dg.AssetExecutionContext", tickets: "pd.DataFrame") -> "pd.DataFrame": ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(ConfigurationError, match=r"annotates 'tickets' with pd.DataFrame"):
        classify_asset(text="body", categories=TEAMS)(table)


def test_variables_are_read_outside_dagster_too(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THEIR_URL", sandbox.base_url)
    monkeypatch.setenv("THEIR_STORE", "sqlite:////srv/ledger.db")
    monkeypatch.delenv("CLASSIFAILY_BASE_URL")
    resource = ClassifailyResource(base_url=dg.EnvVar("THEIR_URL"), store_url=dg.EnvVar("THEIR_STORE"))
    assert resource.client.base_url == sandbox.base_url
    assert resource.store == "sqlite:////srv/ledger.db"
    with pytest.raises(ConfigurationError, match="NOT_THERE is not set"):
        _ = ClassifailyResource(store_url=dg.EnvVar("NOT_THERE")).store


def test_what_a_step_spends_can_be_shown(materialize: Materialize, sandbox: Sandbox) -> None:
    @dg.asset
    def spending(context: dg.AssetExecutionContext, classifaily: ClassifailyResource) -> None:
        with classifaily.with_usage_metadata(context):
            classifaily.classify("I was charged twice.", categories=TEAMS)
            classifaily.batch(["a refund", "an error"], categories=TEAMS)
            for _ in "12":
                classifaily.submit_once("The API answers 500.", categories=TEAMS)
        classifaily.classify("not counted", categories=TEAMS)

    (event,) = materialize(spending).asset_materializations_for_node("spending")
    told = {name: value.value for name, value in event.metadata.items()}
    assert told == {"classifaily/calls": 3, "classifaily/requests": 4, "classifaily/reused": 0}
    assert sandbox.bill().charged == 5


class Broken(dg.IOManager):
    """A storage that takes nothing, after all was paid."""

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        raise OSError("no space left")

    def load_input(self, context: dg.InputContext) -> Any: ...


@pytest.mark.parametrize("anew", [{"refresh": True}, {"on_unknown": "resend"}], ids=str)
def test_what_pays_anew_is_not_repeated_whoever_asked_for_the_retry(sandbox: Sandbox, anew: dict[str, Any]) -> None:
    @classify_asset(text="body", categories=TEAMS, retry_policy=dg.RetryPolicy(max_retries=2), io_manager_key="broken")
    def late() -> Any:
        return Table(ROWS, **anew)

    resources = {"classifaily": ClassifailyResource(), "broken": Broken()}
    assert not dg.materialize([late], resources=resources, raise_on_error=False).success
    assert sandbox.bill().charged == 1


def test_a_run_that_dagster_starts_again_does_not_pay_anew(sandbox: Sandbox) -> None:
    @classify_asset(text="body", categories=TEAMS, ledger=False)
    def unkept() -> Any:
        return ROWS

    tags = {"dagster/retry_number": "1"}
    resources = {"classifaily": ClassifailyResource()}
    assert not dg.materialize([unkept], resources=resources, tags=tags, raise_on_error=False).success
    assert sandbox.bill().charged == 0


def test_a_ledger_that_ends_with_the_run_is_doubted() -> None:
    here, gone = "sqlite:////srv/ledger.db", "sqlite:////tmp/ledger.db"
    assert Launching().doubt(here) is None
    assert "K8sRunLauncher" in str(Launching(launcher="K8sRunLauncher").doubt(here))
    assert "temporary" in str(Launching().doubt(gone))
    assert Launching(launcher="K8sRunLauncher").doubt("postgresql+psycopg://db/ledger") is None
