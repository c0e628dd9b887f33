"""Whatever is broken, a call of the resource raises an error of ours, or a Failure with its text and no secret."""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from classifaily_connectors import ClassifailyError
from dagster_classifaily import ClassifailyResource

if TYPE_CHECKING:
    from classifaily_connectors.sandbox import Sandbox

SECRET = "hunter2-and-more"
CATEGORIES = ["billing", "technical"]
Example = Callable[[dict[str, str]], tuple[tuple[Any, ...], dict[str, Any]]]
EXAMPLES: dict[str, Example] = {
    "classify": lambda _: (("I was charged twice",), {"categories": CATEGORIES}),
    "batch": lambda _: ((["I was charged twice"],), {"categories": CATEGORIES}),
    "submit": lambda _: (("I was charged twice",), {"categories": CATEGORIES}),
    "submit_once": lambda _: (("I was charged twice",), {"categories": CATEGORIES}),
    "classify_table": lambda at: (
        (at["table"],), {"text": "body", "categories": CATEGORIES, "output": at["target"], "ledger": at["store"]},
    ),
    "ensure_schema": lambda _: (("teams", CATEGORIES), {}),
    "usage": lambda _: ((), {}),
}  # fmt: skip
STORES = (
    f"postgresql+psycopg://me:{SECRET}@127.0.0.1:9/none",
    f"postgresql://127.0.0.1:9/none?user=me&password={SECRET}",
    f"mysql://me:{SECRET}@127.0.0.1/none",
    "sqlite:////proc/store.db",
)
TWINS = [twin for name in EXAMPLES for twin in (name, f"a{name}")]
SETTINGS = {"client_settings", "get_api_key", "get_client", "get_async_client", "ledger_of", "check_running"}
READING = {"wait_for_job", "await_for_job", "get_job", "aget_job", "plan_table", "with_usage_metadata"}
"""What buys nothing is tried in `test_resource` and in the core's sweep."""


def test_every_operation_has_an_example() -> None:
    inherited = set(dir(dg.ConfigurableResource)) | SETTINGS | READING
    methods = {name for name, _ in inspect.getmembers(ClassifailyResource, inspect.isfunction)}
    assert {name for name in methods - inherited if not name.startswith("_")} == set(TWINS)


def tried(name: str, at: dict[str, str], **settings: Any) -> BaseException | None:
    """What the call raised."""
    words, options = EXAMPLES[name if name in EXAMPLES else name.removeprefix("a")](at)
    try:
        with ClassifailyResource(store_url=at["store"], **settings).process_config_and_initialize_cm() as resource:
            found = getattr(resource, name)(*words, **options)
            if inspect.iscoroutine(found):
                asyncio.run(found)
    except (ClassifailyError, dg.Failure) as caught:
        error = caught
    else:
        return None
    shown = "".join(traceback.format_exception(error))
    assert SECRET not in shown
    return error


@pytest.fixture
def sound(tmp_path: Path, dagster_home: Path) -> dict[str, str]:
    (tmp_path / "in.csv").write_text("body\nI was charged twice\n")
    place = {"table": str(tmp_path / "in.csv"), "target": str(tmp_path / "out.csv")}
    return {**place, "store": f"sqlite:///{tmp_path}/store.db"}


@pytest.mark.parametrize("name", TWINS)
def test_no_api_at_the_address(name: str, sound: dict[str, str]) -> None:
    key = "cai_live_0123456789abcdef01234567"
    assert tried(name, sound, api_key=key, base_url="http://127.0.0.1:9/v1") is not None


@pytest.mark.parametrize("store", STORES)
def test_a_broken_store(store: str, sound: dict[str, str], sandbox: Sandbox) -> None:
    for name in ("classify_table", "aclassify_table", "submit_once", "asubmit_once"):
        assert tried(name, {**sound, "store": store}) is not None, name
    assert sandbox.bill().charged == 0


@pytest.mark.parametrize("what", ["table", "target"])
@pytest.mark.parametrize("path", ["/proc/none/x.csv", "x" * 300 + ".csv", f"gopher://me:{SECRET}@host/x.csv", "x.docx"])
def test_a_table_that_is_not_there(what: str, path: str, sound: dict[str, str], sandbox: Sandbox) -> None:
    for name in ("classify_table", "aclassify_table"):
        assert tried(name, {**sound, what: path}) is not None, name
    assert sandbox.bill().charged == 0
