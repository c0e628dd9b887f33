"""What a fork finds.

The law of this file: a process forks while its stores are at rest, and with no SQLite file open. SQLite remembers, in
the process, which locks that process holds; a child inherits the memory and not the locks. It would wait for ever for
what its parent has long let go, or commit into a log that its parent deletes, as the last one to leave.

The rule: https://sqlite.org/howtocorrupt.html#_carrying_an_open_database_connection_across_a_fork_
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

PATIENCE = 60.0
"""Seconds for which a fork waits; transactions are shorter, and each waits for others within a limit of its own."""

T = TypeVar("T")
logger = logging.getLogger("classifaily_connectors")


class Gate:
    """Threads are inside while they use or close a store, as deep as they like; none enters while there is a fork."""

    def __init__(self) -> None:
        self._moved = threading.Condition(threading.Lock())
        self._inside = 0
        self._forks = 0
        self._own = threading.local()

    def __enter__(self) -> None:
        depth = self._depth
        if not depth:
            with self._moved:
                while self._forks:
                    self._moved.wait()
                self._inside += 1
        self._own.depth = depth + 1

    def __exit__(self, *_error: object) -> None:
        self._own.depth -= 1
        if not self._own.depth:
            with self._moved:
                self._inside -= 1
                if self._forks:
                    self._moved.notify_all()

    @property
    def _depth(self) -> int:
        return getattr(self._own, "depth", 0)

    def shut(self) -> bool:
        """Let nobody in, and wait until nobody is inside; whether that came about."""
        with self._moved:
            self._forks += 1
            # Who forks inside would wait for those who wait for it.
            return not self._depth and self._moved.wait_for(lambda: not self._inside, PATIENCE)

    def open(self) -> None:
        """Undo one `shut`."""
        with self._moved:
            self._forks -= 1
            self._moved.notify_all()

    def renew(self) -> None:
        """In a child only the thread that forked is left, and it may be inside."""
        self._moved = threading.Condition(threading.Lock())
        self._inside = int(self._depth > 0)
        self._forks = 0


at_work = Gate()
_open: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def put_away(holder: T, close: Callable[[T], None]) -> None:
    """Before a fork, with nobody inside, `close(holder)` closes its SQLite connections; it opens others later."""
    with _lock:
        _open[holder] = close


def _before() -> None:
    if not at_work.shut():
        logger.warning("a fork while a store is being used: the child should not use SQLite stores of this process")
        return
    with _lock:
        holders = list(_open.items())
    for holder, close in holders:
        try:
            close(holder)
        except Exception:  # the others must be closed all the same
            logger.warning("a SQLite connection did not close before a fork", exc_info=True)


def _in_child() -> None:
    global _lock  # noqa: PLW0603  # another thread may have held it
    _lock = threading.Lock()
    at_work.renew()


os.register_at_fork(before=_before, after_in_parent=at_work.open, after_in_child=_in_child)
