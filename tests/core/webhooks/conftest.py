"""A receiver on a real socket, the store behind it, and a sender."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from classifaily_connectors.store import Inbox
from classifaily_connectors.webhooks import sign
from classifaily_connectors.webhooks.receiver import PATH, Receiver
from classifaily_connectors.webhooks.serving import Serving

SECRET, OTHER = "whsec-of-the-tests", "whsec-of-another-source"
EVENT = (
    b'{"event":"job.completed","id":"84","result":{"label":"invoice","confidence":0.9},'
    b'"timestamp":"2026-11-02T08:15:36Z"}'
)


class Answer:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = response.status, dict(response.getheaders()), response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Station:
    """A receiver on a real socket, and the store behind it."""

    def __init__(self, url: str, serving: Serving, receiver: Receiver) -> None:
        self.url, self.serving, self.receiver = url, serving, receiver
        self.inbox = Inbox(url)

    def ask(self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.serving._port, timeout=60)
        try:
            chunked = isinstance(body, list)
            connection.request(method, path, iter(body) if chunked else body, headers or {}, encode_chunked=chunked)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def deliver(self, body: bytes = EVENT, secret: str = SECRET, path: str = PATH, **headers: str) -> Answer:
        return self.ask("POST", path, body, {"X-ClassifAIly-Signature": sign(body, secret), **headers})

    def counted(self, name: str) -> int:
        text = self.ask("GET", f"{PATH}/-/metrics").body.decode()
        [line] = [each for each in text.splitlines() if each.startswith(f"classifaily_webhook_{name} ")]
        return int(line.split()[-1])


@pytest.fixture
def open_station(tmp_path: Path) -> Iterator[Callable[..., Station]]:
    with ExitStack() as stack:

        def open_station(secrets: Any = None, **options: Any) -> Station:
            url = f"sqlite:///{tmp_path}/inbox.db"
            receiver = Receiver(url, secrets or {"default": SECRET, "staging": OTHER}, **options)
            station = Station(url, stack.enter_context(Serving(receiver)), receiver)
            stack.callback(station.inbox.close)
            return station

        yield open_station


@pytest.fixture
def station(open_station: Callable[..., Station]) -> Station:
    return open_station()
