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
from dagster_classifaily.ops import build_classify_op
from dagster_classifaily.resource import ClassifailyResource

__all__ = ["ClassifailyResource", "__version__", "build_classify_op"]

DagsterLibraryRegistry.register("dagster-classifaily", __version__, is_dagster_package=False)
