"""A receiver or an endpoint that does nothing, served alike: `python receiving.py STORE` (or `none`).

Prints its port, then serves until its standard input closes.
"""

from __future__ import annotations

import sys
from typing import Any

from classifaily_connectors.webhooks.receiver import Receiver
from classifaily_connectors.webhooks.serving import Serving, devote_process

SECRET = "whsec-of-the-benchmarks"


class NoOp(Receiver):
    """Takes the body and says 204."""

    def __init__(self) -> None:
        super().__init__("none", SECRET)

    def open(self) -> Any:
        return None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})


receiver = NoOp() if sys.argv[1] == "none" else Receiver(sys.argv[1], SECRET)
with Serving(receiver) as serving:
    devote_process()
    print(serving._port, flush=True)
    sys.stdin.read()
