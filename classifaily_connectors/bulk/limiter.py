"""How many requests may be under way at once.

The law of this file: grow while it costs no latency, halve when the server suffers (additive-increase and
multiplicative-decrease, with doubling at the start), never above the cap, never below one.
"""

from __future__ import annotations

from collections import deque

START = 8
_FLAT = 1.5
_JITTER = 0.005
_SAMPLE = 8
_DRIFT = 0.1


class Limiter:
    """A count of places whose size follows the server. `cap` is the most it will allow."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.size = min(START, cap)
        self.busy = 0
        self._starting = True
        self._best = float("inf")
        self._recent: deque[float] = deque(maxlen=_SAMPLE)
        self._since = 0

    @property
    def free(self) -> bool:
        """Whether one more request may leave."""
        return self.busy < self.size

    def take(self) -> None:
        """Occupy a place."""
        self.busy += 1

    def give(self) -> None:
        """Give the place back."""
        self.busy -= 1

    def suffer(self) -> None:
        """The server failed or went silent."""
        self.size = max(1, self.size // 2)
        self._starting = False
        self._since = 0

    def observe(self, seconds: float) -> None:
        """A full batch was answered well, after so many seconds."""
        self._recent.append(seconds)
        self._best = min(self._best, seconds)
        self._since += 1
        # One round at the present size tells what the size costs.
        if self._since < self.size:
            return
        self._since = 0
        middle = sorted(self._recent)[len(self._recent) // 2]
        if middle <= self._best * _FLAT + _JITTER:
            self.size = min(self.cap, self.size * 2 if self._starting else self.size + 1)
        else:
            self._starting = False
            if middle > self._best * 2 * _FLAT + _JITTER:
                self.size = max(1, self.size - 1)
        # A server that is slower than this morning for everyone is no reason to stay small for ever.
        self._best += _DRIFT * max(0.0, middle - self._best)
