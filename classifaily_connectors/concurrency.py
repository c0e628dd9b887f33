"""What a caller's way of doing several things at once must offer us: an event loop of asyncio, or threads."""

from __future__ import annotations

import asyncio
import sys

from classifaily_connectors.errors import ConfigurationError


def check_loop(what: str) -> None:
    """Raise ConfigurationError where no event loop of asyncio runs."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        running = False
    else:
        running = True
    if not running:
        raise ConfigurationError(
            f"{what} needs a running asyncio event loop, and here is none. Under trio use ClassifailyClient in a "
            "thread: trio.to_thread.run_sync"
        )


def check_threads(*, busy: bool) -> None:
    """Raise ConfigurationError where threads are not threads and one of ours is `busy` already.

    gevent and eventlet may put greenlets in their place, all of one thread, and a thread has one event loop at a time.
    """
    culprit = _replaced_by()
    if busy and culprit is not None:
        raise ConfigurationError(
            f"{culprit} has replaced the threads of this process, which then has room for one bulk run at a time, and "
            "another is under way: wait for it, or use real threads or processes (Celery: -P threads or -P prefork)"
        )


def _replaced_by() -> str | None:
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None and gevent.is_module_patched("threading"):
        return "gevent"
    return "eventlet" if eventlet is not None and eventlet.is_monkey_patched("thread") else None
