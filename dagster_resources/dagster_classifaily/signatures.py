"""What a function of the user's takes, with its annotations as types.

The law of this file: Dagster tells config, resources and upstream assets apart by the annotations, so one that cannot
be read is refused, with its parameter's name.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from classifaily_connectors.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Its signature, annotations that are strings (`from __future__ import annotations`) read.

    Raises ConfigurationError for a parameter whose annotation names what is not there when the program runs.
    """
    plain = inspect.signature(function)
    known = {**getattr(inspect.unwrap(function), "__globals__", {}), **inspect.getclosurevars(function).nonlocals}
    parameters = [
        each.replace(annotation=_read(each.name, each.annotation, known, function))
        for each in plain.parameters.values()
    ]
    return plain.replace(parameters=parameters, return_annotation=inspect.Signature.empty)


def _read(name: str, annotation: Any, known: dict[str, Any], function: Callable[..., Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, known)  # noqa: S307  # the user's own code, as typing.get_type_hints does it
    except (NameError, AttributeError, SyntaxError, TypeError):
        raise ConfigurationError(
            f"{function.__name__}() annotates {name!r} with {annotation}, which is not there when it runs: import it "
            "outside `if TYPE_CHECKING`, at the top of the module, or leave the annotation out"
        ) from None
