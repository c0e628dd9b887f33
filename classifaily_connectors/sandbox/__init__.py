"""A faithful local ClassifAIly: the contract, plans, quotas, async jobs, signed webhooks, faults and a bill.

    with Sandbox(plan="pro") as sandbox:
        client = ClassifailyClient(sandbox.key, base_url=sandbox.base_url)

The law of this package: it serves 127.0.0.1 and never calls out, it answers by the contract and not by the samples,
and it shares no code with the client it is to test (only `ConfigurationError`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .clock import Clock, SandboxClock
from .faults import Fault
from .state import Bill, RequestRecord
from .switches import Switches

if TYPE_CHECKING:
    from .app import DEFAULT_KEY, create_app
    from .deliveries import Delivery
    from .server import Sandbox

__all__ = [
    "DEFAULT_KEY",
    "Bill",
    "Clock",
    "Delivery",
    "Fault",
    "RequestRecord",
    "Sandbox",
    "SandboxClock",
    "Switches",
    "create_app",
]

_NEEDS_EXTRA = {"DEFAULT_KEY": "app", "create_app": "app", "Delivery": "deliveries", "Sandbox": "server"}


def __getattr__(name: str) -> Any:
    # Late, so that naming a switch or a fault needs neither the extra nor a second of imports.
    if name not in _NEEDS_EXTRA:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f".{_NEEDS_EXTRA[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("classifaily_connectors"):
            raise
        raise ImportError(
            f"the sandbox needs {error.name}: pip install 'classifaily-connectors[sandbox]'", name=error.name
        ) from error
