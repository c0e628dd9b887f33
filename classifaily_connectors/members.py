"""The labels of an Enum's members, and an Enum found again by its name.

The law of this file: it imports nothing. A class is looked for among those that this process has already defined, so a
name that came from a file or from the API runs no code.
"""

from __future__ import annotations

import ast
import functools
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum

_PATH = re.compile(r"[\w.]+:[\w.<>]+")


def label_of(member: Enum) -> tuple[str, str | None]:
    """The label of a member, and its description or None.

    The label is the member's value when the value is a way to write the name (`BILLING = "billing"`), or when a text
    below the member describes it; else it is the name, and the value is the description.
    """
    text = _texts(type(member)).get(member.name)
    value = member.value if isinstance(member.value, str) and member.value.strip() else None
    if value is not None and (text is not None or _plain(value) == _plain(member.name)):
        return value.strip(), text
    return member.name, text or value


@functools.cache
def by_label(taxonomy: type[Enum]) -> Mapping[str, Enum]:
    """The members of an Enum under their labels."""
    return {label_of(member)[0]: member for member in taxonomy}


def path_of(taxonomy: type[Enum]) -> str:
    """The name under which `find` looks for an Enum: `module:Class`."""
    return f"{taxonomy.__module__}:{taxonomy.__qualname__}"


def find(path: object) -> type[Enum] | None:
    """The Enum of that path, if this process has defined it.

    A script, and a file that an orchestrator loads, has another module name in each process. Where the module is not
    there, the only Enum with the same class name is taken; None where there are several.
    """
    if not isinstance(path, str) or not _PATH.fullmatch(path):
        return None
    module, _, name = path.partition(":")
    namesakes = [each for each in _subclasses(Enum) if each.__qualname__ == name]
    exact = [each for each in namesakes if each.__module__ == module]
    candidates = exact or namesakes
    return candidates[0] if len(candidates) == 1 else None


def _subclasses(parent: type[Enum]) -> Iterator[type[Enum]]:
    for child in parent.__subclasses__():
        yield child
        yield from _subclasses(child)


@functools.cache
def _texts(taxonomy: type[Enum]) -> Mapping[str, str]:
    """The text below each member, which Python itself throws away."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(taxonomy)))
    except (OSError, TypeError, SyntaxError):  # defined at a prompt, or by the functional API
        return {}
    texts: dict[str, str] = {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    for statement, below in itertools.pairwise(body):
        target = statement.targets[0] if isinstance(statement, ast.Assign) else None
        text = below.value.value if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) else None
        if isinstance(target, ast.Name) and isinstance(text, str):
            texts[target.id] = inspect.cleandoc(text)
    return texts


def _plain(text: str) -> str:
    return re.sub(r"[\W_]+", "", text).casefold()
