"""Which proxy the environment asks for.

The law of this file: the variables mean what they mean to every program of the standard library (HTTP_PROXY,
HTTPS_PROXY, ALL_PROXY, NO_PROXY, in either case; the system's settings on macOS and Windows), and are read once for a
client, as a client speaks to one address.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_for(base_url: str) -> str | None:
    """The address of the proxy on the way to `base_url`, None for the direct way; it may hold a password."""
    target = urlsplit(base_url)
    proxies = getproxies()
    proxy = proxies.get(target.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(target.netloc):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


class Tunnel:
    """Whether a request left for the API: what breaks off while the tunnel is asked for was never sent."""

    def __init__(self, proxy: str) -> None:
        parts = urlsplit(proxy)
        self.proxy = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self.sent = False

    def note(self, event: str, info: Mapping[str, Any]) -> None:
        """Take note of a step of httpcore's."""
        if event.endswith("send_request_headers.started") and info["request"].method != b"CONNECT":
            self.sent = True

    async def anote(self, event: str, info: Mapping[str, Any]) -> None:
        """The same on an event loop."""
        self.note(event, info)
