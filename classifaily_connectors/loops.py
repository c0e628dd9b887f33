"""One asynchronous client per event loop, for an object that many loops may ask.

Connections belong to the loop they were opened on, and a platform may run several: one of its own for a whole run, and
one for every `asyncio.run` of its users.

The law of this file: a client never outlives its loop. Whoever ends a loop closes its asynchronous generators
(`asyncio.run` does, and so do the platforms), so each client is watched by one.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from classifaily_connectors import AsyncClassifailyClient


class LoopClients:
    """The clients, made by `make` when a loop first asks for one."""

    def __init__(self, make: Callable[[], AsyncClassifailyClient]) -> None:
        self._make = make
        self._held: dict[asyncio.AbstractEventLoop, tuple[AsyncClassifailyClient, AsyncGenerator[None, None]]] = {}

    def current(self) -> AsyncClassifailyClient:
        """The client of the running loop; raises RuntimeError where none runs."""
        loop = asyncio.get_running_loop()
        if loop not in self._held:
            client = self._make()
            watch = self._watch(loop, client)
            with suppress(StopIteration):
                watch.__anext__().send(None)  # up to its `yield`: it awaits nothing before
            self._held[loop] = client, watch
        return self._held[loop][0]

    async def _watch(
        self, loop: asyncio.AbstractEventLoop, client: AsyncClassifailyClient
    ) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            del self._held[loop]
            await client.close()

    def close(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Close the client of a loop that is idle; there may be none."""
        if loop in self._held and not loop.is_closed():
            _, watch = self._held[loop]
            loop.run_until_complete(watch.aclose())
