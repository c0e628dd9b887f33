"""Keyword arguments that a function does not take, refused with the nearest name that it does."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeVar, cast

from classifaily_connectors.errors import refuse

F = TypeVar("F", bound=Callable[..., Any])


def checked_keywords(function: F) -> F:
    """The function, which raises InvalidRequestError with a suggestion when a keyword is misspelt.

    The wrapper forgets the arguments before it calls, so that a traceback printed with its locals shows no input.
    """
    parameters = inspect.signature(function).parameters
    name = function.__name__

    @functools.wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        unknown = options.keys() - parameters.keys()
        held: list[Any] = [] if unknown else [options, args]
        del options, args
        check_names(unknown, parameters, f"{name}()")
        return function(*held.pop(), **held.pop())

    @functools.wraps(function)
    async def await_call(*args: Any, **options: Any) -> Any:
        held: list[Any] = [options, args]
        del options, args
        return await call(*held.pop(), **held.pop())

    return cast("F", await_call if inspect.iscoroutinefunction(function) else call)


def check_names(options: Iterable[str], names: Collection[str], owner: str) -> None:
    """Raise InvalidRequestError for an option that is none of `names`; `owner` is what takes the options."""
    option = min(set(options).difference(names), default=None)
    if option is not None:
        known = [name for name in names if name != "self"]
        nearest = difflib.get_close_matches(option, known, n=1)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"it takes {', '.join(known)}"
        raise refuse(f"{owner} takes no option {option!r}: {hint}")
