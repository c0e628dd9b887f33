"""Whatever is broken, a task raises an error of ours, which shows no secret."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import prefect
import pytest

import prefect_classifaily
from classifaily_connectors import ClassifailyError
from prefect_classifaily import ClassifailyCredentials

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

SECRET = "hunter2-and-more"
CATEGORIES = ["billing", "technical"]
Example = Callable[[dict[str, str]], tuple[tuple[Any, ...], dict[str, Any]]]
EXAMPLES: dict[str, Example] = {
    "classify": lambda _: (("I was charged twice",), {"categories": CATEGORIES}),
    "classify_batch": lambda _: ((["I was charged twice"],), {"categories": CATEGORIES}),
    "classify_table": lambda at: (
        (at["table"], at["target"]), {"text": "body", "categories": CATEGORIES, "ledger": at["store"]},
    ),
    "submit_job": lambda at: (("I was charged twice",), {"categories": CATEGORIES, "ledger": at["store"]}),
    "ensure_schema": lambda _: (("teams", CATEGORIES), {}),
    "get_usage": lambda _: ((), {}),
}  # fmt: skip
STORES = (
    f"postgresql+psycopg://me:{SECRET}@127.0.0.1:9/none",
    f"postgresql://127.0.0.1:9/none?user=me&password={SECRET}",
    f"mysql://me:{SECRET}@127.0.0.1/none",
    "sqlite:////proc/store.db",
)


def test_every_task_has_an_example() -> None:
    tasks = {
        name for name in prefect_classifaily.__all__ if isinstance(getattr(prefect_classifaily, name), prefect.Task)
    }
    assert tasks == {twin for name in EXAMPLES for twin in (name, f"a{name}")}


def tried(name: str, at: dict[str, str], credentials: ClassifailyCredentials) -> ClassifailyError | None:
    """What the task's function raised."""
    words, options = EXAMPLES[name.removeprefix("a")](at) if name not in EXAMPLES else EXAMPLES[name](at)
    if "table" in name:
        options["report"] = None
    task = getattr(prefect_classifaily, name)
    try:
        found = task.fn(*words, credentials=credentials, **options)
        if inspect.iscoroutine(found):
            asyncio.run(found)
    except ClassifailyError as caught:
        error = caught
    else:
        return None
    shown = "".join(traceback.format_exception(error))
    assert SECRET not in shown
    assert credentials.api_key.get_secret_value() not in shown
    return error


@pytest.fixture
def sound(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "in.csv").write_text("body\nI was charged twice\n")
    place = {"table": str(tmp_path / "in.csv"), "target": str(tmp_path / "out.csv")}
    return {**place, "store": f"sqlite:///{tmp_path}/store.db"}


TWINS = [twin for name in EXAMPLES for twin in (name, f"a{name}")]


@pytest.mark.parametrize("name", TWINS)
def test_no_api_at_the_address(name: str, sound: dict[str, str]) -> None:
    nowhere = ClassifailyCredentials(api_key="cai_live_0123456789abcdef01234567", base_url="http://127.0.0.1:9/v1")
    assert tried(name, sound, nowhere) is not None


@pytest.mark.parametrize("store", STORES)
def test_a_broken_store(
    store: str, sound: dict[str, str], credentials: ClassifailyCredentials, sandbox: Sandbox
) -> None:
    for name in ("classify_table", "aclassify_table", "submit_job", "asubmit_job"):
        assert tried(name, {**sound, "store": store}, credentials) is not None, name
    assert sandbox.bill().charged == 0


@pytest.mark.parametrize("what", ["table", "target"])
@pytest.mark.parametrize("path", ["/proc/none/x.csv", "x" * 300 + ".csv", f"gopher://me:{SECRET}@host/x.csv", "x.docx"])
def test_a_table_that_is_not_there(
    what: str, path: str, sound: dict[str, str], credentials: ClassifailyCredentials, sandbox: Sandbox
) -> None:
    for name in ("classify_table", "aclassify_table"):
        assert tried(name, {**sound, what: path}, credentials) is not None, name
    assert sandbox.bill().charged == 0
