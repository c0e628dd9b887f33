"""`ClassifyComponent`: the YAML, the scaffold, and a real `dg` that runs it."""

import inspect
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest
import yaml
from pydantic import ValidationError

from classifaily_connectors import Budget, ConfidencePolicy, classify_table
from classifaily_connectors.sandbox import Sandbox
from dagster_classifaily import ClassifailyResource, ClassifyComponent

MINIMAL: dict[str, Any] = {"upstream": "raw/tickets", "text": "body", "asset": {"key": "labelled/tickets"}}
DG = Path(sys.executable).with_name("dg")


def component(**attributes: Any) -> ClassifyComponent:
    loaded = ClassifyComponent.from_attributes_dict(attributes={**MINIMAL, **attributes})
    assert isinstance(loaded, ClassifyComponent)
    return loaded


def test_words_are_taken_as_they_are_written() -> None:
    loaded = component(
        text=None,
        template="{2024}: {body}",
        id_column="2024",
        categories=["2024", "1e3", "true", "['x']", {"name": "{{ 1 + 1 }}", "examples": ["say {{ hello }}"]}],
    )
    assert loaded.template == "{2024}: {body}"
    assert loaded.id_column == "2024"
    assert loaded.categories == [
        "2024", "1e3", "true", "['x']", {"name": "{{ 1 + 1 }}", "examples": ["say {{ hello }}"]},
    ]  # fmt: skip


def test_every_option_of_a_table_is_reachable(sandbox: Sandbox) -> None:
    asked = {
        "budget": {"max_requests": 5, "on_exceeded": "partial"},
        "policy": {"act": 0.9, "per_label": {"billing": 0.7}},
        "ledger": "sqlite:///elsewhere.db",
        "refresh": "failed",
        "on_unknown": "resend",
        "schema_id": 17,
    }
    loaded = component(**asked)
    assert isinstance(loaded.budget, Budget)
    assert isinstance(loaded.policy, ConfidencePolicy)
    assert (loaded.budget.max_requests, loaded.policy.act) == (5, 0.9)
    spec = loaded.build_asset(Path()).get_asset_spec(dg.AssetKey(["labelled", "tickets"]))
    assert spec.kinds == {"classifaily"}


def test_the_yaml_takes_what_the_core_takes() -> None:
    """With the core's defaults; `schema_id` is what YAML calls `schema`, and Dagster shows the progress."""
    core = {name: each.default for name, each in inspect.signature(classify_table).parameters.items()}
    ours = {name: each.default for name, each in ClassifyComponent.model_fields.items()}
    assert {name for name in core if name not in ours} == {"client", "schema", "progress"}
    shared = core.keys() & ours.keys() - {"source"}
    assert {name: ours[name] for name in shared} == {name: core[name] for name in shared}


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"source": "a.csv"}, "one of them"),
        ({"upstream": None}, "one of them"),
        ({"upstream": None, "source": "a.csv"}, "output is missing"),
        ({"budget": {"max": 5}}, "budget.*max"),
        ({"policy": {"review": 0.99}}, "above act"),
        ({"categories": [{"nmae": "a"}]}, "nmae"),
        ({"catgories": ["a"]}, "catgories"),
    ],
)
def test_what_is_wrong_is_refused_by_name(attributes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        component(**attributes)


def test_a_frame_of_another_asset_is_labelled(sandbox: Sandbox, dagster_home: Path) -> None:
    @dg.asset(key=["raw", "tickets"])
    def raw() -> Any:
        return pa.table({"body": ["I was charged twice.", "The API answers 500."]})

    labelled = component(categories=["billing", "technical"]).build_asset(Path())
    with dg.DagsterInstance.get() as instance:
        resources = {"classifaily": ClassifailyResource()}
        result = dg.materialize([raw, labelled], instance=instance, resources=resources)
    (event,) = result.asset_materializations_for_node("labelled__tickets")
    assert event.metadata["classifaily/billed"] == dg.IntMetadataValue(2)
    lineage: Any = event.metadata["dagster/column_lineage"].value
    assert lineage.deps_by_column["label"] == [dg.TableColumnDep(dg.AssetKey(["raw", "tickets"]), "body")]
    assert result.output_for_node("labelled__tickets")["label"].to_pylist() == ["billing", "technical"]


PROJECT = {
    "pyproject.toml": """
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "shop"
[tool.dg.cli.telemetry]
enabled = false
""",
    "shop/__init__.py": "",
    "shop/defs/__init__.py": "",
    "shop/definitions.py": """
from pathlib import Path
import dagster as dg

@dg.definitions
def defs():
    return dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
""",
    "shop/defs/resources.py": """
import dagster as dg
from dagster_classifaily import ClassifailyResource

@dg.definitions
def resources():
    return dg.Definitions(resources={"classifaily": ClassifailyResource()})
""",
}


@pytest.fixture
def run_dg(sandbox: Sandbox, dagster_home: Path, tmp_path: Path) -> Callable[..., str]:
    project = tmp_path / "project"
    for name, text in PROJECT.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)

    def run(*command: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(project)}
        done = subprocess.run(
            [DG, *command], cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    return run


def test_dg_scaffolds_checks_and_launches_it(run_dg: Callable[..., str], sandbox: Sandbox, tmp_path: Path) -> None:
    """Paths are those of the folder in which the command was typed, and nothing is invented."""
    project = tmp_path / "project"
    (project / "data").mkdir()
    (project / "data" / "tickets.csv").write_text("message\nI was charged twice.\nThe API answers 500.\n")
    told = ["--source", "data/tickets.csv", "--text", "message", "--categories", "billing, technical"]
    run_dg("scaffold", "defs", "dagster_classifaily.ClassifyComponent", "tickets", *told)
    scaffolded = yaml.safe_load((project / "shop" / "defs" / "tickets" / "defs.yaml").read_text())
    assert scaffolded["attributes"] == {
        "source": "{{ project_root }}/data/tickets.csv",
        "text": "message",
        "output": "{{ project_root }}/data/labelled_tickets.csv",
        "categories": ["billing", "technical"],
        "asset": {"key": "labelled_tickets"},
    }
    assert "validated successfully" in run_dg("check", "yaml")
    run_dg("launch", "--assets", "labelled_tickets")
    labelled = (project / "data" / "labelled_tickets.csv").read_text().splitlines()
    assert labelled[0].startswith("message,label,confidence,")
    assert labelled[1].startswith("I was charged twice.,billing,")
    assert sandbox.bill().charged == 2


@pytest.mark.filterwarnings("ignore::dagster_shared.utils.warnings.BetaWarning")
def test_what_the_op_is_told_is_in_the_yaml(sandbox: Sandbox) -> None:
    loaded = component(
        asset={"key": "labelled/tickets", "partitions_def": {"type": "daily", "start_date": "2026-11-01"}},
        op={"tags": {"dagster/priority": "3"}, "pool": "classifaily", "backfill_policy": {"type": "multi_run"}},
        retry_policy={"max_retries": 5, "delay": 2.5, "backoff": "EXPONENTIAL"},
        io_manager_key="warehouse",
        axes={"team": ["billing", "no"], "mood": [{"name": "{{ angry }}"}]},
        translation={"group_name": "support", "key": "translated/{{ spec.key.path[-1] }}"},
    )
    assert loaded.axes == {"team": ["billing", "no"], "mood": [{"name": "{{ angry }}"}]}
    made = loaded.build_asset(Path())
    (spec,) = made.specs
    assert (spec.key.to_user_string(), spec.group_name) == ("translated/tickets", "support")
    assert made.op.tags["dagster/priority"] == "3"
    assert made.op.pool == "classifaily"
    assert made.op.retry_policy == dg.RetryPolicy(max_retries=5, delay=2.5, backoff=dg.Backoff.EXPONENTIAL)
    assert made.get_io_manager_key_for_asset_key(spec.key) == "warehouse"
    assert component(retry_policy={"max_retries": 0}).build_asset(Path()).op.retry_policy is None


def test_no_password_of_a_ledger_is_shown() -> None:
    loaded = component(ledger="postgresql://user:hunter2@db/ledger")
    assert "hunter2" not in repr(loaded)
    with pytest.raises(ValidationError) as refused:
        ClassifyComponent(ledger="postgresql://user:hunter2@db/x", asset=dg.AssetSpec("x"))
    assert "hunter2" not in str(refused.value)
