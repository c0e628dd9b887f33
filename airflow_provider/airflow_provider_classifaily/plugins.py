"""The receiver of webhooks, inside Airflow's API server.

The law of this file: importing it loads nothing of the core, because every Airflow process imports its plugins; the
path is public, so it exists only where a webhook secret is configured, and every request to it is checked by its
signature. Secrets come from the API server's environment: no Airflow database is asked in a request.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Awaitable, Callable, MutableMapping
from functools import cache
from typing import TYPE_CHECKING, Any

from airflow.plugins_manager import AirflowPlugin

if TYPE_CHECKING:
    from classifaily_connectors.webhooks import Receiver

    Message = MutableMapping[str, Any]

logger = logging.getLogger(__name__)

MOUNT = "/classifaily"
"""One above the receiver's path, /classifaily/webhooks: a mount answers what lies below it, never itself."""
SECRETS = "CLASSIFAILY_WEBHOOK_SECRET"


@cache
def _receiver() -> Receiver:
    from classifaily_connectors.store.address import default_store
    from classifaily_connectors.webhooks import Receiver

    return Receiver(default_store(former_home=os.environ.get("AIRFLOW_HOME", "~/airflow")))


async def receive(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """The ASGI app; the core is loaded with the first request. A setting that is wrong is said in the log, and senders
    are told to come again."""
    from classifaily_connectors import ConfigurationError

    try:
        receiver = _receiver()
    except ConfigurationError as error:
        logger.error("webhooks are refused: %s", error)  # noqa: TRY400  # a line says it
        await send({"type": "http.response.start", "status": 503, "headers": [(b"retry-after", b"60")]})
        await send({"type": "http.response.body", "body": b""})
        return
    root = str(scope.get("root_path", "")).removesuffix(MOUNT)
    await receiver({**scope, "root_path": root}, receive, send)


class ClassifailyPlugin(AirflowPlugin):
    """Mounts the receiver where any CLASSIFAILY_WEBHOOK_SECRET... is set, and not empty."""

    name = "classifaily"
    fastapi_apps: list[Any] = (  # as Airflow declares it
        [{"app": receive, "url_prefix": MOUNT, "name": "ClassifAIly webhooks"}]
        if any(value.strip() for name, value in os.environ.items() if name.startswith(SECRETS))
        else []
    )
