"""A server that was never reached: said at once, and ended soon; one that was, is waited for."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator

import pytest

from classifaily_connectors import ClassifailyClient, NotSentError, RetryPolicy
from classifaily_connectors.bulk import contact


@pytest.fixture
def silent() -> Iterator[str]:
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://someone:hidden-word@127.0.0.1:{taken.getsockname()[1]}/v1"


def test_it_is_said_at_once_and_ends_soon(
    silent: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(contact, "FIRST_CONTACT", 1.0)
    address = silent.replace("someone:hidden-word@", "")
    began = time.monotonic()
    with (
        caplog.at_level(logging.WARNING),
        ClassifailyClient("cai_live_x", base_url=address, retry=RetryPolicy(base=0.05, cap=0.1)) as client,
        pytest.raises(NotSentError, match="could not connect"),
    ):
        list(client.classify_many([f"row {n}" for n in range(3000)], categories=["a", "b"], ledger=False))
    assert time.monotonic() - began < 60, "not the 120 s of an outage"
    (said,) = [each for each in caplog.records if "cannot reach" in each.message]
    assert "127.0.0.1" in said.message
    assert "cai_live_x" not in caplog.text
