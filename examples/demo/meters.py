"""The API the platforms talk to, and what it has charged: the local sandbox, or the real one.

The law of this file: the real API is only ever asked for GET /usage here, which is free.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.request import urlopen

from tables import DemoError

from classifaily_connectors import ClassifailyClient, ClassifailyError, Usage

SANDBOX_KEY = "cai_live_" + "d3" * 20


class Meter(Protocol):
    """An API that can be charged."""

    name: str
    environment: dict[str, str]
    """What a platform needs to reach it."""
    exact: bool
    """Whether nobody else can be charged on the same account."""

    def charged(self) -> int:
        """Requests charged so far."""
        ...


@dataclass
class Sandbox:
    """A sandbox process of ours and its bill."""

    base_url: str
    environment: dict[str, str]
    name: str = "the local sandbox (it goes by the words)"
    exact: bool = True

    def charged(self) -> int:
        """Requests on the bill."""
        try:
            with urlopen(f"{self.base_url.removesuffix('/v1')}/__sandbox/bill", timeout=30) as answer:
                return int(json.load(answer)["charged"])
        except OSError as error:
            raise DemoError(f"the sandbox does not answer: {error}") from None


@contextmanager
def sandbox(log: Path) -> Generator[Sandbox]:
    """A sandbox on a free port of 127.0.0.1, stopped at the end."""
    command = [str(Path(sys.executable).parent / "classifaily"), "sandbox"]
    command += ["--port", "0", "--plan", "pro", "--key", SANDBOX_KEY]
    log.parent.mkdir(parents=True, exist_ok=True)
    # Own session: Ctrl-C stops the platforms first, and they may still be asking.
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True) as process,
    ):
        try:
            base_url = _ready(process, log)
            yield Sandbox(base_url, _environment(base_url))
        finally:
            process.terminate()
            process.wait()  # Popen's own wait is cut short by Ctrl-C


def _ready(process: subprocess.Popen[str], log: Path) -> str:
    for line in process.stdout or ():
        match line.split():
            case ["ready", base_url]:
                return base_url
            case _:
                pass
    raise DemoError(f"the sandbox did not start:\n{log.read_text()}")


def _environment(base_url: str) -> dict[str, str]:
    # Nothing of the real account comes along: neither its key, nor its store, which must not learn invented answers.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("CLASSIFAILY_")}
    return {**clean, "CLASSIFAILY_KEY": SANDBOX_KEY, "CLASSIFAILY_BASE_URL": base_url}


class Live:
    """The account of CLASSIFAILY_KEY and its usage."""

    name = "the real API"
    exact = False

    def __init__(self) -> None:
        self.environment = dict(os.environ)
        self.charged()  # a missing or wrong key is found out before anything starts

    def usage(self) -> Usage:
        """What the account's plan allows and what is used."""
        try:
            with ClassifailyClient() as client:
                return client.usage()
        except ClassifailyError as error:
            raise DemoError(f"--live: {error}") from None

    def charged(self) -> int:
        """Requests used this month."""
        return self.usage().usage.requests

    def price(self, requests: int) -> str:
        """What that many requests mean for this account; DemoError when the quota does not hold them."""
        usage = self.usage()
        left = "unlimited" if usage.remaining is None else f"{usage.remaining:,}"
        words = f"{requests:,} requests of the {usage.plan or 'unnamed'} plan's quota ({left} left)"
        if usage.remaining is not None and usage.remaining < requests:
            raise DemoError(f"--live needs up to {words}, reset at {usage.limits.resets_at}: take fewer rows (ROWS=)")
        return words
