"""The receiver of webhooks, inside Airflow's API server.

The law of this file: importing it loads nothing of the core, because every Airflow process imports its plugins; the
path is public, so it exists only where a webhook secret is configured, and every request to it is checked by its
signature. Secrets come from the API server's environment: no Airflow database is asked in a request.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from classifaily_connectors.webhooks import Receiver

    Message = MutableMapping[str, Any]

MOUNT = "/classifaily"
"""One above the receiver's path, /classifaily/webhooks: a mount answers what lies below it, never itself."""
SECRETS = "CLASSIFAILY_WEBHOOK_SECRET"


@cache
def _receiver() -> Receiver:
    from classifaily_connectors.settings import store_url
    from classifaily_connectors.webhooks import Receiver

    return Receiver(store_url(None, os.environ.get("AIRFLOW_HOME", "~/airflow")))


async def receive(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """The ASGI app; the core is loaded with the first request."""
    root = str(scope.get("root_path", "")).removesuffix(MOUNT)
    await _receiver()({**scope, "root_path": root}, receive, send)


class ClassifailyPlugin(AirflowPlugin):
    """Mounts the receiver where any CLASSIFAILY_WEBHOOK_SECRET... is set."""

    name = "classifaily"
    fastapi_apps: list[Any] = (  # as Airflow declares it
        [{"app": receive, "url_prefix": MOUNT, "name": "ClassifAIly webhooks"}]
        if any(each.startswith(SECRETS) for each in os.environ)
        else []
    )
