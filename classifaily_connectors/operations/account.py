"""The account: usage, and the webhooks registered on it (API reference, Usage and Webhooks)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from classifaily_connectors.errors import MethodNotAllowedError, NotFoundError, refuse
from classifaily_connectors.fields import as_map
from classifaily_connectors.media import HALF_A_PAIR, is_unicode
from classifaily_connectors.models import Usage, WebhookEndpoint
from classifaily_connectors.operations import payloads
from classifaily_connectors.operations.call import call
from classifaily_connectors.operations.effects import Send
from classifaily_connectors.operations.jobs import page_of
from classifaily_connectors.secret_text import bare, no_secret
from classifaily_connectors.settings import is_loopback

if TYPE_CHECKING:
    from pydantic import SecretStr

    from classifaily_connectors.operations.context import Context
    from classifaily_connectors.operations.effects import Operation

_MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


def usage(context: Context, month: str | None = None) -> Operation[Usage]:
    """Usage against the plan's limits, for `month` (YYYY-MM) or the current one."""
    if month is not None and not (isinstance(month, str) and _MONTH.fullmatch(month)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise refuse(f"month is {month!r}; it must look like 2026-11")
    send = Send("GET", "/usage", {"month": month} if month else None)
    return (yield from call(context, send, _read_usage))


def create_webhook(
    context: Context, url: str, *, events: Sequence[str] = ("*",), secret: SecretStr | None = None
) -> Operation[WebhookEndpoint]:
    """The registered endpoint; its `secret` is there only when the server generated one."""
    if not _deliverable(url):
        raise refuse("url must be https and publicly reachable (API reference, Webhooks)")
    if isinstance(events, str) or not events:
        raise refuse("events must be a list such as ['job.completed'], or ['*'] for all")
    body: dict[str, Any] = {"url": url, "events": list(events)}
    if secret is not None:
        body["secret"] = _signing_secret(secret)
    send = Send("POST", "/webhooks", body=payloads.encode(body), once=True)
    return (yield from call(context, send, lambda wire: _read_webhook(wire, url)))


def _signing_secret(given: SecretStr) -> str:
    # In the form in which a receiver reads it: what it would take for another one is refused here.
    secret = bare(given.get_secret_value())
    if not secret:
        raise refuse("secret is empty: leave it out to have one generated")
    reason = "holds a comma, which stands between two secrets" if "," in secret else no_secret(secret)
    if reason:
        raise refuse(f"secret {reason}, so receivers would read another one: take letters and digits")
    return secret


def _deliverable(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except (ValueError, TypeError, AttributeError):
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host or "")))


def list_webhooks(context: Context) -> Operation[list[WebhookEndpoint]]:
    """Every registered endpoint, without secrets."""
    send = Send("GET", "/webhooks")
    return (
        yield from call(context, send, lambda wire: [*map(WebhookEndpoint.model_validate, page_of(wire, "webhooks"))])
    )


def delete_webhook(context: Context, webhook_id: int | str) -> Operation[None]:
    """Nothing, once the endpoint is gone."""
    text = str(webhook_id).strip()
    if not text or not is_unicode(text):
        raise refuse(f"webhook id {HALF_A_PAIR}" if text else "webhook id is empty")
    try:
        yield from call(context, Send("DELETE", f"/webhooks/{quote(text, safe='')}"), lambda _wire: True)
    except MethodNotAllowedError:
        other = True
    except NotFoundError as error:
        if error.code is not None and error.code.startswith("webhook"):
            raise
        other = True
    else:
        other = False
    if other:
        yield from call(context, Send("DELETE", "/webhooks", {"id": text}), lambda _wire: True)


def _read_usage(wire: object) -> Usage:
    if not {"limits", "usage"} & as_map(wire).keys():
        raise ValueError("not a usage report")
    return Usage.model_validate(wire)


def _read_webhook(wire: object, url: str) -> WebhookEndpoint:
    return WebhookEndpoint.model_validate({"url": url, **as_map(wire)})
