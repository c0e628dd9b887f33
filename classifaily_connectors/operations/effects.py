"""The words in which an operation speaks to the world.

The law of this file: an operation is a generator that yields `Send` or `Sleep` and is sent what came of it. It opens
no socket and reads no clock, so the sync client, the async client and a test can drive the same code.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Send:
    """One HTTP request. `path` is relative to the base URL, `timeout` the seconds one attempt may wait for the answer.

    `once` marks a request that must not be executed twice: it is billed, or it creates something.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    params: Mapping[str, str] | None = None
    body: bytes | None = field(default=None, repr=False)
    timeout: float = 30.0
    once: bool = False


@dataclass(frozen=True, slots=True)
class Sleep:
    """Wait this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete answer; `elapsed` is the seconds the exchange took, header names are read case-blind."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    elapsed: float = 0.0


@dataclass(frozen=True, slots=True)
class Lost:
    """No complete answer: `not_sent` when surely nothing was executed, else `unknown`. `reason` is free of secrets."""

    outcome: Literal["not_sent", "unknown"]
    reason: str
    elapsed: float = 0.0
    proxy: str | None = None
    """The proxy that did not let the request through, without its password."""


Answer = Reply | Lost
Operation = Generator[Send | Sleep, Answer | None, T]


def name_of(operation: Operation[T]) -> str:
    """The operation's own name, e.g. `classify`: what spans are called by."""
    return getattr(operation, "__name__", "operation")


class Stopwatch:
    """Adds up the seconds an operation has spent, as told by the answers and the sleeps."""

    __slots__ = ("seconds",)

    def __init__(self) -> None:
        self.seconds = 0.0

    def timing(self, operation: Operation[T]) -> Operation[T]:
        """`operation`, unchanged, with its time counted here."""
        answer: Answer | None = None
        while True:
            try:
                step = operation.send(answer)
            except StopIteration as done:
                result: T = done.value
                return result
            answer = yield step
            self.seconds += step.seconds if isinstance(step, Sleep) else answer.elapsed if answer else 0.0
