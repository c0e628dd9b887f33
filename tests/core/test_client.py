"""The package's face: two clients that differ in `await` alone, and an import that costs nothing."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import classifaily_connectors as cc
from classifaily_connectors import async_client, client, errors

if TYPE_CHECKING:
    from conftest import Caller, Canned

KEY = "cai_live_0123456789abcdef0123456789abcdef01234567"
ROOT = Path(inspect.getfile(cc)).parent
TWINS = {
    client.ClassifailyClient: async_client.AsyncClassifailyClient,
    client.Schemas: async_client.AsyncSchemas,
    client.Jobs: async_client.AsyncJobs,
    client.Webhooks: async_client.AsyncWebhooks,
}
ITERATED = ("iterate", "classify_many", "classify_axes")  # `async for`, not `await`
CONTEXT = {"__enter__": "__aenter__", "__exit__": "__aexit__"}


def methods(kind: type) -> dict[str, Any]:
    spoken = {"__init__", "__repr__", "__reduce__", *CONTEXT, *CONTEXT.values()}
    return {
        name: each
        for name, each in vars(kind).items()
        if callable(each) and (name in spoken or not name.startswith("_"))
    }


PAIRS = [(kind, name) for kind in TWINS for name in methods(kind)]


def signature(method: Any) -> str:
    return re.sub(r"\bAsync(?=Iterator|BulkRun|AxesRun)", "", str(inspect.signature(method)))


@pytest.mark.parametrize(("kind", "name"), PAIRS, ids=[f"{kind.__name__}.{name}" for kind, name in PAIRS])
def test_twins_say_the_same(kind: type, name: str) -> None:
    ours, twin = methods(kind)[name], methods(TWINS[kind])[CONTEXT.get(name, name)]
    assert signature(ours) == signature(twin)
    assert ours.__doc__ == twin.__doc__
    if not name.startswith("_"):
        assert ours.__doc__
        assert inspect.iscoroutinefunction(twin) or name in ITERATED


@pytest.mark.parametrize("kind", TWINS, ids=lambda kind: str(kind.__name__))
def test_neither_twin_has_more(kind: type) -> None:
    assert [CONTEXT.get(name, name) for name in methods(kind)] == list(methods(TWINS[kind]))
    assert kind.__doc__ == TWINS[kind].__doc__


def test_both_clients_have_the_same_parts() -> None:
    parts = {"schemas": client.Schemas, "jobs": client.Jobs, "webhooks": client.Webhooks}
    ours, twin = cc.ClassifailyClient(KEY), cc.AsyncClassifailyClient(KEY)
    with ours:
        for name, kind in parts.items():
            assert type(getattr(ours, name)) is kind
            assert type(getattr(twin, name)) is TWINS[kind]
        assert (
            {name for name in vars(ours) if name[0] != "_"}
            == {name for name in vars(twin) if name[0] != "_"}
            == set(parts)
        )


# Every operation once through both clients: the twins may agree and both hand over the wrong argument.
CLASSIFY = {
    "categories": ["a"],
    "schema": 17,
    "type": "image",
    "mode": "top_n",
    "top_n": 2,
    "threshold": 0.5,
    "explain": True,
}
IMAGE = "https://example.org/a.png"
OPTIONS = {"description": "d", "type": "text", "mode": "multi"}
VERDICT = {"id": "1", "status": "completed", "result": {"label": "a", "confidence": 0.5}}
SCHEMA = {"id": 17, "name": "n", "categories": ["a"]}
CALLS: dict[str, tuple[Any, dict[str, Any], str, Any]] = {
    "classify": (lambda c: c.classify(IMAGE, **CLASSIFY), VERDICT, "POST /v1/classify", {**CLASSIFY, "input": IMAGE}),
    "classify in a mode": (
        lambda c: c.classify("x", mode="multi"),
        VERDICT,
        "POST /v1/classify",
        {"input": "x", "mode": "multi"},
    ),
    "submit in a mode": (
        lambda c: c.submit("x", mode="multi"),
        VERDICT,
        "POST /v1/classify",
        {"input": "x", "mode": "multi", "async": True},
    ),
    "submit": (
        lambda c: c.submit(IMAGE, **CLASSIFY),
        VERDICT,
        "POST /v1/classify",
        {**CLASSIFY, "input": IMAGE, "async": True},
    ),
    "batch": (
        lambda c: c.batch(
            [IMAGE], categories=["a"], schema=17, type="image", mode="multi", threshold=0.5, explain=True
        ),
        {"results": [{"id": "0", **VERDICT}]},
        "POST /v1/batch",
        {
            "items": [{"id": "0", "input": IMAGE, "type": "image"}],
            "categories": ["a"],
            "schema": 17,
            "mode": "multi",
            "threshold": 0.5,
            "explain": True,
        },
    ),
    "usage": (lambda c: c.usage("2026-11"), {"limits": {}, "usage": {}}, "GET /v1/usage?month=2026-11", None),
    "create": (
        lambda c: c.schemas.create("n", ["a"], **OPTIONS),
        SCHEMA,
        "POST /v1/schemas",
        {"name": "n", "categories": ["a"], **OPTIONS},
    ),
    "update": (
        lambda c: c.schemas.update(17, name="n", categories=["a"], **OPTIONS),
        SCHEMA,
        "PUT /v1/schemas/17",
        {"name": "n", "categories": ["a"], **OPTIONS},
    ),
    "get": (lambda c: c.schemas.get(17), SCHEMA, "GET /v1/schemas/17", None),
    "list": (lambda c: c.schemas.list(), {"schemas": [SCHEMA]}, "GET /v1/schemas", None),
    "delete": (lambda c: c.schemas.delete(17), {}, "DELETE /v1/schemas/17", None),
    "job": (lambda c: c.jobs.get(84), VERDICT, "GET /v1/jobs?id=84", None),
    "wait": (lambda c: c.jobs.wait(84, timeout=9), VERDICT, "GET /v1/jobs?id=84", None),
    "jobs": (
        lambda c: c.jobs.list(limit=5, offset=10, status="failed", input_type="text"),
        {"jobs": [VERDICT]},
        "GET /v1/jobs?limit=5&offset=10&status=failed&input_type=text",
        None,
    ),
    "iterate": (
        lambda c: c.jobs.iterate(status="failed", input_type="text"),
        {"jobs": [VERDICT], "total": 1},
        "GET /v1/jobs?limit=100&offset=0&status=failed&input_type=text",
        None,
    ),
    "webhook": (
        lambda c: c.webhooks.create("https://example.org/h", events=["job.failed"], secret="s3cret"),
        {"id": 3},
        "POST /v1/webhooks",
        {"url": "https://example.org/h", "events": ["job.failed"], "secret": "s3cret"},
    ),
    "webhooks": (lambda c: c.webhooks.list(), {"webhooks": []}, "GET /v1/webhooks", None),
    "unhook": (lambda c: c.webhooks.delete(3), {}, "DELETE /v1/webhooks/3", None),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_argument_arrives(name: str, caller: Caller, canned: Canned) -> None:
    call, answer, address, body = CALLS[name]
    canned.say(200, answer)
    caller(call)
    asked = canned.asked[0]
    assert f"{asked.method} {asked.path}" == address
    assert (asked.json if asked.body else None) == body


def test_a_closed_client_says_so(caller: Caller, canned: Canned) -> None:
    canned.say(200, VERDICT)

    def after_closing(each: Any) -> Any:
        closing = each.close()
        if caller.kind == "sync":
            return each.classify("x")

        async def run() -> Any:
            await closing
            return await each.classify("x")

        return run()

    with pytest.raises(cc.ConfigurationError, match="closed"):
        caller(after_closing)
    assert canned.asked == []


def imported_names() -> set[str]:
    tree = ast.parse((ROOT / "__init__.py").read_text())
    block = next(each for each in tree.body if isinstance(each, ast.If))
    return {alias.name for each in block.body if isinstance(each, ast.ImportFrom) for alias in each.names}


def test_all_is_what_type_checkers_see() -> None:
    assert set(cc.__all__) == imported_names() | {"__version__"}
    assert sorted(cc.__all__) == dir(cc)
    for name in cc.__all__:
        assert getattr(cc, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = cc.nonsense


def test_every_error_is_exported() -> None:
    tree = {name for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, Exception)}
    assert tree <= set(cc.__all__)
    for name in tree:
        assert getattr(cc, name) is getattr(errors, name)


def test_the_error_tree_is_drawn_as_it_is() -> None:
    """The drawing at the head of `errors` shows every class below its base."""
    parents: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+)", line)
        if not found:
            continue
        depth = len(found[1]) // 4
        del parents[depth:]
        kind = getattr(errors, found[2])
        assert kind.__bases__[0].__name__ == (parents[-1] if parents else "Exception")
        parents.append(found[2])
    drawn = set(re.findall(r"[A-Z]\w+Error", errors.__doc__ or ""))
    assert {name for name in cc.__all__ if name.endswith("Error")} <= drawn


def modules_after(code: str) -> set[str]:
    run = [sys.executable, "-c", f"{code}\nimport json, sys; print(json.dumps(list(sys.modules)))"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True)
    return set(json.loads(done.stdout))


def test_the_command_lines_help_loads_neither_httpx_nor_pydantic() -> None:
    loaded = modules_after("import classifaily_connectors.cli")
    assert not loaded & {"httpx", "pydantic", "asyncio", "sqlalchemy", "yaml", "pyarrow", "narwhals", "fsspec"}


def test_importing_the_package_loads_neither_httpx_nor_pydantic() -> None:
    """Orchestrators parse DAG files again and again."""
    loaded = modules_after("import classifaily_connectors; dir(classifaily_connectors)")
    assert {each for each in loaded if each.startswith("classifaily")} == {
        "classifaily_connectors",
        "classifaily_connectors._lazy",
        "classifaily_connectors._version",
    }
    assert not loaded & {"httpx", "httpcore", "pydantic", "pydantic_core", "asyncio", "ssl"}


def test_errors_need_neither_httpx_nor_pydantic() -> None:
    """An orchestrator unpickles an error without starting a client."""
    loaded = modules_after("from classifaily_connectors import APIError, OutcomeUnknownError")
    assert not loaded & {"httpx", "pydantic", "asyncio"}


def test_the_first_use_of_a_client_loads_it() -> None:
    assert "httpx" in modules_after("from classifaily_connectors import ClassifailyClient")
