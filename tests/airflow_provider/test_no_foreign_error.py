"""Whatever is broken, an operator or sensor fails with an error of ours or of Airflow's, without a secret."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowException, TaskDeferred
from airflow_kit import CONNECTION, KEY

from airflow_provider_classifaily import operators, sensors
from classifaily_connectors import ClassifailyError

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

SECRET = "hunter2-and-more"
CATEGORIES = ["billing", "technical"]
EXAMPLES: dict[str, Callable[[dict[str, str]], dict[str, Any]]] = {
    "ClassifailyClassifyOperator": lambda _: {"input": "I was charged twice", "categories": CATEGORIES},
    "ClassifailyBatchOperator": lambda _: {"items": ["I was charged twice"], "categories": CATEGORIES},
    "ClassifailySubmitOperator": lambda at: {"input": "charged", "categories": CATEGORIES, "ledger": at["store"]},
    "ClassifailySchemaOperator": lambda _: {"name": "teams", "categories": CATEGORIES},
    "ClassifailyTableOperator": lambda at: {
        "source": at["table"], "target": at["target"], "text": "body", "categories": CATEGORIES, "ledger": at["store"],
    },
    "ClassifailyJobSensor": lambda _: {"job_id": "84", "timeout": 1, "poke_interval": 1, "deferrable": False},
    "ClassifailyWebhookSensor": lambda _: {"job_id": "84", "timeout": 1, "poke_interval": 1, "deferrable": False},
}  # fmt: skip
STORES = (
    f"postgresql+psycopg://me:{SECRET}@127.0.0.1:9/none",
    f"postgresql://127.0.0.1:9/none?user=me&password={SECRET}",
    f"mysql://me:{SECRET}@127.0.0.1/none",
    "sqlite:////proc/store.db",
)


def test_every_operator_and_sensor_has_an_example() -> None:
    public = {name for module in (operators, sensors) for name in dir(module) if name.startswith("Classifaily")}
    assert public - {"ClassifailyHook"} == EXAMPLES.keys()


def tried(name: str, at: dict[str, str]) -> BaseException | None:
    """What the task ended with, in the way that Airflow calls it."""
    kind = getattr(operators, name, None) or getattr(sensors, name)
    try:
        kind(task_id="task", **EXAMPLES[name](at)).execute({})
    except (ClassifailyError, AirflowException, TaskDeferred) as caught:
        error = caught
    else:
        return None
    shown = "".join(traceback.format_exception(error))
    assert SECRET not in shown
    assert KEY not in shown
    return error


@pytest.fixture
def sound(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "in.csv").write_text("body\nI was charged twice\n")
    place = {"table": str(tmp_path / "in.csv"), "target": str(tmp_path / "out.csv")}
    return {**place, "store": f"sqlite:///{tmp_path}/store.db"}


def test_no_api_at_the_address(sound: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    refused = {"conn_type": "classifaily", "password": KEY, "host": "http://127.0.0.1:9/v1"}
    monkeypatch.setenv(CONNECTION, json.dumps(refused))
    for name in EXAMPLES:
        assert tried(name, sound) is not None, name


@pytest.mark.parametrize("store", STORES)
def test_a_broken_store(store: str, sound: dict[str, str], connected: Sandbox) -> None:
    for name in ("ClassifailySubmitOperator", "ClassifailyTableOperator"):
        assert tried(name, {**sound, "store": store}) is not None, name
    assert connected.bill().charged == 0


@pytest.mark.parametrize("what", ["table", "target"])
@pytest.mark.parametrize("path", ["/proc/none/x.csv", "x" * 300 + ".csv", f"gopher://me:{SECRET}@host/x.csv", "x.docx"])
def test_a_table_that_is_not_there(what: str, path: str, sound: dict[str, str], connected: Sandbox) -> None:
    assert tried("ClassifailyTableOperator", {**sound, what: path}) is not None
    assert connected.bill().charged == 0
