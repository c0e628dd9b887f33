"""The receiver as an application that any ASGI server imports: `uvicorn classifaily_connectors.webhooks.asgi:app`.

The law of this file: it is configured by the environment alone (CLASSIFAILY_STORE_URL, CLASSIFAILY_WEBHOOK_SECRET and
its kin), and made when it is first asked for, so that importing this module needs nothing. A server of your own gives
its own deadlines: `classifaily webhooks serve` has them built in.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classifaily_connectors.webhooks.receiver import Receiver

    app: Receiver


@cache
def create_app() -> Receiver:
    """The application (a factory, for servers that want one).

    Raises ConfigurationError when there is no secret, or no place for the store.
    """
    from classifaily_connectors.store.address import default_store
    from classifaily_connectors.webhooks.receiver import Receiver

    return Receiver(default_store())


def __getattr__(name: str) -> Any:
    if name == "app":
        return create_app()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
