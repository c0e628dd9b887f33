"""What may be said of an error that is not ours: Prefect's own may quote a request, and with it a secret."""

from __future__ import annotations

from typing import Any

from classifaily_connectors import ClassifailyError

_SETTINGS = {
    401: "check PREFECT_API_KEY (Prefect Cloud) or PREFECT_API_AUTH_STRING (your own server)",
    403: "the key in PREFECT_API_KEY may not do this",
    404: "check PREFECT_API_URL: it ends in /api",
}


def reason(error: BaseException) -> str:
    """Our own message; of another error its class and, where a server answered, the HTTP status and what to check."""
    if isinstance(error, ClassifailyError):
        return str(error)
    response: Any = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if status is None:
        return type(error).__name__
    hint = _SETTINGS.get(status)
    return f"Prefect answered HTTP {status}{f': {hint}' if hint else ''}"
