"""Spans as a collector receives them: what was called, where, and how it ended; never an input, a label or a key."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

import classifaily_connectors as cc
from classifaily_connectors import telemetry

if TYPE_CHECKING:
    from conftest import Caller, Canned

TEXT = "I was charged twice for my subscription."
GOOD = {"id": "84", "status": "completed", "type": "text", "result": {"label": "billing", "confidence": 0.97}}


def classify(client: Any) -> Any:
    return client.classify(TEXT)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(telemetry, "_tracer", lambda: provider.get_tracer("classifaily_connectors"))
    return exporter


def test_a_span_tells_what_was_called(spans: InMemorySpanExporter, canned: Canned, caller: Caller) -> None:
    canned.say(200, GOOD)
    caller(classify)
    (span,) = spans.get_finished_spans()
    assert span.name == "classifaily.classify"
    assert span.attributes == {"classifaily.operation": "classify", "server.address": "127.0.0.1"}
    assert span.status.status_code is StatusCode.UNSET
    assert not told(spans)


def test_a_span_tells_how_a_call_failed(spans: InMemorySpanExporter, canned: Canned, caller: Caller) -> None:
    canned.say(401, {"error": {"code": "unauthorized", "message": f"Not for {TEXT}"}})
    with pytest.raises(cc.AuthenticationError):
        caller(classify)
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes is not None
    assert span.attributes["error.type"] == "AuthenticationError"
    assert not told(spans)


def told(spans: InMemorySpanExporter) -> set[str]:
    """Which of the secrets a collector would receive."""
    exported = "".join(span.to_json() for span in spans.get_finished_spans())
    return {secret for secret in (TEXT, "billing", "cai_live_") if secret in exported}
