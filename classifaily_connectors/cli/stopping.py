"""A command that pays is told to stop: by Ctrl-C, by SIGTERM (Kubernetes, systemd, CI), by SIGHUP (a closed terminal).

The law of this file: the first signal stops the buying, and what is under way lands. Only another one, a while later,
gives that up, and the first has said what it costs: programs that stand between often pass one signal on twice.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any, Self

from classifaily_connectors.errors import StoppedError

TOGETHER = 1.0
"""Seconds within which signals are taken for one."""
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
_STREAMS = (1, 2)


class Stopped(KeyboardInterrupt):
    """The command was told to stop; `code` is its exit code."""

    def __init__(self, number: int) -> None:
        self.code = 128 + number
        name = signal.Signals(number).name
        super().__init__("interrupted" if number == signal.SIGINT else f"stopped by {name}")


class Stopping:
    """Watches for the signals while its block runs; raises `Stopped` where one came."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._number: int | None = None
        self._at = 0.0
        self._terminals = [stream for stream in _STREAMS if os.isatty(stream)]

    def __enter__(self) -> Self:
        from classifaily_connectors.bulk.runner import live_runs

        self._live_runs = live_runs
        for number in _SIGNALS:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # nohup wants it ignored
                self._before[number] = signal.signal(number, self._told)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._number is not None and isinstance(error, StoppedError):
            raise Stopped(self._number) from error

    def _told(self, number: int, _frame: FrameType | None) -> None:
        now, runs = time.monotonic(), self._live_runs()
        if self._number is None:
            self._number, self._at = number, now
            if number == getattr(signal, "SIGHUP", None):
                self._leave_terminal()
            if not runs:
                raise Stopped(number)
            under_way = sum(run.under_way for run in runs)
            self._say(
                f"{Stopped(number)}: nothing more is bought. Waiting for {under_way} answers that are under way; once "
                "more ends it at once, and they may be paid without an answer"
            )
            for run in runs:
                run.fail(StoppedError(str(Stopped(number))))
        elif now - self._at > TOGETHER:
            if not runs:
                raise Stopped(self._number)
            under_way = sum(run.under_way for run in runs)
            self._say(f"ended: {under_way} inputs may have been paid without an answer (`classifaily ledger settle`)")
            for run in runs:
                run.abandon()

    def _leave_terminal(self) -> None:
        # It is gone, and whoever writes to it gets an error.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in self._terminals:
            os.dup2(nowhere, stream)
        os.close(nowhere)

    def _say(self, line: str) -> None:
        try:
            os.write(2, f"{line}\n".encode())  # `print` may be what was interrupted
        except OSError:
            self._leave_terminal()
