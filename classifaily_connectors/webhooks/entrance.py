"""Getting to the store with the first delivery, as a mounted app is not told of the start.

The law of this file: as long as the store cannot be opened every batch is told so, and the next one tries again.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from classifaily_connectors.store.inbox import Inbox
    from classifaily_connectors.store.lanes import Lane, Take, Tell


class Entrance:
    """The lane of the inbox that `open` gives, for one event loop."""

    def __init__(self, open: Callable[[], Inbox]) -> None:
        self._open = open
        self._pid = os.getpid()
        self._lane: Lane | None = None
        self._opening: asyncio.Task[None] | None = None

    def begin(self, take: Take, tell: Tell) -> None:
        """See `Lane`."""
        if self._lane is None:
            self._opening = asyncio.get_running_loop().create_task(self._begin(take, tell))
        else:
            self._lane.begin(take, tell)

    def close(self) -> None:
        """See `Lane`; harmless when called again. What a parent process opened is left to it."""
        lane, self._lane = self._lane, None
        if lane is not None and self._pid == os.getpid():
            lane.close()

    async def _begin(self, take: Take, tell: Tell) -> None:
        try:
            self._lane = (await asyncio.to_thread(self._open)).lane()
        except Exception as error:  # noqa: BLE001  # told to whoever waits
            tell(len(take()), error, False)
        else:
            self._lane.begin(take, tell)
