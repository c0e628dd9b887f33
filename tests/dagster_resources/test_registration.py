"""The package as Dagster finds it."""

import json
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

from dagster_shared.libraries import DagsterLibraryRegistry

import dagster_classifaily

PROGRAM = """
import json, sys
import dagster
before = set(sys.modules)
import dagster_classifaily
print(json.dumps(sorted(set(sys.modules) - before)))
"""


def test_it_is_registered_as_a_library_and_for_dg() -> None:
    assert DagsterLibraryRegistry.get()["dagster-classifaily"] == dagster_classifaily.__version__
    (entry,) = entry_points(group="dagster_dg_cli.registry_modules", name="dagster_classifaily")
    assert entry.load() is dagster_classifaily


def test_dg_lists_it() -> None:
    listed = subprocess.run(
        [Path(sys.executable).with_name("dg"), "list", "registry-modules", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "dagster_classifaily" in listed.stdout, listed.stderr


def test_importing_it_adds_a_handful_of_modules_to_dagsters_and_no_http() -> None:
    """`dg` imports it in every project; an import that fails would break `dg` for all of them."""
    run = subprocess.run([sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    added = json.loads(run.stdout)
    packages = {name.partition(".")[0] for name in added} - sys.stdlib_module_names
    assert packages <= {"classifaily_connectors", "dagster_classifaily", "pydantic"}  # Dagster's own, one module more
    assert len(added) < 45
    assert "classifaily_connectors.transport" not in added


def test_all_is_what_it_says() -> None:
    assert sorted(dagster_classifaily.__all__) == [
        "ClassifailyResource",
        "ClassifyComponent",
        "FinishedJob",
        "JOBS",
        "Table",
        "__version__",
        "build_classify_op",
        "build_webhook_sensor",
        "classify_asset",
    ]
    assert all(hasattr(dagster_classifaily, name) for name in dagster_classifaily.__all__)
