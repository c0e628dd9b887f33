"""One OpenTelemetry span for each operation, when OpenTelemetry is installed.

The law of this file: a span says what was called, where, and how it ended; never an input, a label or a key.
"""

from __future__ import annotations

import functools
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from classifaily_connectors._version import __version__

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


@functools.cache
def _tracer() -> Tracer | None:
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.get_tracer("classifaily_connectors", __version__)


def span(operation: str, base_url: str) -> AbstractContextManager[None]:
    """A client span named `classifaily.<operation>` around the block; nothing without OpenTelemetry."""
    tracer = _tracer()
    return nullcontext() if tracer is None else _span(tracer, operation, base_url)


@contextmanager
def _span(tracer: Tracer, operation: str, base_url: str) -> Generator[None]:
    from opentelemetry.trace import SpanKind, StatusCode

    attributes = {"classifaily.operation": operation, "server.address": urlsplit(base_url).hostname or ""}
    with tracer.start_as_current_span(
        f"classifaily.{operation}",
        kind=SpanKind.CLIENT,
        attributes=attributes,
        record_exception=False,
        set_status_on_exception=False,
    ) as current:
        try:
            yield
        except BaseException as error:
            current.set_attribute("error.type", type(error).__name__)
            current.set_status(StatusCode.ERROR)
            raise
