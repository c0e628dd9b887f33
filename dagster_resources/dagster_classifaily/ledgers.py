"""Where a step's ledger is, and whether it will still be there for the next run.

The law of this file: a ledger that ends with the run is never taken in silence, because the rerun pays again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dagster import EnvVar
from dagster._config.field_utils import IntEnvVar

from classifaily_connectors.errors import ConfigurationError
from dagster_classifaily.steps import current_step

if TYPE_CHECKING:
    from dagster import DagsterInstance

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
class Launching:
    """What starts the runs of the Dagster that runs; empty where they are on its own machine."""

    launcher: str = ""

    @classmethod
    def of(cls, instance: DagsterInstance) -> Launching:
        """That of this instance."""
        launcher = "" if instance.is_ephemeral else type(instance.run_launcher).__name__
        return cls(launcher if launcher not in _LOCAL_LAUNCHERS else "")

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
