"""The key stays out of everything Dagster writes or shows, counted in the files of a real DAGSTER_HOME."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import ValidationError

from classifaily_connectors.sandbox import Sandbox
from dagster_classifaily import ClassifailyResource

DEFINITIONS = """
import dagster as dg
from dagster_classifaily import ClassifailyResource

TEXT = " ".join(["a", "most", "private", "refund"])  # or the traceback's source lines would hold it

@dg.asset
def works(context: dg.AssetExecutionContext, classifaily: ClassifailyResource) -> str | None:
    context.log.info("%r %s", classifaily, classifaily.client)
    print(classifaily, classifaily.client_settings())
    return classifaily.classify(TEXT, categories=["billing", "technical"]).label

@dg.asset
def fails(classifaily: ClassifailyResource) -> None:
    try:
        classifaily.classify(TEXT, categories=["billing"], type="hologram")
    finally:
        raise ValueError(f"{classifaily!r} {classifaily} {vars(classifaily.client)}")

@dg.asset
def refused(classifaily: ClassifailyResource) -> None:
    classifaily.classify(TEXT, schema=404404)

@dg.asset
def tabled(classifaily: ClassifailyResource) -> None:
    print(classifaily)
    classifaily.classify_table([{"body": TEXT}], text="body", categories=["billing", "technical"])

defs = dg.Definitions(
    assets=[works, fails, refused, tabled],
    resources={"classifaily": ClassifailyResource(KEY)},
    executor=dg.in_process_executor,
)
"""


@pytest.fixture
def definitions(tmp_path: Path) -> Callable[[str], str]:
    def write(arguments: str) -> str:
        file = tmp_path / "definitions.py"
        file.write_text(DEFINITIONS.replace("KEY", arguments))
        return str(file)

    return write


def test_neither_key_nor_input_nor_the_stores_password_is_written_down(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    definitions: Callable[[str], str],
    run_dagster: Callable[..., subprocess.CompletedProcess[str]],
    places_of: Callable[[str, Path], list[str]],
    dagster_home: Path,
) -> None:
    password = "pa55-of-the-store"
    monkeypatch.setenv("STORE", f"postgresql+psycopg://dagster:{password}@127.0.0.1:9/ledger")
    file = definitions('store_url=dg.EnvVar("STORE"), webhook_store=dg.EnvVar("STORE")')
    run = run_dagster("asset", "materialize", "-f", file, "--select", "*")
    printed = run.stdout + run.stderr
    assert run.returncode != 0
    assert sandbox.bill().charged == 1
    for told in (
        "RUN_FAILURE",
        "InvalidRequestError",
        "SchemaNotFoundError",
        "ValueError: ClassifailyResource(",
        '"tabled" failed',
    ):
        assert told in printed
    for secret in (sandbox.key, "a most private refund", password):
        assert secret not in printed
        assert places_of(secret, dagster_home) == []
    assert places_of("SchemaNotFoundError", dagster_home), "the search must be able to find something"


def test_a_literal_key_is_written_down_and_warned_of(
    sandbox: Sandbox,
    definitions: Callable[[str], str],
    run_dagster: Callable[..., subprocess.CompletedProcess[str]],
    places_of: Callable[[str, Path], list[str]],
    dagster_home: Path,
) -> None:
    """The reason for the warning; also proves that the search of the test above unpacks snapshots."""
    file = definitions(f"api_key={sandbox.key!r}")
    run = run_dagster("asset", "materialize", "-f", file, "--select", "works")
    assert run.returncode == 0, run.stderr
    assert 'pass EnvVar("CLASSIFAILY_KEY")' in run.stderr
    assert any("runs.db" in place for place in places_of(sandbox.key, dagster_home))


def test_the_ui_masks_even_a_literal_key(
    sandbox: Sandbox, definitions: Callable[[str], str], dagster_home: Path
) -> None:
    query = """{ allTopLevelResourceDetailsOrError(repositorySelector: {
        repositoryLocationName: "definitions.py", repositoryName: "__repository__" }) {
        ... on ResourceDetailsList { results { configuredValues { key value type }
        configFields { name defaultValueAsJson } } } ... on PythonError { message } } }"""
    command = [Path(sys.executable).with_name("dagster-graphql"), "-f", definitions(f"api_key={sandbox.key!r}")]
    run = subprocess.run([*command, "-t", query], capture_output=True, text=True, check=False, timeout=120)
    assert "******" in run.stdout, run.stderr
    assert sandbox.key not in run.stdout


def test_only_a_literal_key_warns(sandbox: Sandbox) -> None:
    with pytest.warns(UserWarning, match="api_key is a literal"):
        ClassifailyResource(api_key=sandbox.key).get_resource_definition()
    for resource in (ClassifailyResource(), ClassifailyResource(api_key=dg.EnvVar("OTHER"))):
        resource.get_resource_definition()  # a warning is an error


def test_nothing_that_prints_a_resource_shows_the_key(sandbox: Sandbox) -> None:
    with ClassifailyResource().process_config_and_initialize_cm() as resource:
        assert resource.usage().plan == "pro"
        for shown in (repr(resource), str(resource), repr(resource.client), repr(resource.client_settings())):
            assert sandbox.key not in shown


@pytest.mark.parametrize("field", ["api_kye", "timeout", "max_connections"])
def test_a_key_in_the_wrong_field_is_not_shown_back(sandbox: Sandbox, field: str) -> None:
    arguments: dict[str, Any] = {field: sandbox.key}
    with pytest.raises(ValidationError) as refused:
        ClassifailyResource(**arguments)
    assert field in str(refused.value)
    assert "cai_live" not in str(refused.value)
