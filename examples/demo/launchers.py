"""One platform's launcher as a process of ours: its events come out, and it never outlives us.

The law of this file: a launcher gets SIGTERM and the time to stop what it started; only then its group is killed.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tables import DemoError

SILENCE = 300.0
"""Seconds without an event after which a launcher is taken for stuck."""
GRACE = 30.0
"""Seconds a launcher has to stop its platform."""
TAIL = 60
"""Lines of a failed launcher's complaint that are shown."""


@dataclass(frozen=True)
class Event:
    """One JSON line of a launcher: starting, ready, progress or run_done."""

    event: str
    url: str = ""
    run: int = 1
    done: int = 0
    rows: int = 0
    output: str = ""
    run_url: str = ""

    @classmethod
    def read(cls, line: str) -> Event:
        """The event of a line; fields that are not ours are left out."""
        try:
            data = json.loads(line)
            return cls(**{name: value for name, value in data.items() if name in cls.__dataclass_fields__})
        except (ValueError, TypeError, AttributeError):
            raise DemoError(f"the launcher printed a line that is no event: {line.strip()[:200]!r}") from None


class Launcher:
    """A running launcher; iterate over it for its events until it has ended well."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._lines: queue.Queue[str | None] = queue.Queue()
        with log.open("w") as errors:
            # Own session: Ctrl-C reaches the launcher once, through `stop`, and its group can be killed.
            self._process = subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __iter__(self) -> Iterator[Event]:
        while (line := self._next()) is not None:
            if line.strip():
                yield Event.read(line)
        if code := self._process.wait(GRACE):
            raise DemoError(f"the launcher failed with exit code {code}:\n{self._complaint()}")

    def stop(self) -> None:
        """End the launcher, and whatever it left in its process group."""
        self._process.terminate()
        try:
            self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._reader.join(1.0)

    def _read(self) -> None:
        if self._process.stdout:
            with self._process.stdout as lines:
                for line in lines:
                    self._lines.put(line)
        self._lines.put(None)

    def _next(self) -> str | None:
        try:
            return self._lines.get(timeout=SILENCE)
        except queue.Empty:
            raise DemoError(f"the launcher said nothing for {SILENCE:.0f} s:\n{self._complaint()}") from None

    def _complaint(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-TAIL:]) or f"it left no word in {self._log}"


@contextmanager
def launcher(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Generator[Launcher]:
    """A launcher, stopped at the end whatever happens."""
    try:
        started = Launcher(command, environment, log)
    except OSError as error:
        raise DemoError(f"cannot start {command[0]}: {error.strerror} (has `make envs` been run?)") from None
    try:
        yield started
    finally:
        started.stop()
