"""ClassifAIly for Dagster.

The law of this file: `dg` imports it for every project that has the package installed, so it needs dagster and the
core only, and loads no HTTP library; see `resource` for where that happens.
"""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("dagster") is None:
    raise ImportError(
        "dagster_classifaily needs dagster: pip install 'classifaily-connectors[dagster]'", name="dagster"
    )

from dagster_shared.libraries import DagsterLibraryRegistry

from classifaily_connectors import __version__
from dagster_classifaily.assets import classify_asset
from dagster_classifaily.component import ClassifyComponent
from dagster_classifaily.ops import build_classify_op
from dagster_classifaily.resource import ClassifailyResource
from dagster_classifaily.returned import Table
from dagster_classifaily.sensors import JOBS, FinishedJob, build_webhook_sensor

__all__ = [
    "JOBS",
    "ClassifailyResource",
    "ClassifyComponent",
    "FinishedJob",
    "Table",
    "__version__",
    "build_classify_op",
    "build_webhook_sensor",
    "classify_asset",
]

DagsterLibraryRegistry.register("dagster-classifaily", __version__, is_dagster_package=False)
