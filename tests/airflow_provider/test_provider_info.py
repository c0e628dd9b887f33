"""What Airflow learns of this provider, asked of Airflow itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import airflow
import jsonschema
import pytest

import airflow_provider_classifaily
from airflow_provider_classifaily.get_provider_info import get_provider_info

PACKAGE = Path(airflow_provider_classifaily.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)


def test_the_runtime_schema_accepts_it() -> None:
    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_the_provider_yaml_schema_accepts_the_connection_form() -> None:
    """The runtime schema tolerates any key; the form's own fields are defined in provider.yaml.schema.json."""
    schema = json.loads((Path(airflow.__file__).parent / "provider.yaml.schema.json").read_text())
    jsonschema.validate(get_provider_info()["connection-types"], schema["properties"]["connection-types"])


def test_airflow_discovers_it() -> None:
    """A package-name that is not the distribution's would stop the discovery of every provider."""
    from airflow.providers_manager import ProvidersManager

    (found,) = (each for each in entry_points(group="apache_airflow_provider") if each.module in MODULES)
    assert found.dist
    assert found.load()()["package-name"] == found.dist.name == "classifaily-connectors"
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        manager = ProvidersManager()
        hook = manager.hooks["classifaily"]
        fields = {name for name in manager.connection_form_widgets if name.startswith("extra__classifaily__")}
        behaviour = manager.field_behaviours["classifaily"]
    assert hook
    assert hook.hook_class_name == "airflow_provider_classifaily.hooks.ClassifailyHook"
    assert hook.connection_id_attribute_name == "classifaily_conn_id"
    assert hook.connection_testable
    extras = ("timeout", "max_connections", "store_url", "receiver_url", "webhook_secret")
    assert fields == {f"extra__classifaily__{name}" for name in extras}
    assert set(behaviour["hidden_fields"]) == {"login", "port", "schema"}
    assert not [each for each in warned if "classifaily" in str(each.message).lower()]


def test_every_module_it_names_exists() -> None:
    info: dict[str, Any] = get_provider_info()
    kinds = ("hooks", "operators", "sensors", "triggers")
    named = {module for kind in kinds for entry in info[kind] for module in entry["python-modules"]}
    named |= {entry["hook-class-name"].rpartition(".")[0] for entry in info["connection-types"]}
    named |= {entry["plugin-class"].rpartition(".")[0] for entry in info["plugins"]}
    assert named <= set(MODULES)


def test_the_plugin_is_found_and_public_only_with_a_secret() -> None:
    (found,) = (each for each in entry_points(group="airflow.plugins") if each.module in MODULES)
    (named,) = get_provider_info()["plugins"]
    assert f"{found.module}.{found.attr}" == named["plugin-class"]
    show = "from airflow_provider_classifaily.plugins import ClassifailyPlugin as P; print(len(P.fastapi_apps))"
    for more, mounted in (({}, "0"), ({"CLASSIFAILY_WEBHOOK_SECRET_STAGING": "whsec-0123456789"}, "1")):
        done = subprocess.run(
            [sys.executable, "-c", show], env={**os.environ, **more}, capture_output=True, text=True, check=True
        )
        assert done.stdout.split()[-1] == mounted


def loaded_by(imports: str) -> set[str]:
    code = f"import sys\n{imports}\nprint('\\n'.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    return set(done.stdout.split())


def test_importing_every_module_loads_nothing_of_the_core() -> None:
    """A DAG file is parsed again and again, and modules outside `airflow.*` are imported each time."""
    loaded = loaded_by("\n".join(f"import {module}" for module in MODULES))
    assert set(MODULES) <= loaded
    assert not [name for name in loaded if name.partition(".")[0] == "classifaily_connectors"]


def test_the_operators_cost_a_dag_file_nothing_but_themselves() -> None:
    bare = loaded_by("from airflow.sdk import DAG, BaseHook, BaseOperator, task")
    ours = loaded_by(
        "from airflow.sdk import DAG, BaseHook, BaseOperator, task\nimport airflow_provider_classifaily.operators"
    )
    assert {name.partition(".")[0] for name in ours - bare} == {"airflow_provider_classifaily"}


def test_the_metadata_needs_only_the_standard_library() -> None:
    loaded = loaded_by("import airflow_provider_classifaily.get_provider_info")
    assert not loaded & {"airflow", "pydantic", "httpx", "wtforms"}


@pytest.mark.parametrize(
    ("secret", "apps", "status"),
    [("", 0, None), ("  ", 0, None), ("/run/secrets/webhook", 1, 503), ("whsec-of-the-tests", 1, 401)],
)
def test_a_secret_that_is_empty_or_wrong_breaks_no_api_server(
    secret: str, apps: int, status: int | None, tmp_path: Path
) -> None:
    """An empty variable is none: the path is absent. A wrong one is a line in the log, and no traceback."""
    program = """
import asyncio
from airflow_provider_classifaily.plugins import ClassifailyPlugin, receive

async def ask():
    sent = []
    async def arrive():
        return {"type": "http.request", "body": b"{}", "more_body": False}
    async def send(message):
        sent.append(message)
    scope = {"type": "http", "method": "POST", "path": "/classifaily/webhooks", "headers": [], "query_string": b""}
    await receive(scope, arrive, send)
    return sent[0]["status"]

print(len(ClassifailyPlugin.fastapi_apps), asyncio.run(ask()) if ClassifailyPlugin.fastapi_apps else None)
"""
    env = {**os.environ, "CLASSIFAILY_WEBHOOK_SECRET": secret, "CLASSIFAILY_STORE_URL": f"sqlite:///{tmp_path}/s.db"}
    ended = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split()[-2:] == [str(apps), str(status)]
    assert "Traceback" not in ended.stderr
