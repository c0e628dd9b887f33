"""Whether the server is there, and how long a run sits out that it is not.

The law of this file: an outage of a server that was reached is sat out; a server that never answered is said to be out
of reach at once, and given up soon, for its address is more likely to be wrong.
"""

from __future__ import annotations

import logging
import time
from urllib.parse import urlsplit

from classifaily_connectors.errors import ClassifailyError, NotSentError

FIRST_CONTACT = 15.0
"""Seconds for which a server is tried that has never answered this run."""
_SERVED_LATELY = 10.0
logger = logging.getLogger("classifaily_connectors")


class Contact:
    """What one run knows of the server at `base_url`; `max_elapsed` is the seconds for which an outage is sat out."""

    def __init__(self, base_url: str, max_elapsed: float) -> None:
        self._host = urlsplit(base_url).hostname
        self._max_elapsed = max_elapsed
        self._reached = False
        self._trouble_since: float | None = None
        self._served_at: float | None = None

    def answered(self) -> None:
        """The server answered."""
        self._reached = True

    def served(self) -> None:
        """The server did what it was asked for."""
        self._reached, self._trouble_since, self._served_at = True, None, time.monotonic()

    def failed(self, error: ClassifailyError) -> None:
        """A request came to nothing."""
        if not isinstance(error, NotSentError):
            self._reached = True
        if self._trouble_since is None:
            self._trouble_since = time.monotonic()
            if not self._reached:
                logger.warning("cannot reach %s, trying again for %d s: %s", self._host, self._patience, error.message)

    @property
    def patient(self) -> bool:
        """Whether to wait for better times."""
        since = self._trouble_since
        return since is None or time.monotonic() - since <= self._patience

    @property
    def ever_served(self) -> bool:
        """Whether the server ever did what it was asked for."""
        return self._served_at is not None

    @property
    def served_lately(self) -> bool:
        """Whether it did so a moment ago."""
        return self._served_at is not None and self._served_at > time.monotonic() - _SERVED_LATELY

    @property
    def _patience(self) -> float:
        return self._max_elapsed if self._reached else min(self._max_elapsed, FIRST_CONTACT)
