"""Where a step's ledger is, and whether it will still be there for the next run.

The law of this file: a ledger that ends with the run is never taken in silence, because the rerun pays again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import EnvVar
from dagster._config.field_utils import IntEnvVar

from classifaily_connectors.errors import ConfigurationError
from classifaily_connectors.settings import store_url
from dagster_classifaily.steps import current_step

if TYPE_CHECKING:
    from dagster import DagsterInstance

_TEMPORARY_HOME = ".tmp_dagster_home_"
"""How the folder begins that `dagster` and `dg` make and remove where DAGSTER_HOME is not set."""
_CURE = "Set CLASSIFAILY_STORE_URL (or store_url) to a database that lasts, such as postgresql+psycopg://…"
_LOCAL_LAUNCHERS = ("DefaultRunLauncher", "SyncInMemoryRunLauncher")
_LOCAL_EXECUTORS = ("in_process", "multiprocess", "multi_or_in_process_executor", "execute_in_process_executor")


def setting_of(value: Any) -> Any:
    """A field's value, also where it is an EnvVar and no Dagster runs that would have read it.

    Raises ConfigurationError for a variable that is not set.
    """
    if not isinstance(value, EnvVar | IntEnvVar):
        return value
    found = value.get_value()
    if found is None or found == "":
        name = value.env_var_name if isinstance(value, EnvVar) else value.name
        raise ConfigurationError(f"the environment variable {name} is not set")
    return found


@dataclass(frozen=True)
class Storage:
    """What is known of the Dagster that runs: its `folder`, whether that is `temporary`, and what starts its runs."""

    folder: str | None = None
    temporary: bool = True
    launcher: str = ""

    @classmethod
    def of(cls, instance: DagsterInstance) -> Storage:
        """The storage of this instance."""
        folder = instance.storage_directory()
        temporary = instance.is_ephemeral or any(each.startswith(_TEMPORARY_HOME) for each in Path(folder).parts)
        launcher = "" if instance.is_ephemeral else type(instance.run_launcher).__name__
        return cls(folder, temporary, launcher if launcher not in _LOCAL_LAUNCHERS else "")

    def ledger(self, given: str | None) -> str:
        """The URL of the ledger: `given`, CLASSIFAILY_STORE_URL, a file in a Dagster storage that lasts, or the one
        of the machine's user, which the command line has too."""
        if self.folder is not None and not self.temporary:
            return store_url(given, self.folder)
        return given or os.environ.get("CLASSIFAILY_STORE_URL") or _of_the_user()

    def doubt(self, ledger: str) -> str | None:
        """Why the next run may not find this ledger, and so pays again; None when it will."""
        from classifaily_connectors.store.lifetime import ends_with_run

        if not ledger.startswith("sqlite"):
            return None
        if ends := ends_with_run(ledger):
            return f"the ledger may be gone before the next run, which then pays again ({ends}). {_CURE}"
        elsewhere = self.launcher or _remote_executor()
        if elsewhere:
            return f"{elsewhere} may give each run a disk of its own, the ledger with it: a rerun pays again. {_CURE}"
        return None


def _remote_executor() -> str:
    """The name of this step's executor, when it is none of those that run on this machine."""
    step = current_step()
    if step is None:
        return ""
    executor = step.job_def.executor_def
    return "" if executor.name in _LOCAL_EXECUTORS else f"the executor {executor.name}"


def _of_the_user() -> str:
    folder = Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state") / "classifaily"
    return f"sqlite:///{folder.expanduser().absolute() / 'ledger.db'}"
