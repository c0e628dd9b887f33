"""The public calls of the core, read off the code, so that a new one is noticed.

Public is what the packages below name in `__all__`, and what the READMEs and the examples import. Of a class these are
its constructor, its methods and its properties, and the namespaces of a client (`client.jobs.get`). Classes that only
hold data have none: they touch neither a database, nor a network, nor a table.
"""

from __future__ import annotations

import dataclasses
import inspect
import pkgutil
import re
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import classifaily_connectors
from classifaily_connectors import AsyncClassifailyClient, ClassifailyClient

ROOT = Path(__file__).parents[3]
CORE = "classifaily_connectors"
PUBLIC = (CORE, f"{CORE}.webhooks", f"{CORE}.store", f"{CORE}.tables", f"{CORE}.sandbox")
INTERNAL = {
    f"{CORE}.places": "the storage under `tables`, which is swept through them",
    f"{CORE}.identity": "names that other rooms use, nothing that users call",
    f"{CORE}.webhooks.secrets": "given to a `Receiver`, which is swept",
    f"{CORE}.cli.webhooks_care": "the command line has a sweep of its own",
}
"""Modules that have an `__all__` and are not for users, and why."""
_PROTOCOLS = ("__iter__", "__aiter__", "__call__")
_IMPORT = re.compile(rf"from ({CORE}[a-z_.]*) import ([\w, ]+)")
_KEY = "cai_live_0123456789abcdef0123456789abcdef01234567"


def modules_with_all() -> set[str]:
    """The modules of the core that say what is for others."""
    found = [CORE, *(each.name for each in pkgutil.walk_packages(classifaily_connectors.__path__, f"{CORE}."))]
    return {name for name in found if not name.endswith("__main__") and hasattr(import_module(name), "__all__")}


def public_calls() -> set[str]:
    """Every public call: `wait_for_job`, `Ledger()`, `Ledger.lookup`, `ClassifailyClient.jobs.get`."""
    found: set[str] = set()
    for name, value in (*_exported(), *_documented()):
        if inspect.isclass(value):
            found.update(f"{name}{call}" for call in _calls_of(value))
        elif callable(value) and getattr(value, "__module__", "").startswith(CORE):
            found.add(name)
    return found


def _exported() -> Iterator[tuple[str, Any]]:
    for package in PUBLIC:
        module = import_module(package)
        for name in module.__all__:
            yield name, getattr(module, name)


def _documented() -> Iterator[tuple[str, Any]]:
    pages = [*ROOT.glob("*.md"), *ROOT.glob("*/README.md"), *(ROOT / "docs").rglob("*.md")]
    for page in (*pages, *(ROOT / "examples").rglob("*.py")):
        for module, names in _IMPORT.findall(page.read_text()):
            for name in names.replace(" ", "").strip(",").split(","):
                yield name, getattr(import_module(module), name)


def _calls_of(kind: type) -> Iterator[str]:
    if _holds_data(kind):
        return
    if not getattr(kind, "_is_protocol", False):
        yield "()"
    yield from (f".{name}" for name in _members(kind))
    if kind in (ClassifailyClient, AsyncClassifailyClient):
        for name, part in vars(kind(_KEY)).items():
            if not name.startswith("_"):
                yield from (f".{name}.{each}" for each in _members(type(part)))


def _holds_data(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or issubclass(kind, BaseModel | BaseException | tuple | Enum)


def _members(kind: type) -> set[str]:
    ours = [each for each in kind.__mro__ if each.__module__.startswith(CORE)]
    names = {name for each in ours for name, value in vars(each).items() if _is_call(value)}
    return {name for name in names if not name.startswith("_") or name in _PROTOCOLS}


def _is_call(value: object) -> bool:
    return inspect.isfunction(value) or isinstance(value, property | classmethod | staticmethod)
